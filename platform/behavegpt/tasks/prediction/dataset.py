"""The histories of a dataset's users: of each the last 90 events that the splits asked for have, by rising pseudonym.

In: a dataset directory, and which splits. Out: a source of histories. They lie in the user's last window and the one
before, which may belong to an earlier split. Shards are shuffled, so a dataset has no order of users but that of their
pseudonyms. Windows that score no event were never written: where a user's events lack behaviours for so long, the
history ends before them, or begins behind them; the raw log has them all.

Legend: U users, I = NUM_INPUTS positions, L = WINDOW_LENGTH positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from behavegpt.data.manifest import Manifest
from behavegpt.errors import InputError
from behavegpt.schema import FEATURES, NUM_INPUTS, SPLITS
from behavegpt.tasks.prediction.histories import to_table
from behavegpt.tasks.targets import COLUMNS, UserWindows, read_tables

USERS_PER_READ = 1 << 15
"""Of a pass over the shards: some 90 MB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSource:
    """Users and where the last window of each is."""

    directory: Path
    manifest: Manifest
    users: np.ndarray
    """(U,) uint64, rising."""
    split: np.ndarray
    """(U,) uint8 index into SPLITS."""
    number: np.ndarray
    """(U,) uint32 of the window."""

    @property
    def num_users(self) -> int:
        """Return U."""
        return len(self.users)

    @property
    def num_reads(self) -> int:
        """Return the number of passes over the shards."""
        return -(-len(self.users) // USERS_PER_READ)

    def read(self, index: int) -> pa.Table:
        """Return the histories of some users.

        Raises:
            InputError: A shard is damaged; the message names it.
        """
        rows = slice(index * USERS_PER_READ, (index + 1) * USERS_PER_READ)
        split, number = self.split[rows], self.number[rows].astype(np.int64)
        now = UserWindows.empty(self.users[rows], self.manifest)
        for place in np.unique(split).tolist():
            now.fill(self._tables(SPLITS[place]), np.where(split == place, number, -1))
        before = UserWindows.empty(self.users[rows], self.manifest)
        for name in reversed(SPLITS[: int(split.max()) + 1]):
            before.fill(self._tables(name), number - 1, followed_by=now)
        return _join(before, now)

    def _tables(self, split: str):
        return read_tables(self.directory, self.manifest, split, COLUMNS)


def open_dataset(directory: Path, manifest: Manifest, splits: Sequence[str]) -> DatasetSource:
    """Return the source of a dataset's users; a user's last window is in the last of the splits that has one.

    Raises:
        InputError: The splits have no users, or a shard is damaged.
    """
    parts = []
    for place in sorted(map(SPLITS.index, splits)):
        for table in read_tables(directory, manifest, SPLITS[place], ("user", "number")):
            user, number = table["user"].to_numpy(), table["number"].to_numpy()
            parts.append((user, np.full(len(user), place, np.uint8), number))
    if not parts:
        raise InputError(f"{directory}: its {' and '.join(splits)} split has no users")
    user, split, number = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((number, split, user))
    last = order[np.append(user[order][1:] != user[order][:-1], True)]
    return DatasetSource(
        directory=directory, manifest=manifest, users=user[last], split=split[last], number=number[last]
    )


def _join(before: UserWindows, now: UserWindows) -> pa.Table:
    """Return the last events of both; the window before ends with the event that the other one begins with."""
    end = NUM_INPUTS + now.length
    # Without a window before, the history begins where `now` does.
    begin = np.where(before.length > 0, now.length, np.maximum(now.length, NUM_INPUTS))
    source = begin[:, None] + np.arange(NUM_INPUTS)
    inside = source < end[:, None]
    source = np.where(inside, source, 0)
    columns = {}
    for name in FEATURES:
        joined = np.concatenate([before.columns[name][:, :-1], now.columns[name]], axis=1)
        columns[name] = np.where(inside, np.take_along_axis(joined, source, axis=1), 0).astype(joined.dtype)
    return to_table(pa.array(now.user), columns, end - begin)
