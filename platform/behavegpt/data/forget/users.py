"""Who is to be forgotten: user ids as the raw log has them, and the key file, to the pseudonyms that a dataset holds.

In: ids from the command line or from a file, and the key file of the dataset. Out: pseudonyms, and for each of them the
place where its id was given, by which messages name it: an id itself appears in none.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from behavegpt.data.ingest.pseudonyms import find_key_problems, key_id, pseudonyms, read_key
from behavegpt.data.manifest import Manifest
from behavegpt.errors import InputError


def read_ids(users: Sequence[str], users_file: Path | None) -> dict[str, str]:
    """Return id -> where it was given, each id once.

    Args:
        users_file: One id a line, UTF-8; blank lines do not count.

    Raises:
        InputError: There is no id, one is not UTF-8, or the file cannot be read.
    """
    given = [(f"--user, number {number}", user) for number, user in enumerate(users, start=1)]
    if users_file is not None:
        try:
            lines = [line.removesuffix("\r") for line in users_file.read_bytes().decode("utf-8-sig").split("\n")]
        except OSError as error:
            raise InputError(f"--users-file {users_file}: cannot be read ({error.strerror})") from None
        except UnicodeDecodeError:
            raise InputError(f"--users-file {users_file}: is not UTF-8 text") from None
        given += [(f"--users-file {users_file}, line {number}", line) for number, line in enumerate(lines, start=1)]
    problems = [f"{where}: is not UTF-8 text" for where, user in given if not _is_utf8(user)]
    ids = {user: where for where, user in reversed(given) if user.strip()}
    if not ids and not problems:
        problems = ["no user is given; name users with --user, or in a file with --users-file"]
    if problems:
        raise InputError(*problems)
    return dict(reversed(ids.items()))


def read_pseudonyms(ids: Sequence[str], key_file: Path, directory: Path, manifest: Manifest) -> np.ndarray:
    """Return (F,) uint64 pseudonyms of the ids in the dataset's shards.

    Raises:
        InputError: The key file is not the one that the dataset was made with, or the dataset needs none.
    """
    expected = manifest.source.get("key_id")
    if expected is None:
        raise InputError(f"{directory}: its users are not those of a log (no key_id in its manifest): nobody to forget")
    if not key_file.exists():
        raise InputError(f"--key-file {key_file}: does not exist; it is the file that the ingest made or was given")
    if problems := find_key_problems(key_file, directory):
        raise InputError(*problems)
    key = read_key(key_file)
    if key_id(key) != expected:
        raise InputError(
            f"--key-file {key_file}: is key {key_id(key)}, {directory} was made with key {expected}: "
            "under another key nobody can be found"
        )
    return pseudonyms(key, pa.array(ids, pa.string()))[:, 0]


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
