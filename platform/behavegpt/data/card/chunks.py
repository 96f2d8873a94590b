"""Read a dataset as chunks of windows, and say which of their events a split owns.

In: a dataset directory and its manifest. Out: chunks of some thousand windows, so that memory does not grow with the
data. Consecutive windows of a user share an event and windows that straddle a cutoff lie in two splits, so an event can
appear three times; here each is owned once.

Legend: W windows, L = WINDOW_LENGTH positions.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from behavegpt.data.lanes import DIGITS, read_row_groups
from behavegpt.data.manifest import Manifest
from behavegpt.data.windows import as_matrix, target_mask
from behavegpt.errors import InputError
from behavegpt.schema import PADDING_ID, WINDOW_LENGTH

MATRICES = ("weekday", "slot", "event", "behavior", "timestamp")
SCALARS = ("length", "first_target", "user", "number")
ROW_GROUPS_PER_CHUNK = 8
"""4096 windows, about 375,000 events: arrays of some megabytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """W windows of one split."""

    weekday: np.ndarray
    """(W, L) ids, right padded with 0."""
    slot: np.ndarray
    event: np.ndarray
    behavior: np.ndarray
    timestamp: np.ndarray
    """(W, L) seconds since 1970 UTC."""
    length: np.ndarray
    """(W,)"""
    user: np.ndarray
    """(W,) pseudonyms."""
    owned: np.ndarray
    """(W, L) booleans: the events that count here, and nowhere else in the dataset."""
    scored: np.ndarray
    """(W, L) booleans: the owned events that are targets."""

    def last_behavior(self) -> np.ndarray:
        """Return (W, L) the last behaviour known up to and with each position of the window, 0 where there is none."""
        known = self.behavior != PADDING_ID
        at = np.maximum.accumulate(np.where(known, np.arange(WINDOW_LENGTH), 0), axis=1)
        return np.take_along_axis(self.behavior, at, axis=1)


def read_chunks(directory: Path, manifest: Manifest, split: str) -> Iterator[Chunk]:
    """Yield the windows of a split, shard by shard, with the checksums that the stream compares too.

    Raises:
        InputError: A shard is missing, damaged or another one; the message names it.
    """
    begin = datetime.fromisoformat(manifest.cutoffs[split]).timestamp() if split in manifest.cutoffs else -math.inf
    for shard in manifest.splits[split].shards:
        row_groups = range(len(shard.crc32) // DIGITS - 1)
        for start in range(0, len(row_groups), ROW_GROUPS_PER_CHUNK):
            chosen = row_groups[start : start + ROW_GROUPS_PER_CHUNK]
            try:
                table = read_row_groups(directory / shard.path, shard, chosen, [*MATRICES, *SCALARS])
            except OSError as error:
                raise InputError(str(error)) from error
            yield _to_chunk(table, begin)


def _to_chunk(table: pa.Table, begin: float) -> Chunk:
    """Return the chunk of a split that begins at the instant `begin`.

    Positions from first_target on belong to this split alone, and each is in one window of it. What they leave out is
    the very first event of a history: position 0 of window 0, unless it precedes the split and is only context.
    """
    matrices = {name: as_matrix(table[name]) for name in MATRICES}
    scalars = {name: table[name].to_numpy() for name in SCALARS}
    first_target, number = scalars.pop("first_target"), scalars.pop("number")
    position = np.arange(WINDOW_LENGTH)
    owned = (position >= first_target[:, None]) & (position < scalars["length"][:, None])
    owned[:, 0] = (number == 0) & (first_target == 1) & (matrices["timestamp"][:, 0] >= begin)
    return Chunk(**matrices, **scalars, owned=owned, scored=target_mask(matrices["behavior"], first_target))
