"""Files that are whole or absent, whatever kills the writer: temp file, fsync, then one atomic step."""

import hashlib
import os
import uuid
from pathlib import Path


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


def replace_file(path: Path, text: str) -> None:
    """Write `text` to `path`, replacing what was there in one step."""
    temporary = _write_temporary(path, text)
    os.replace(temporary, path)
    fsync(path.parent)


def create_file(path: Path, text: str) -> bool:
    """Write `text` to `path` unless it exists; return whether this call created it.

    A link, unlike a rename, cannot replace another writer's file.
    """
    temporary = _write_temporary(path, text)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    fsync(path.parent)
    return True


def _write_temporary(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with temporary.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return temporary
