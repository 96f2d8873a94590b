"""The watchdog of a worker: what is slow lives, what hangs is ended and says where."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from behavegpt.train.heartbeat import check_hung

WORKER = """
import sys, time
from pathlib import Path
from behavegpt.train.heartbeat import beat, watched

def step(seconds):
    time.sleep(seconds)
    beat()

with watched(float(sys.argv[1]), Path(sys.argv[2])):
    print("watched", flush=True)
    for seconds in sys.argv[3:]:
        step(float(seconds))
print("done", flush=True)
"""


def start(limit_s: float, reports: Path, *steps: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(limit_s), str(reports), *map(str, steps)]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "watched\n"
    return worker


def test_what_is_slow_lives(tmp_path):
    worker = start(3.0, tmp_path / "hung", *[0.5] * 8)
    assert worker.communicate(timeout=60)[0] == "done\n"
    assert worker.returncode == 0
    check_hung(3.0, tmp_path / "hung")


@pytest.mark.chaos
def test_what_hangs_is_ended_and_the_next_start_says_where(tmp_path):
    began = time.monotonic()
    worker = start(1.0, tmp_path / "hung", 0.1, 600)
    out, err = worker.communicate(timeout=60)
    assert (worker.returncode, out) == (-signal.SIGKILL, "")
    assert time.monotonic() - began < 30
    with pytest.raises(TimeoutError) as caught:
        check_hung(1.0, tmp_path / "hung")
    first, stack = str(caught.value), str(caught.value.__cause__).splitlines()
    # Code that was given on the command line has no lines; a stack of the package names file, line and text.
    assert first.startswith("no step for 1 s: worker-0 hung in step (") and ":7: " in first
    assert any("line 7, in step" in line for line in stack)
    assert "in step" in err


@pytest.mark.chaos
def test_a_process_that_was_stopped_did_not_hang(tmp_path):
    worker = start(1.0, tmp_path / "hung", *[0.2] * 10)
    os.kill(worker.pid, signal.SIGSTOP)
    time.sleep(2.5)
    os.kill(worker.pid, signal.SIGCONT)
    assert worker.communicate(timeout=60)[0] == "done\n"
    assert worker.returncode == 0


def test_every_worker_that_hung_is_named(tmp_path):
    for rank, place in enumerate(("evaluate (train/evaluate.py:61: x = f(x))", "barrier (train/distributed.py:27: )")):
        (tmp_path / f"worker-{rank}").write_text(f"{place}\n  the stack of {rank}\n")
    with pytest.raises(TimeoutError) as caught:
        check_hung(1_800.0, tmp_path)
    assert str(caught.value) == (
        "no step for 1800 s: worker-0 hung in evaluate (train/evaluate.py:61: x = f(x)); "
        "worker-1 hung in barrier (train/distributed.py:27: )"
    )
    assert "the stack of 1" in str(caught.value.__cause__)
