"""Files that are whole or absent, whatever kills the writer: temp file, fsync, then one atomic step."""

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = re.compile(r"\..+\.(json|parquet)\.[0-9a-f]{32}")
"""The names under which they are written; a lock has another one, since a rival may be at it."""


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """Flush a file or directory to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(path: Path, content: str | bytes) -> None:
    """Write `content` to `path`, replacing what was there in one step."""
    with _temporary(path, content) as temporary:
        os.replace(temporary, path)
    fsync(path.parent)


def create_file(path: Path, content: str | bytes) -> bool:
    """Write `content` to `path` unless it exists; return whether this call created it.

    A link, unlike a rename, cannot replace another writer's file.
    """
    with _temporary(path, content) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    fsync(path.parent)
    return True


def remove(path: Path) -> None:
    """Remove a directory with all that is in it, or whatever lies in its place; a link's target stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_partial(directory: Path) -> None:
    """Remove what killed writers left of tables and records in `directory`, where nobody may be writing any."""
    for path in directory.glob(".*"):
        if PARTIAL.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextmanager
def _temporary(path: Path, content: str | bytes) -> Iterator[Path]:
    """Yield a file beside `path` that holds `content` on the disk, and remove it if it is still there at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    except OSError as error:
        if error.filename is None:  # of a write or an fsync, which know no name
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
