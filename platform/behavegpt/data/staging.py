"""A dataset directory appears at its place complete, or not at all, whatever kills the writer.

In: where the dataset should be. Out: a fresh folder `.{name}.partial/<token>/` beside it, which becomes the dataset in
one rename once it is whole and on the disk; `.{name}.lock` says who writes it. A process that was killed leaves its
folder behind; it may hold values that the dataset would not show, so the next run for the same place removes it first.
"""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from behavegpt.data.manifest import MANIFEST_NAME
from behavegpt.errors import InputError
from behavegpt.files import fsync
from behavegpt.lease import lease

WORK = ".work"
"""Scratch folder in the staging folder; it never becomes part of the dataset."""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
"""The disk's fault or the user's, not the program's."""
MAX_NAME_BYTES = 200
"""Of a dataset's name; file systems allow 255, and the staging folder and the lock append to it."""


@contextmanager
def staged_dataset(out: Path) -> Iterator[Path]:
    """Give a folder that becomes `out` at the end; after an error or Ctrl-C nothing of it is left, new parents neither.

    The folder holds an empty `.work/` for scratch files, which is removed before the dataset appears.

    Raises:
        InputError: Nothing can be written at `out`.
        DirectoryBusyError: Another live process writes this dataset; the message names it and its host.
    """
    _check(out)
    parent = out.absolute().parent
    new_parents = [p for p in out.absolute().parents if not p.exists()]
    partial = parent / f".{out.name}.partial"
    try:
        with lease(out, lock=parent / f".{out.name}.lock"):
            try:
                _remove(partial)
                # A name of its own: what workers of a dead owner still write cannot mix with this dataset.
                staging = partial / uuid.uuid4().hex
                # For its owner alone: scratch files hold values that the dataset will not show.
                partial.mkdir(mode=0o700, parents=True)
                (staging / WORK).mkdir(parents=True)
                yield staging
                _publish(staging, out, new_parents)
            finally:
                _remove(partial)
    except BaseException as error:
        for directory in new_parents:
            with suppress(OSError):  # Not empty: another process writes there.
                directory.rmdir()
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise InputError(f"--out {out}: cannot be written ({os.strerror(error.errno)})") from error
        raise


def find_out_problems(out: Path) -> list[str]:
    """Return why no dataset can be written at `out`; an empty list when one can."""
    if out.exists() or out.is_symlink():
        return [f"--out {out}: exists already; choose another --out or remove it first"]
    if len(os.fsencode(out.name)) > MAX_NAME_BYTES:
        return [f"--out {out}: a name of {len(os.fsencode(out.name))} bytes; allowed are {MAX_NAME_BYTES}"]
    nearest = next(p for p in out.absolute().parents if p.exists())
    if around := next((p for p in out.absolute().parents if (p / MANIFEST_NAME).is_file()), None):
        return [f"--out {out}: lies inside the dataset {around}; choose another --out"]
    if not nearest.is_dir():
        return [f"--out {out}: {nearest} is a file; choose another --out"]
    if not os.access(nearest, os.W_OK | os.X_OK):
        return [f"--out {out}: {nearest} is not writable; choose another --out"]
    return []


def _check(out: Path) -> None:
    if problems := find_out_problems(out):
        raise InputError(*problems)


def _publish(staging: Path, out: Path, new_parents: list[Path]) -> None:
    shutil.rmtree(staging / WORK)
    for path in [*staging.rglob("*"), staging]:
        fsync(path)
    _check(out)
    staging.rename(out)
    for path in [staging.parent, out.absolute().parent, *(p.parent for p in new_parents)]:
        fsync(path)


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)
