"""Which windows a worker reads, and where they lie: arithmetic on stream positions, as small as the list of shards.

In: a dataset's manifest, ranges of stream positions (shards in manifest order, rows in the order of each shard's
stream) and the worker's rank. Out: a `ReadPlan`, from which any stretch of the run can be read at once. The owner of a
position does not depend on where a range or a step begins, so a worker keeps to its lanes for the whole run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from behavegpt.data.manifest import Manifest, Shard
from behavegpt.schema import SHARD_SHIFT, SPLIT_SHIFT, SPLITS, WINDOWS_PER_BLOCK


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadPlan:
    """The reads of one rank. Each gives what the rank owns of one block of a shard."""

    directory: Path
    split: str
    shards: tuple[Shard, ...]
    ranges: np.ndarray
    """(R, 2) int64 first and last (exclusive) position of each range, in the order of reading."""
    rank: int
    world_size: int
    first_row: np.ndarray
    """(S + 1,) int64 position at which each shard begins."""
    first_block: np.ndarray
    """(S + 1,) int64 blocks before each shard."""
    first_read: np.ndarray
    """(R + 1,) int64 reads before each range."""

    def __len__(self) -> int:
        return int(self.first_read[-1])

    def rows(self, read: int) -> tuple[int, np.ndarray]:
        """Return the shard of one read, and the rows of its stream that the rank owns there, rising."""
        index = int(np.searchsorted(self.first_read, read, side="right")) - 1
        first, last = (int(p) for p in self.ranges[index])
        block = int(self._block_of(first)) + read - int(self.first_read[index])
        shard = int(np.searchsorted(self.first_block, block, side="right")) - 1
        start, end = int(self.first_row[shard]), int(self.first_row[shard + 1])
        begin = start + (block - int(self.first_block[shard])) * WINDOWS_PER_BLOCK
        mine = rank_windows(max(first, begin), min(last, begin + WINDOWS_PER_BLOCK, end), self.rank, self.world_size)
        return shard, mine - start

    def window_ids(self, positions: np.ndarray) -> np.ndarray:
        """Return the ids of the windows at these stream positions."""
        shard = np.searchsorted(self.first_row, positions, side="right") - 1
        ids = (SPLITS.index(self.split) << SPLIT_SHIFT) + (shard << SHARD_SHIFT) + positions - self.first_row[shard]
        return ids.astype(np.uint64)

    def path_of(self, position: int) -> Path:
        """Return the file that holds a stream position."""
        return self.directory / self.shards[int(np.searchsorted(self.first_row, position, side="right")) - 1].path

    def _block_of(self, positions: np.ndarray | int) -> np.ndarray:
        shard = np.searchsorted(self.first_row, positions, side="right") - 1
        return self.first_block[shard] + (positions - self.first_row[shard]) // WINDOWS_PER_BLOCK


def rank_windows(first: int, last: int, rank: int, world_size: int) -> np.ndarray:
    """Return the stream positions in [first, last) that fall to this rank: those that are `rank` modulo world_size."""
    return np.arange(first + (rank - first) % world_size, last, world_size)


def plan_reads(
    directory: Path, manifest: Manifest, split: str, ranges: Sequence[tuple[int, int]], rank: int, world_size: int
) -> ReadPlan:
    """Return the plan that gives the rank's windows of each range of stream positions, one range after the other.

    Ranges may overlap and jump back: a branch and the trunk read the same windows.
    """
    shards = manifest.splits[split].shards
    sizes = np.array([s.num_windows for s in shards], np.int64)
    used = np.array([r for r in ranges if r[0] < r[1]], np.int64).reshape(-1, 2)
    plan = ReadPlan(
        directory=directory,
        split=split,
        shards=shards,
        ranges=used,
        rank=rank,
        world_size=world_size,
        first_row=starts(sizes),
        first_block=starts(-(-sizes // WINDOWS_PER_BLOCK)),
        first_read=np.zeros(1, np.int64),
    )
    num_reads = plan._block_of(used[:, 1] - 1) - plan._block_of(used[:, 0]) + 1
    return replace(plan, first_read=starts(num_reads))


def starts(sizes: np.ndarray) -> np.ndarray:
    """Return (n + 1,) the sums of the sizes before each, and of all."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
