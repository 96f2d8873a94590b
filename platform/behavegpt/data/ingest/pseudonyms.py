"""Users become pseudonyms: HMAC-SHA256 of the id under a secret key, which lives in a file outside every dataset.

The first 16 bytes tell users apart; the first 8 are what the shards hold. Who has the key file can compute a user's
pseudonym and so find the user's rows, to forget them; without it, ids cannot be tried one by one.
"""

import hashlib
import os
import secrets
import uuid
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa

from behavegpt.data.manifest import MANIFEST_NAME
from behavegpt.errors import InputError
from behavegpt.files import fsync

KEY_BYTES = 32
_BLOCK_BYTES = 64
"""Of SHA-256; RFC 2104 pads the key to it."""


def find_key_problems(path: Path, out: Path) -> list[str]:
    """Return why the key file cannot serve a dataset at `out`; an empty list when it can, or can be made."""
    if path.absolute().is_relative_to(out.absolute()) or path.resolve().is_relative_to(out.resolve()):
        return [f"--key-file {path}: lies inside the dataset {out}; who gets the dataset must not get the key"]
    if around := next((p for p in path.absolute().parents if (p / MANIFEST_NAME).is_file()), None):
        return [f"--key-file {path}: lies inside the dataset {around}; who gets the dataset must not get the key"]
    if not path.exists():
        nearest = next(p for p in path.absolute().parents if p.exists())
        if not nearest.is_dir():
            return [f"--key-file {path}: {nearest} is a file; choose another --key-file"]
        writable = os.access(nearest, os.W_OK | os.X_OK)
        return [] if writable else [f"--key-file {path}: {nearest} is not writable; choose another --key-file"]
    if not path.is_file():
        return [f"--key-file {path}: is not a file"]
    if path.stat().st_uid != os.geteuid():
        return [
            f"--key-file {path}: belongs to another user (uid {path.stat().st_uid}), who knows it; use one of your own"
        ]
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        return [f"--key-file {path}: others may read it (mode {mode:04o}); allowed is 0600: chmod 600 {path}"]
    try:
        read_key(path)
    except InputError as error:
        return list(error.problems)
    return []


def read_key(path: Path) -> bytes:
    """Return the key in the file at `path`.

    Raises:
        InputError: The file does not hold a key.
    """
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii"))
    except OSError as error:
        raise InputError(f"--key-file {path}: cannot be read ({error.strerror})") from error
    except ValueError:
        key = b""
    if len(key) < KEY_BYTES:
        raise InputError(f"--key-file {path}: not a key; a key is at least {2 * KEY_BYTES} hexadecimal digits")
    return key


def take_key(path: Path) -> bytes:
    """Return the key in the file at `path`, after making it with mode 0600 where it is missing.

    Of several runs that find it missing, one makes it and all take that one. It stays whatever becomes of the run:
    another may have used it meanwhile, and who loses the key of a dataset can never forget a user of it.

    Raises:
        InputError: The file does not hold a key.
    """
    if not path.exists():
        write_key(path, secrets.token_bytes(KEY_BYTES))
    return read_key(path)


def write_key(path: Path, key: bytes) -> None:
    """Write a key file of mode 0600, whole or not at all; a file that is there stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(key.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()
    fsync(path.parent)


def key_id(key: bytes) -> str:
    """Return what tells keys apart and gives none away, for a manifest to say which key it needs."""
    return hashlib.sha256(b"behavegpt user key\0" + key).hexdigest()[:16]


def pseudonyms(key: bytes, users: pa.Array) -> np.ndarray:
    """Return (U, 2) uint64: the first 16 bytes of each user's HMAC-SHA256 (RFC 2104, FIPS 198-1).

    Args:
        users: (U,) ids as text, hashed as UTF-8, none missing.
    """
    # Two plain hashes over ready pads: half the time of hmac.digest.
    padded = (hashlib.sha256(key).digest() if len(key) > _BLOCK_BYTES else key).ljust(_BLOCK_BYTES, b"\0")
    inner = bytes(byte ^ 0x36 for byte in padded)
    outer = bytes(byte ^ 0x5C for byte in padded)
    sha256 = hashlib.sha256
    digests = b"".join(
        sha256(outer + sha256(inner + user).digest()).digest() for user in users.cast(pa.binary()).to_pylist()
    )
    return np.frombuffer(digests, ">u8").reshape(-1, 4)[:, :2].astype(np.uint64)
