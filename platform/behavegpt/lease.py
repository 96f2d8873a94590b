"""One live owner per directory: a lock file that names its process and host, renewed while the owner lives.

In: the directory of a study, or of a dataset that is being written. A process that died is found out at once on its
own host, and from elsewhere when its lease was not renewed for a while.
"""

import fcntl
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from behavegpt.errors import DirectoryBusyError, InputError
from behavegpt.files import create_file

HEARTBEAT_S = 5.0
STALE_S = 60.0
"""A lease from another host that was not renewed for so long is taken over."""


@contextmanager
def lease(directory: Path, lock: Path | None = None) -> Iterator[None]:
    """Hold the directory for this process; renewed in the background, given back at the end.

    Args:
        directory: What is held.
        lock: The file that says so, where it cannot lie in `directory` itself.

    Raises:
        DirectoryBusyError: Another live run holds it; the message names host and process.
    """
    path = lock or directory / "lock"
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "started": _process_start(os.getpid())}
    text = json.dumps(owner | {"token": uuid.uuid4().hex})
    while not create_file(path, text):
        with _guard(path):
            if holder := _live_holder(path):
                raise _busy(directory, holder)
    stop = threading.Event()
    thread = threading.Thread(target=_renew, args=(path, text, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        with _guard(path):
            if _holds(path, text):
                path.unlink()


def check_free(directory: Path) -> None:
    """Ask whether the directory is free, without taking it: before anything slow begins.

    Raises:
        DirectoryBusyError: Another live run holds it; the message names host and process.
    """
    path = directory / "lock"
    if path.exists():
        with _guard(path):
            if holder := _live_holder(path):
                raise _busy(directory, holder)


def _busy(directory: Path, holder: dict[str, Any]) -> DirectoryBusyError:
    return DirectoryBusyError(
        f"{directory}: process {holder['pid']} on {holder['host']} is working here; wait for it or stop it"
    )


@contextmanager
def _guard(lock: Path) -> Iterator[None]:
    """Let one process at a time judge and remove a lock: in between, another could put a fresh one in its place."""
    handle = os.open(lock.parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _renew(path: Path, text: str, stop: threading.Event) -> None:
    """Touch the lock until told to stop; a lease that was lost (the machine slept) is left to its new holder."""
    while not stop.wait(HEARTBEAT_S):
        try:
            if not _holds(path, text):
                return
            os.utime(path)
        except OSError as error:
            # A full disk or a stalled mount now says nothing about the next heartbeat.
            print(f"{path}: the lease could not be renewed ({error}); trying again", file=sys.stderr, flush=True)


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except FileNotFoundError:
        return False


def _live_holder(path: Path) -> dict[str, Any] | None:
    """Return who holds the lock; None if nobody does, and then a stale lock has been removed."""
    try:
        age = time.time() - path.stat().st_mtime
        holder = json.loads(path.read_text(encoding="utf-8"))
        here = holder["host"] == socket.gethostname()
        live = _process_start(holder["pid"]) == holder["started"] if here else age <= STALE_S
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not a lock that this program wrote ({error}); remove it if no run is alive"
        ) from error
    if live:
        return holder
    path.unlink()
    return None


def _process_start(pid: int) -> str | None:
    """Return the kernel's start time of a process, which tells a reused pid from the old one; None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
