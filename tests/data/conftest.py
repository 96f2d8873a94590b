"""A way to end a job in the middle of its work."""

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def kill_with() -> Callable[[list[str], Path, str], bytes]:
    """Return what kills an ingest into `out` once its staging folder has a file `left`, and returns what it said."""

    def kill(job: list[str], out: Path, left: str) -> bytes:
        for _ in range(10):
            process, seen = subprocess.Popen(job, stdout=subprocess.PIPE, stderr=subprocess.STDOUT), False
            while process.poll() is None and not seen:
                with contextlib.suppress(FileNotFoundError):  # a folder may go while it is searched
                    seen = any(out.parent.glob(f".{out.name}.partial/*/.work/{left}"))
                time.sleep(0.002)
            process.kill()
            said, _ = process.communicate(timeout=60)
            if process.returncode == -signal.SIGKILL:
                return said
            # On a busy machine a stage can pass between two looks.
            assert process.returncode == 0, said.decode()
            shutil.rmtree(out)
        raise AssertionError(f"{left} was never seen")

    return kill
