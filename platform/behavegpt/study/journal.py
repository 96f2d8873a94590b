"""The memory of a study: one immutable file per finished cell, one per failed attempt, and a lease on the directory.

    cells/<cell_id>.json              completed or diverged: final, written once by the worker that finished it
    cells/<cell_id>.failed-<k>.json   the k-th failed attempt; a rerun tries the cell again
    lock                              who works here now

Tune's own state is not used: it loses trials, shows crashed ones as data and cannot extend a grid.
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

import pyarrow as pa

from behavegpt.errors import DirectoryBusyError, InputError
from behavegpt.files import create_file
from behavegpt.schema import RESULT_SCHEMA

HEARTBEAT_S = 5.0
STALE_S = 60.0
"""A lease that was not renewed for so long is taken over, wherever its owner was."""


def read_cells(study_dir: Path) -> list[dict[str, Any]]:
    """Return one row per cell: the final one, or else its latest failed attempt.

    Raises:
        InputError: A cell file is not readable; files are written whole, so somebody edited it.
    """
    final: dict[str, dict[str, Any]] = {}
    failed: dict[str, dict[str, Any]] = {}
    for path in sorted((study_dir / "cells").glob("*.json"), key=lambda p: (len(p.name), p.name)):
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            pa.Table.from_pylist([row], schema=RESULT_SCHEMA)
            (failed if ".failed-" in path.name else final)[row["cell_id"]] = row
        except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise InputError(f"{path}: not a cell file ({error}); delete it to train the cell again") from error
    return list((failed | final).values())


def record_failure(study_dir: Path, row: dict[str, Any]) -> None:
    """Write a failed attempt of a cell beside the attempts before it."""
    attempt = 1
    while not create_file(study_dir / "cells" / f"{row['cell_id']}.failed-{attempt}.json", json.dumps(row, indent=1)):
        attempt += 1


@contextmanager
def lease(study_dir: Path) -> Iterator[None]:
    """Hold the directory for this process; renewed in the background, given back at the end.

    Raises:
        DirectoryBusyError: Another live run holds it; the message names host and process.
    """
    path = study_dir / "lock"
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "started": _process_start(os.getpid())}
    text = json.dumps(owner | {"token": uuid.uuid4().hex})
    while not create_file(path, text):
        with _guard(study_dir):
            if holder := _live_holder(path):
                raise DirectoryBusyError(
                    f"{study_dir}: process {holder['pid']} on {holder['host']} is working here; wait for it or stop it"
                )
    stop = threading.Event()
    thread = threading.Thread(target=_renew, args=(path, text, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        with _guard(study_dir):
            if _holds(path, text):
                path.unlink()


@contextmanager
def _guard(study_dir: Path) -> Iterator[None]:
    """Let one process at a time judge and remove a lock: in between, another could put a fresh one in its place."""
    handle = os.open(study_dir, os.O_RDONLY)
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
        gone = holder["host"] == socket.gethostname() and _process_start(holder["pid"]) != holder["started"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not a lock that this program wrote ({error}); remove it if no run is alive"
        ) from error
    if age <= STALE_S and not gone:
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
