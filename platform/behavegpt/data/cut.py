"""Cut the users' histories into windows, and give every event that can be predicted to exactly one split.

In: clean events, sorted by user and time. Out: the `Windows` of train, val and test.

Each user's history is cut on one grid: windows of at most 91 events that start at its events 0, 90, 180, ..., so that
neighbours share one event and every event but a user's first is a target once. A window that straddles a cutoff serves
both sides: train sees it up to the cutoff, val sees all of it up to the next cutoff but scores only what lies after the
first, and so on for test.

Legend: R events, W windows, L = WINDOW_LENGTH positions.
"""

from dataclasses import dataclass

import numpy as np

from behavegpt.data.windows import Windows
from behavegpt.schema import NUM_INPUTS, SPLITS, WINDOW_LENGTH


@dataclass(frozen=True, kw_only=True, slots=True)
class EventColumns:
    """R events in the form that windows hold: ids, sorted by user and time."""

    weekday: np.ndarray
    slot: np.ndarray
    location: np.ndarray
    event: np.ndarray
    behavior: np.ndarray
    timestamp: np.ndarray
    """(R,) int64 seconds since 1970 UTC."""
    user: np.ndarray
    """(R,) index; users are numbered 0, 1, ... without gaps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Where each of W windows lies in the events, before the splits part them."""

    start: np.ndarray
    """(W,) row of the window's first event."""
    length: np.ndarray
    """(W,) 2 .. 91 events."""


def split_cutoffs(seconds: np.ndarray, shares: tuple[float, float, float]) -> tuple[int, int]:
    """Return the instants at which val and test begin, as seconds since 1970 UTC.

    The shares are shares of the events, not of the calendar: D is counted in events, and a log whose activity grows
    would otherwise get a small training split. Events of one instant all go to the later side: no tie is broken.

    Args:
        seconds: (R,) times of all events, in any order.
        shares: Of train, val and test; they add up to 1.
    """
    ordered = np.sort(seconds)
    val, test = (min(round(len(ordered) * share), len(ordered) - 1) for share in (shares[0], shares[0] + shares[1]))
    return int(ordered[val]), int(ordered[test])


def find_split(seconds: np.ndarray, cutoffs: tuple[int, int]) -> np.ndarray:
    """Return (R,) the index into SPLITS of each event: how many cutoffs it does not precede."""
    return np.searchsorted(np.asarray(cutoffs), seconds, side="right")


def make_grid(user: np.ndarray) -> Grid:
    """Return the windows of all users: starts 90 events apart, the last one shorter.

    Args:
        user: (R,) index of each event's user, ascending.
    """
    num_events = np.bincount(user)
    first_event = np.cumsum(num_events) - num_events
    num_windows = np.maximum(num_events - 1 + NUM_INPUTS - 1, 0) // NUM_INPUTS
    owner = np.repeat(np.arange(len(num_events)), num_windows)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(num_windows) - num_windows, num_windows)
    offset = nth * NUM_INPUTS
    length = np.minimum(num_events[owner] - offset, WINDOW_LENGTH)
    return Grid(start=first_event[owner] + offset, length=length)


def cut_windows(events: EventColumns, cutoffs: tuple[int, int]) -> tuple[dict[str, Windows], dict[str, int]]:
    """Return the windows of each split, and how many were left out because no target in them has a behaviour."""
    grid = make_grid(events.user)
    split = find_split(events.timestamp, cutoffs)
    windows, counts, begin = {}, {}, np.zeros_like(grid.length)
    for index, name in enumerate(SPLITS):
        end = _count_before(split, index + 1, grid)
        candidates = _gather(events, grid, begin, end, index)
        scored = candidates.num_targets() > 0
        windows[name] = candidates.take(scored)
        counts[f"windows_without_behavior_{name}"] = int((~scored).sum())
        begin = end
    return windows, counts


def _count_before(split: np.ndarray, index: int, grid: Grid) -> np.ndarray:
    """Return (W,) how many of each window's events lie in splits before `index`; they are its first ones."""
    before = np.concatenate([[0], np.cumsum(split < index)])
    return before[grid.start + grid.length] - before[grid.start]


def _gather(events: EventColumns, grid: Grid, begin: np.ndarray, end: np.ndarray, split: int) -> Windows:
    """Return the windows whose events begin .. end belong to the split, those without a target left out."""
    first_target = np.maximum(begin, 1)
    rows = np.flatnonzero(end > first_target)
    position = np.arange(WINDOW_LENGTH)
    filled = position < end[rows, None]
    source = np.where(filled, grid.start[rows, None] + position, 0)

    def column(values: np.ndarray) -> np.ndarray:
        return np.where(filled, values[source], 0).astype(values.dtype)

    return Windows(
        weekday=column(events.weekday),
        slot=column(events.slot),
        location=column(events.location),
        event=column(events.event),
        behavior=column(events.behavior),
        timestamp=column(events.timestamp),
        length=end[rows].astype(np.uint8),
        first_target=first_target[rows].astype(np.uint8),
        user=events.user[grid.start[rows]].astype(np.uint32),
        window_id=(rows * len(SPLITS) + split).astype(np.uint64),
    )
