"""Run forget on copies of a dataset, each killed at another step, and print what is found after the kill and a rerun.

    python kill_everywhere.py <dataset> <scratch folder> <every> <pseudonym> ...

A step is whatever touches the file system, as Python's audit hooks see it. Everything runs in forks of this process,
which itself starts no thread. Prints one JSON line a kill, the last of them a run that was not killed.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from behavegpt.data.forget import rewrite
from behavegpt.data.forget.leftovers import find_replaced
from behavegpt.data.manifest import read_manifest
from behavegpt.data.verify import verify_dataset
from behavegpt.errors import InputError

STEPS = {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "shutil.rmtree"}


def forget(directory: Path, users: np.ndarray, marks: Path) -> None:
    rewrite.write_card = lambda _: (directory / "card.json").touch()
    where = [f"number {i}" for i in range(len(users))]
    rewrite.forget(directory, users, where, on_commit=lambda now: marks.write_text(now.fingerprint))


def forget_until(limit: int, directory: Path, users: np.ndarray, marks: Path) -> int:
    """Forget, with SIGKILL before the step `limit`; return how many steps there were."""
    steps = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal steps
        if event in STEPS and str(directory.parent) in str(arguments[0]):
            steps += 1
            if steps == limit:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    forget(directory, users, marks)
    return steps


def state(directory: Path) -> dict[str, Any]:
    """Return what the dataset is: its fingerprint if it verifies, else what verify says and what the manifest names."""
    manifest = read_manifest(directory)
    found = {"fingerprint": manifest.fingerprint, "replaced": list(map(str, find_replaced(directory, manifest)))}
    try:
        verify_dataset(directory)
    except InputError as error:
        return found | {"problems": error.problems}
    return found | {"problems": []}


def in_fork(work: Callable[[], Any]) -> Any:
    """Return what `work` returns in a fork of this process; None when it was killed there."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, json.dumps(work()).encode())
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        answer = file.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return json.loads(answer) if code == 0 else None


def try_kill(dataset: Path, run: Path, limit: int, users: np.ndarray) -> dict[str, Any]:
    """Forget in a copy of the dataset, killed at step `limit`, and again if that has left something to do."""
    directory, marks = run / "log", run / "marks"
    shutil.copytree(dataset, directory)
    steps = in_fork(lambda: forget_until(limit, directory, users, marks))
    killed = in_fork(lambda: state(directory))
    if killed["replaced"] or killed["fingerprint"] == read_manifest(dataset).fingerprint:
        in_fork(lambda: forget(directory, users, marks))
    rerun = in_fork(lambda: state(directory))
    files = sorted(p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file())
    marked = marks.exists() and marks.read_text() == rerun["fingerprint"]
    return {"steps": steps, "killed": killed, "rerun": rerun, "marked": marked, "files": files}


def main(dataset: Path, scratch: Path, every: int, users: np.ndarray) -> None:
    limit, steps = 1, None
    while steps is None:
        result = try_kill(dataset, scratch / str(limit), limit, users)
        steps = result["steps"]
        print(json.dumps(result), flush=True)
        limit += every


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), np.array(list(map(int, sys.argv[4:])), np.uint64))
