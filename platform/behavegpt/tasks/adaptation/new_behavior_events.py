"""Windows of whole users as one row an event, and back: so that events can be left out and the rest cut anew.

In: the windows of some users in one split. Out: `Events`, each event once, in time order within its chain (windows of a
user that follow each other and share an event); and the windows that ingest would cut from those that are left.

Legend: W windows, L = WINDOW_LENGTH positions, E events.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from behavegpt.data.windows import Windows, target_mask
from behavegpt.schema import FEATURES, NUM_INPUTS, WINDOW_LENGTH

COLUMNS = (*FEATURES, "behavior", "timestamp")
"""What an event has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Events:
    """E events; those of a chain lie one after the other."""

    columns: Mapping[str, np.ndarray]
    """(E,) of each of COLUMNS."""
    scored: np.ndarray
    """(E,) booleans: may it be a target? In a chain, all events from the first such one on."""
    chain: np.ndarray
    """(E,) int64, rising."""
    user: np.ndarray
    """(E,) uint64"""
    number: np.ndarray
    """(E,) of the chain's first window in its user's grid."""

    def __len__(self) -> int:
        return len(self.chain)

    def take(self, rows: np.ndarray) -> "Events":
        """Return the events at `rows`, an index or boolean array over E that keeps their order."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        return Events(
            columns=columns,
            scored=self.scored[rows],
            chain=self.chain[rows],
            user=self.user[rows],
            number=self.number[rows],
        )


def unroll(windows: Windows) -> Events:
    """Return the events of the windows, each once.

    Args:
        windows: All that some users have in a split, in any order. Two of a user are one chain where their numbers
            follow each other, the last event of one is the first of the next, and the next scores all that it adds.
    """
    windows = windows.take(np.lexsort((windows.number, windows.user)))
    joins = np.zeros(len(windows), bool)
    same = (windows.user[1:] == windows.user[:-1]) & (windows.number[1:] == windows.number[:-1].astype(np.int64) + 1)
    shared = [getattr(windows, name)[:-1, -1] == getattr(windows, name)[1:, 0] for name in COLUMNS]
    whole = (windows.length[:-1] == WINDOW_LENGTH) & (windows.first_target[1:] == 1)
    joins[1:] = np.logical_and.reduce([same, whole, *shared])
    position = np.arange(WINDOW_LENGTH)
    present = position < windows.length[:, None]
    present[joins, 0] = False
    row = np.nonzero(present)[0]
    first = np.flatnonzero(~joins)
    chain = np.cumsum(~joins) - 1
    return Events(
        columns={name: getattr(windows, name)[present] for name in COLUMNS},
        scored=(position >= windows.first_target[:, None])[present],
        chain=chain[row],
        user=windows.user[row],
        number=windows.number[first][chain[row]],
    )


def cut(events: Events) -> Windows:
    """Return the windows of the events: up to 91 each, consecutive ones sharing an event; those without a target left
    out. Every event but a chain's first one is a target at most once."""
    chains, start, size = np.unique(events.chain, return_index=True, return_counts=True)
    place = np.arange(len(events)) - np.repeat(start, size)
    num_windows = -(-(size - 1) // NUM_INPUTS)
    base = np.repeat(np.cumsum(num_windows) - num_windows, size)
    total = int(num_windows.sum())
    adds, opens = place > 0, (place % NUM_INPUTS == 0) & (place < np.repeat(size, size) - 1)
    at_add = ((base + (place - 1) // NUM_INPUTS)[adds], ((place - 1) % NUM_INPUTS + 1)[adds])
    at_open = (base + place // NUM_INPUTS)[opens]
    matrices = {}
    for name, values in events.columns.items():
        matrices[name] = np.zeros((total, WINDOW_LENGTH), values.dtype)
        matrices[name][at_add] = values[adds]
        matrices[name][at_open, 0] = values[opens]
    length = np.ones(total, np.uint8)
    np.add.at(length, at_add[0], 1)
    first_target = np.full(total, WINDOW_LENGTH, np.uint8)
    scored = events.scored[adds]
    np.minimum.at(first_target, at_add[0][scored], at_add[1][scored].astype(np.uint8))
    of_chain = np.repeat(np.arange(len(chains)), num_windows)
    within = np.arange(total) - np.repeat(np.cumsum(num_windows) - num_windows, num_windows)
    windows = Windows(
        **matrices,
        length=length,
        first_target=first_target,
        user=events.user[start][of_chain],
        number=(events.number[start][of_chain] + within).astype(np.uint32),
    )
    return windows.take(windows.num_targets() > 0)


def count_classes(windows: Windows, num_classes: int) -> np.ndarray:
    """Return (num_classes,) how many targets each class has; class c is behaviour id c + 1."""
    scored = target_mask(windows.behavior, windows.first_target)
    return np.bincount(windows.behavior[scored].astype(np.int64) - 1, minlength=num_classes)
