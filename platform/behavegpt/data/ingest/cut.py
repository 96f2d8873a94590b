"""Cut the users' histories into windows, and give every event that can be predicted to exactly one split.

In: the clean events of some users, sorted by user and time, and each event's split. Out: the windows of each split.

Each user's history is cut on one grid: windows of at most 91 events that start at its events 0, 90, 180, ..., so that
neighbours share one event and every event but a user's first is a target once. A window that straddles a cutoff serves
both sides: train sees it up to the cutoff, val sees all of it up to the next cutoff but scores only what lies after the
first, and so on for test.

Legend: R events, U users, W windows, L = WINDOW_LENGTH positions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from behavegpt.data.windows import Windows
from behavegpt.schema import FEATURES, NUM_INPUTS, SPLITS, WINDOW_LENGTH


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """Where W windows of one split lie in the events."""

    start: np.ndarray
    """(W,) row of the window's first event."""
    length: np.ndarray
    """(W,) 2 .. 91 events."""
    first_target: np.ndarray
    """(W,) index in the window of the first event that is scored, at least 1."""
    user: np.ndarray
    """(W,) index of the window's user."""
    number: np.ndarray
    """(W,) the window's place in its user's grid."""

    def __len__(self) -> int:
        return len(self.start)

    def take(self, rows: np.ndarray) -> "Placed":
        """Return the windows at `rows`, an index or boolean array over W."""
        return Placed(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def make_grid(num_events: np.ndarray) -> Placed:
    """Return the windows of all users, before the splits part them: starts 90 events apart, the last one shorter.

    Args:
        num_events: (U,) of each user, in the order of the events.
    """
    num_windows = np.maximum(num_events - 1 + NUM_INPUTS - 1, 0) // NUM_INPUTS
    user = np.repeat(np.arange(len(num_events)), num_windows)
    number = np.arange(len(user)) - np.repeat(np.cumsum(num_windows) - num_windows, num_windows)
    offset = number * NUM_INPUTS
    return Placed(
        start=(np.cumsum(num_events) - num_events)[user] + offset,
        length=np.minimum(num_events[user] - offset, WINDOW_LENGTH),
        first_target=np.ones_like(user),
        user=user,
        number=number,
    )


def place_windows(num_events: np.ndarray, split: np.ndarray, known: np.ndarray) -> tuple[list[Placed], list[int]]:
    """Return the windows of each split, and how many were left out because no target in them has a behaviour.

    Args:
        num_events: (U,) of each user, at least 1.
        split: (R,) index into SPLITS of each event; it never falls within a user's history.
        known: (R,) booleans: the event has a behaviour.
    """
    grid = make_grid(num_events)
    first_event = np.cumsum(num_events) - num_events
    num_known = np.concatenate([[0], np.cumsum(known)])
    placed, without, begin = [], [], np.zeros_like(grid.length)
    for index in range(len(SPLITS)):
        before = np.add.reduceat(split <= index, first_event, dtype=np.int64)
        end = np.clip(before[grid.user] - grid.number * NUM_INPUTS, 0, grid.length)
        first_target = np.maximum(begin, 1)
        candidate = end > first_target
        scored = num_known[grid.start + end] > num_known[grid.start + first_target]
        whole = Placed(start=grid.start, length=end, first_target=first_target, user=grid.user, number=grid.number)
        placed.append(whole.take(scored))
        without.append(int(candidate.sum() - scored.sum()))
        begin = end
    return placed, without


def gather_windows(columns: Mapping[str, np.ndarray], users: np.ndarray, placed: Placed) -> Windows:
    """Return the windows that `placed` describes.

    Args:
        columns: (R,) weekday, slot, location, event, behavior and timestamp.
        users: (U,) uint64 pseudonyms.
    """
    position = np.arange(WINDOW_LENGTH)
    padding = position >= placed.length[:, None]
    source = placed.start[:, None] + position
    source[padding] = 0
    arrays = {}
    for name in (*FEATURES, "behavior", "timestamp"):
        arrays[name] = columns[name][source]
        arrays[name][padding] = 0
    return Windows(
        **arrays,
        length=placed.length.astype(np.uint8),
        first_target=placed.first_target.astype(np.uint8),
        user=users[placed.user].astype(np.uint64),
        number=placed.number.astype(np.uint32),
    )
