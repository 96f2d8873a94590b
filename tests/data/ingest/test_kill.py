"""Kill -9 at any moment: never a directory that passes as a dataset but is none, and the next run succeeds."""

import functools
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest

from behavegpt.data.verify import verify_dataset

JOB = Path(__file__).parents[3] / "jobs" / "ingest.py"
NUM_ROWS = 400_000
NUM_KILLS = 10


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    columns = {
        "user": rng.integers(0, 2_000, NUM_ROWS),
        "time": 1_339_437_960 + rng.integers(0, 10**7, NUM_ROWS),
        "event": rng.integers(0, 500, NUM_ROWS),
    }
    pacsv.write_csv(pa.table(columns), tmp_path / "log.csv")
    mapping = ["--user", "user", "--timestamp", "time", "--event", "event", "--memory-gb", "0.01"]
    out = ["--out", str(tmp_path / "sets" / "log"), "--key-file", str(tmp_path / "user.key")]
    return [sys.executable, str(JOB), "--input", str(tmp_path / "log.csv"), *mapping, *out]


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Return when it happened or the process ended."""
    deadline = time.monotonic() + 120
    while not happened() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.chaos
@pytest.mark.slow
def test_killed_ingests_leave_no_dataset_and_the_next_run_succeeds(command: list[str], tmp_path: Path) -> None:
    out = tmp_path / "sets" / "log"
    partial = out.parent / f".{out.name}.partial"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_for(partial.exists, process)
    began = time.monotonic()
    wait_for(out.exists, process)
    work_s = time.monotonic() - began
    assert process.wait(timeout=120) == 0
    expected = verify_dataset(out).fingerprint
    out.rename(tmp_path / "expected")
    draw = random.Random(4)
    killed_at_work = 0
    for _ in range(NUM_KILLS):
        left = set(partial.glob("*"))
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_for(lambda left=left: bool(set(partial.glob("*")) - left), process)
        time.sleep(draw.uniform(0, 1) * work_s)
        process.kill()
        _, said = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGKILL), said
        if out.exists():
            assert verify_dataset(out).fingerprint == expected
            out.rename(tmp_path / f"done-{time.monotonic_ns()}")
        else:
            killed_at_work += partial.exists()
    assert killed_at_work >= 3  # or the kills came too late to say anything
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert verify_dataset(out).fingerprint == expected
    assert not partial.exists()


@pytest.mark.chaos
def test_interrupted_ingest_says_so_and_leaves_nothing(command: list[str], tmp_path: Path) -> None:
    partial = tmp_path / "sets" / ".log.partial"
    # What a shell starts in the background ignores Ctrl-C, and hands that down: to these tests, say.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=heard)
    deadline = time.monotonic() + 60
    while not any(partial.glob("*/.work/scattered/*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, b"interrupted\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "user.key"]
