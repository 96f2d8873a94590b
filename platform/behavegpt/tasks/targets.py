"""Which targets are scored, with the history that a system may read for each, in batches of windows.

In: a dataset's split and a protocol. Out: `TargetBatch`es, which every system scores and the evaluator compares with
the truth. Two protocols:

* every: each scored target of the split once, as in training: the history is what its window holds before it.
* last: the last target of each user that the split scores, with up to 90 events before it (the paper's input length).
  They lie in its window and the one before, which may belong to an earlier split.

Legend: B windows, I = NUM_INPUTS positions, T targets.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from behavegpt.data.batches import Batch, to_batch
from behavegpt.data.lanes import DIGITS, read_row_groups
from behavegpt.data.manifest import Manifest
from behavegpt.data.windows import as_matrix, target_mask
from behavegpt.errors import InputError
from behavegpt.schema import FEATURES, NUM_INPUTS, SPLITS, STREAM_COLUMNS, WINDOW_LENGTH

Protocol = Literal["every", "last"]
Split = Literal["train", "val", "test"]

COLUMNS = (*STREAM_COLUMNS, "user", "number", "length", "timestamp")
WINDOWS_PER_BATCH = 32
"""Small enough for a transformer's activations to stay in a CPU's cache; of scores, 2,880 rows at most."""
USERS_PER_READ = 1 << 16
"""Of the last protocol: some 150 MB; more users take further passes over the shards."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetBatch:
    """Windows with the targets to score; a system's scores have one row per target, in row-major order of (B, I)."""

    inputs: Batch
    """Inputs and targets. Position i is asked for the behaviour of event i + 1 and may read inputs 0 .. i alone."""
    behavior: np.ndarray
    """(B, I) int64 behaviour ids of the input events; 0 where an event has none."""
    user: np.ndarray
    """(B,) uint64 pseudonyms."""

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Window and position of each target."""
        window, position = np.nonzero(self.inputs.targets >= 0)
        return window, position

    @property
    def targets(self) -> np.ndarray:
        """(T,) classes, behaviour id - 1."""
        return self.inputs.targets[self.places]

    def at_targets(self, values_BI: np.ndarray) -> np.ndarray:
        """Return (T,) what stands at the last event before each target."""
        return values_BI[self.places]


def read_targets(directory: Path, manifest: Manifest, split: Split, protocol: Protocol) -> Iterator[TargetBatch]:
    """Yield the targets of a split.

    Raises:
        InputError: A shard is missing, damaged or another one; the message names it.
    """
    if protocol == "last":
        yield from last_of_each_user(directory, manifest, split)
        return
    for table in read_tables(directory, manifest, split, COLUMNS):
        for start in range(0, table.num_rows, WINDOWS_PER_BATCH):
            part = table.slice(start, WINDOWS_PER_BATCH)
            behavior = as_matrix(part["behavior"])[:, :NUM_INPUTS].astype(np.int64)
            yield TargetBatch(inputs=to_batch(part), behavior=behavior, user=part["user"].to_numpy())


def read_tables(directory: Path, manifest: Manifest, split: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield some columns of a split's windows, one row group at a time."""
    for shard in manifest.splits[split].shards:
        for group in range(len(shard.crc32) // DIGITS - 1):
            try:
                yield read_row_groups(directory / shard.path, shard, [group], columns)
            except OSError as error:
                raise InputError(str(error)) from error


def last_of_each_user(directory: Path, manifest: Manifest, split: str) -> Iterator[TargetBatch]:
    """Yield one window a user, by rising pseudonym: up to 90 events, and the target after them."""
    keys = pa.concat_tables(read_tables(directory, manifest, split, ("user", "number")))
    users, of_window = np.unique(keys["user"].to_numpy(), return_inverse=True)
    numbers = np.zeros(len(users), np.int64)
    # A window without targets is in no split, so the last window holds the last target.
    np.maximum.at(numbers, of_window, keys["number"].to_numpy().astype(np.int64))
    for start in range(0, len(users), USERS_PER_READ):
        chunk = slice(start, start + USERS_PER_READ)
        now = UserWindows.empty(users[chunk], manifest)
        now.fill(read_tables(directory, manifest, split, COLUMNS), numbers[chunk])
        before = UserWindows.empty(users[chunk], manifest)
        for earlier in reversed(SPLITS[: SPLITS.index(split) + 1]):
            before.fill(read_tables(directory, manifest, earlier, COLUMNS), numbers[chunk] - 1, followed_by=now)
        yield from _join(before, now)


@dataclass(frozen=True, kw_only=True, slots=True)
class UserWindows:
    """At most one window of each of U users."""

    user: np.ndarray
    """(U,) rising."""
    columns: dict[str, np.ndarray]
    """(U, L) of FEATURES, behavior and timestamp."""
    first_target: np.ndarray
    """(U,)"""
    length: np.ndarray
    """(U,) 0 where a user has none."""

    @classmethod
    def empty(cls, user: np.ndarray, manifest: Manifest) -> "UserWindows":
        types = {name: np.min_scalar_type(manifest.vocabulary_sizes[name]) for name in (*FEATURES, "behavior")}
        columns = {n: np.zeros((len(user), WINDOW_LENGTH), t) for n, t in (types | {"timestamp": np.int64}).items()}
        return cls(
            user=user, columns=columns, first_target=np.ones(len(user), np.int64), length=np.zeros(len(user), np.int64)
        )

    def fill(self, tables: Iterable[pa.Table], numbers: np.ndarray, followed_by: "UserWindows | None" = None) -> None:
        """Take each user's window of this number that is not filled yet; whole and joining the next one, if given.

        A user's windows in two splits may be of two timelines, as in generated logs: what joins shares one event.
        """
        for table in tables:
            user, number = table["user"].to_numpy(), table["number"].to_numpy().astype(np.int64)
            at = np.minimum(np.searchsorted(self.user, user), len(self.user) - 1)
            wanted = (self.user[at] == user) & (numbers[at] == number) & (self.length[at] == 0)
            rows, at = np.flatnonzero(wanted), at[wanted]
            found = {name: as_matrix(table[name])[rows] for name in self.columns}
            if followed_by is not None:
                shared = [found[name][:, -1] == followed_by.columns[name][at, 0] for name in self.columns]
                joins = np.logical_and.reduce(shared)
                rows, at, found = rows[joins], at[joins], {name: values[joins] for name, values in found.items()}
            for name, values in found.items():
                self.columns[name][at] = values
            self.first_target[at] = table["first_target"].to_numpy()[rows]
            self.length[at] = table["length"].to_numpy()[rows]


def _join(before: UserWindows, now: UserWindows) -> Iterator[TargetBatch]:
    """Yield each user's last target of `now` with the 90 events before it."""
    scored = target_mask(now.columns["behavior"], now.first_target)
    target = WINDOW_LENGTH - 1 - scored[:, ::-1].argmax(axis=1)
    joined = {
        name: np.concatenate([before.columns[name][:, :-1], values], axis=1) for name, values in now.columns.items()
    }
    begin = np.where(before.length > 0, target, NUM_INPUTS)
    source = begin[:, None] + np.arange(NUM_INPUTS)
    inside = source < (NUM_INPUTS + target)[:, None]
    source = np.where(inside, source, 0)
    inputs = {n: np.where(inside, np.take_along_axis(values, source, axis=1), 0) for n, values in joined.items()}
    of_target = now.columns["behavior"][np.arange(len(target)), target].astype(np.int64) - 1
    targets = np.full(inside.shape, -1, np.int64)
    targets[np.arange(len(target)), inside.sum(axis=1) - 1] = of_target
    for start in range(0, len(target), WINDOWS_PER_BATCH):
        rows = slice(start, start + WINDOWS_PER_BATCH)
        features = {name: inputs[name][rows].astype(np.int64) for name in FEATURES}
        batch = Batch(features, targets[rows], np.zeros(len(targets[rows]), np.uint64))
        yield TargetBatch(inputs=batch, behavior=inputs["behavior"][rows].astype(np.int64), user=now.user[rows])
