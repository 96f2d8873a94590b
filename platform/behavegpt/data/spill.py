"""The global shuffle, out of core: every window goes to the shard that its key names, whoever cut it and in any order.

In: batches of `Windows` of any process, in any order. Out: one file of records per batch in <work>/spill/<split>/,
sorted by shard, with the offsets of the shards beside it; `read_spill` gives a shard's records from all of them.
The key of a window depends on (seed, split, user, number) alone, so the shards do not depend on the input's order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from behavegpt.data.arrays import load_array
from behavegpt.data.windows import Windows
from behavegpt.schema import SPLITS, WINDOWS_PER_SHARD


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Where windows go: known before the first window is cut."""

    seed: int
    num_windows: Mapping[str, int] = field(default_factory=dict)
    """Exact count of each split; a split that is not named is empty."""
    windows_per_shard: int = WINDOWS_PER_SHARD
    """Mean size of a shard; at most 2^23, so that rows fit a window_id."""

    def num_shards(self, split: str) -> int:
        """Return how many shards the split has."""
        return -(-self.num_windows.get(split, 0) // self.windows_per_shard)


def shuffle_keys(seed: int, split: str, user: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Return (W,) uint64, equidistributed: the finaliser of splitmix64 (Steele et al. 2014) over seed, user and number.

    Args:
        user: (W,) unsigned.
        number: (W,) unsigned.
    """
    base = np.random.SeedSequence([seed, SPLITS.index(split)]).generate_state(1, np.uint64)
    mixed = _mix(base ^ user.astype(np.uint64))
    return _mix(mixed + (number.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def spill_windows(work: Path, part: str, split: str, windows: Windows, layout: Layout) -> None:
    """Write the windows where `read_spill` finds them; a part that is written again replaces itself.

    Args:
        work: Scratch folder that all processes share.
        part: Name of this batch, unique within the split and a valid file name.
    """
    num_shards = layout.num_shards(split)
    if not len(windows):
        return
    keys = shuffle_keys(layout.seed, split, windows.user, windows.number)
    shard = (keys >> np.uint64(32)) * np.uint64(num_shards) >> np.uint64(32)
    order = np.argsort(shard, kind="stable")
    columns = {f.name: getattr(windows, f.name) for f in fields(Windows)}
    described = [(name, values.dtype, values.shape[1:]) for name, values in columns.items()]
    records = np.empty(len(windows), np.dtype([("key", np.uint64), *described]))
    records["key"] = keys[order]
    for name, values in columns.items():
        records[name] = values[order]
    folder = work / "spill" / split
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{part}.offsets.npy", np.searchsorted(shard[order], np.arange(num_shards + 1, dtype=np.uint64)))
    np.save(folder / f"{part}.records.npy", records)


def read_spill(work: Path, split: str, shard: int) -> Windows:
    """Return the windows of one shard from every spilled part, in the order of the stream.

    The order is that of (key, user, number), so it does not depend on the parts.

    Raises:
        FileNotFoundError: No part was spilled for the split.
    """
    parts = []
    for path in sorted((work / "spill" / split).glob("*.records.npy")):
        offsets = load_array(path.with_name(path.name.replace(".records.", ".offsets.")))
        # The map is left at once: memory holds a shard, whatever the size of the files.
        parts.append(np.array(load_array(path)[offsets[shard] : offsets[shard + 1]]))
    if not parts:
        raise FileNotFoundError(f"{work / 'spill' / split}: no windows were spilled")
    records = np.concatenate(parts)
    records = records[np.lexsort((records["number"], records["user"], records["key"]))]
    return Windows(**{f.name: np.ascontiguousarray(records[f.name]) for f in fields(Windows)})
