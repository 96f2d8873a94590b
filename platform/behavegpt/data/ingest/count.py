"""Passes 4 and 5: what the splits hold, and then their windows, one clean bucket at a time.

In: a clean bucket and where the splits begin. Out: counts, from which vocabularies and the layout of the shards
follow; and with those, the bucket's windows, sent to the shards.

Legend: R events, U users of the bucket.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from behavegpt.data.ingest.clean import read_clean
from behavegpt.data.ingest.cut import gather_windows, place_windows
from behavegpt.data.ingest.split import Bounds
from behavegpt.data.ingest.values import ValueCounts, count_values
from behavegpt.data.spill import Layout, spill_windows
from behavegpt.schema import OTHER_ID, SPLITS, VOCABULARIES

SLOTS_PER_DAY = 48
FOLDED = "folded"
"""Key of the ids of events that are `other` but for their behaviour; no column has that name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketCounts:
    """What one bucket, or several, hold."""

    values: dict[str, ValueCounts]
    """Of each column that the log has."""
    events: np.ndarray
    """(3,) number of events of each split; so are the others."""
    windows: np.ndarray
    users: np.ndarray
    """Users with at least one window."""
    without_behavior: np.ndarray
    """Windows left out because no target in them has a behaviour."""

    def __add__(self, other: "BucketCounts") -> "BucketCounts":
        """Return the sums; buckets share no user."""
        return BucketCounts(
            values={column: counts + other.values[column] for column, counts in self.values.items()},
            events=self.events + other.events,
            windows=self.windows + other.windows,
            users=self.users + other.users,
            without_behavior=self.without_behavior + other.without_behavior,
        )


def count_bucket(directory: Path, bounds: Bounds, num_values: Mapping[str, int], index: int) -> BucketCounts:
    """Return what clean bucket `index` holds.

    Args:
        num_values: Column -> V, for the columns that the log has.
    """
    users, rows = read_clean(directory, index)
    split = bounds.split_of(rows["seconds"], users["user"], users["num_events"])
    placed, without = place_windows(users["num_events"], split, rows.get("behavior", rows["event"]) >= 0)
    user = np.repeat(np.arange(len(users["user"])), users["num_events"])
    return BucketCounts(
        values={column: count_values(rows[column], size, split, user) for column, size in num_values.items()},
        events=np.bincount(split, minlength=len(SPLITS)),
        windows=np.array([len(part) for part in placed]),
        users=np.array([len(np.unique(part.user)) for part in placed]),
        without_behavior=np.array(without),
    )


def count_folded(directory: Path, bounds: Bounds, event_ids: np.ndarray, num_behaviors: int, index: int) -> ValueCounts:
    """Return the counts, by behaviour, of those events of clean bucket `index` that have no id of their own.

    Args:
        event_ids: (V + 1,) the id of each code.
    """
    users, rows = read_clean(directory, index)
    split = bounds.split_of(rows["seconds"], users["user"], users["num_events"])
    user = np.repeat(np.arange(len(users["user"])), users["num_events"])
    behavior = np.where(event_ids[rows["event"]] == OTHER_ID, rows["behavior"], -1)
    return count_values(behavior, num_behaviors, split, user)


def cut_bucket(
    work: Path, directory: Path, bounds: Bounds, ids: Mapping[str, np.ndarray], layout: Layout, index: int
) -> None:
    """Cut clean bucket `index` and send its windows to their shards.

    Args:
        ids: Column -> (V + 1,) the id of each code, the last that of a missing value; FOLDED -> that of an event
            which has none of its own, by the code of its behaviour.
    """
    users, rows = read_clean(directory, index)
    split = bounds.split_of(rows["seconds"], users["user"], users["num_events"])
    codes = {"behavior": rows["event"], "location": np.full(len(split), -1, np.int32)} | rows
    placed, _ = place_windows(users["num_events"], split, codes["behavior"] >= 0)
    columns = {column: ids[column][codes[column]] for column in VOCABULARIES}
    if FOLDED in ids:
        columns["event"] = np.where(columns["event"] == OTHER_ID, ids[FOLDED][codes["behavior"]], columns["event"])
    columns["weekday"] = (rows["week_slot"] // SLOTS_PER_DAY + 1).astype(np.uint8)
    columns["slot"] = (rows["week_slot"] % SLOTS_PER_DAY + 1).astype(np.uint8)
    columns["timestamp"] = rows["seconds"]
    for name, part in zip(SPLITS, placed, strict=True):
        spill_windows(work, f"{index:06d}", name, gather_windows(columns, users["user"], part), layout)
