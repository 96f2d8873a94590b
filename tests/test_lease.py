"""The lease on a study's directory: one holder, named; taken over when it is gone; never by two at once."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from behavegpt import lease as leases
from behavegpt.errors import DirectoryBusyError
from behavegpt.lease import STALE_S, lease

HOLDER = """
import sys, time
from pathlib import Path
from behavegpt.lease import lease

with lease(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""
CONTENDER = """
import os, sys, time
from pathlib import Path
from behavegpt.errors import DirectoryBusyError
from behavegpt.lease import lease

marker = sys.argv[1] + "/inside"
print("ready", flush=True)
for line in sys.stdin:
    study_dir, start = line.split()
    # All contenders begin at the same instant.
    while time.time() < float(start):
        pass
    outcome = "busy"
    try:
        with lease(Path(study_dir)):
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            time.sleep(0.03)
            os.unlink(marker)
            outcome = "held"
    except DirectoryBusyError:
        pass
    except FileExistsError:
        outcome = "two at once"
    print(outcome, flush=True)
"""


def spawn(code: str, directory: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, str(directory)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def put_lock(study_dir: Path, age: float, host: str = "elsewhere", pid: int = 4242, started: str = "1") -> Path:
    """Leave the lock of another holder, last renewed `age` seconds ago."""
    path = study_dir / "lock"
    path.write_text(json.dumps({"host": host, "pid": pid, "started": started}))
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_a_second_holder_is_told_at_once_who_works_here(tmp_path):
    holder = spawn(HOLDER, tmp_path)
    assert hear(holder) == "held"
    begin = time.monotonic()
    with pytest.raises(DirectoryBusyError) as caught, lease(tmp_path):
        pass
    assert time.monotonic() - begin < 1
    for word in (str(tmp_path), f"process {holder.pid} ", socket.gethostname()):
        assert word in str(caught.value)
    tell(holder, "leave")
    assert holder.wait(timeout=30) == 0
    with lease(tmp_path):
        pass


def test_the_holder_itself_cannot_enter_twice(tmp_path):
    with lease(tmp_path):
        with pytest.raises(DirectoryBusyError, match=f"process {os.getpid()} "), lease(tmp_path):
            pass
        assert (tmp_path / "lock").exists()


@pytest.mark.chaos
def test_the_lease_of_a_killed_process_is_taken_over_at_once(tmp_path):
    holder = spawn(HOLDER, tmp_path)
    assert hear(holder) == "held"
    holder.kill()
    # Nobody has waited for it yet: a zombie holds nothing either.
    while Path(f"/proc/{holder.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.001)
    assert (tmp_path / "lock").exists()
    begin = time.monotonic()
    with lease(tmp_path):
        assert time.monotonic() - begin < 1
    assert holder.wait(timeout=30) == -9
    # And once it is gone altogether.
    put_lock(tmp_path, age=0, host=socket.gethostname(), pid=holder.pid, started="1")
    with lease(tmp_path):
        pass


def test_a_reused_process_number_holds_nothing(tmp_path):
    put_lock(tmp_path, age=0, host=socket.gethostname(), pid=os.getppid(), started="1")
    with lease(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


def test_a_holder_elsewhere_is_believed_until_its_lease_is_stale(tmp_path):
    put_lock(tmp_path, age=STALE_S - 5)
    with pytest.raises(DirectoryBusyError, match="process 4242 on elsewhere"), lease(tmp_path):
        pass
    put_lock(tmp_path, age=STALE_S + 1)
    with lease(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


def test_a_live_holder_on_this_host_is_believed_however_long_it_was_stopped(tmp_path):
    holder = spawn(HOLDER, tmp_path)
    assert hear(holder) == "held"
    os.kill(holder.pid, signal.SIGSTOP)
    os.utime(tmp_path / "lock", (0, 0))
    with pytest.raises(DirectoryBusyError, match=f"process {holder.pid} "), lease(tmp_path):
        pass
    os.kill(holder.pid, signal.SIGCONT)
    tell(holder, "leave")
    assert holder.wait(timeout=30) == 0


def test_released_on_exit_and_on_exception_with_nothing_left(tmp_path):
    with lease(tmp_path / "new" / "study"):
        assert (tmp_path / "new" / "study" / "lock").exists()
    assert list((tmp_path / "new" / "study").iterdir()) == []
    for error in (RuntimeError("bug"), KeyboardInterrupt(), SystemExit(1)):
        with pytest.raises(type(error)), lease(tmp_path / "study"):
            raise error
        assert list((tmp_path / "study").iterdir()) == []


def test_a_busy_directory_keeps_its_holders_lock(tmp_path):
    path = put_lock(tmp_path, age=1)
    before = path.read_text(), path.stat().st_mtime_ns
    with pytest.raises(DirectoryBusyError), lease(tmp_path):
        pass
    assert (path.read_text(), path.stat().st_mtime_ns) == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_held_lease_is_renewed(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.01)
    threads = threading.active_count()
    with lease(tmp_path):
        path = tmp_path / "lock"
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.005)
        assert time.time() - path.stat().st_mtime < STALE_S
        with pytest.raises(DirectoryBusyError), lease(tmp_path):
            pass
    assert threading.active_count() == threads


def test_renewal_is_well_within_the_time_after_which_a_lease_is_stale():
    assert 5 * leases.HEARTBEAT_S <= STALE_S


def test_a_holder_that_lost_its_lease_leaves_the_new_holders_alone(tmp_path, monkeypatch):
    """A machine that slept for longer than a lease lives: meanwhile another one took the directory over."""
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.01)
    with lease(tmp_path):
        path = put_lock(tmp_path, age=0, pid=77)
        taken = path.read_text()
        time.sleep(0.1)
        assert path.read_text() == taken, "the old holder renewed its lease over the new holder's"
    assert path.read_text() == taken


def meanwhile(monkeypatch, method: str, before: Callable[[], object], after: Callable[[], object]) -> None:
    """Let `before` and `after` happen around this process's first look at a lock with `method` of Path."""
    real, looks = getattr(Path, method), iter([1])

    def look(path: Path, *args, **kwargs):
        if path.name != "lock" or next(looks, None) is None:
            return real(path, *args, **kwargs)
        before()
        try:
            return real(path, *args, **kwargs)
        finally:
            after()

    monkeypatch.setattr(Path, method, look)


class Rival:
    """Another process that wants the lease."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def come(self) -> None:
        """Start, and go on when the lease is held or refused, or has been out of reach for 2 s."""
        self.process = spawn(HOLDER, self.directory)
        assert self.process.stdout is not None
        select.select([self.process.stdout], [], [], 2)

    def holds(self) -> bool:
        return hear(self.process) == "held"


@pytest.fixture
def rival(tmp_path: Path) -> Iterator[Rival]:
    rival = Rival(tmp_path)
    yield rival
    rival.process.kill()
    rival.process.communicate(timeout=30)


def holders(study_dir: Path, rival: Rival) -> list[str]:
    """Return who holds the lease once this process has asked for it too."""
    try:
        with lease(study_dir):
            return ["this process", "rival"] if rival.holds() else ["this process"]
    except DirectoryBusyError:
        return ["rival"] if rival.holds() else []


def test_of_two_that_find_the_same_stale_lease_one_gets_it(tmp_path, monkeypatch, rival):
    """The slower one must not remove the lock that the faster one has made since."""
    put_lock(tmp_path, age=STALE_S + 100)
    meanwhile(monkeypatch, "read_text", before=lambda: None, after=rival.come)
    assert len(holders(tmp_path, rival)) == 1


def test_of_two_that_come_right_after_the_holder_left_one_gets_the_lease(tmp_path, monkeypatch, rival):
    path = put_lock(tmp_path, age=0)
    meanwhile(monkeypatch, "stat", before=path.unlink, after=rival.come)
    assert len(holders(tmp_path, rival)) == 1


@pytest.mark.chaos
def test_of_many_contenders_for_a_stale_lease_one_wins(tmp_path):
    contenders = [spawn(CONTENDER, tmp_path) for _ in range(4)]
    assert [hear(c) for c in contenders] == ["ready"] * 4
    outcomes = []
    for number in range(12):
        study_dir = tmp_path / str(number)
        study_dir.mkdir()
        put_lock(study_dir, age=STALE_S + 100)
        start = time.time() + 0.005
        for contender in contenders:
            tell(contender, f"{study_dir} {start}")
        outcomes.append([hear(c) for c in contenders])
    for contender in contenders:
        contender.communicate(timeout=30)
    # One after the other is fine, when the first had left before the last came; two at once never is.
    assert [o for o in outcomes if "two at once" in o or "held" not in o] == []
