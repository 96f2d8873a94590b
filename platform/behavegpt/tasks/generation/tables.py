"""What followed what in training: a clock, and the values that went with a value.

In: counts of training pairs. Out: draws. Nothing here knows a user.
Legend: B rows, W = 336 half hours of a week.
"""

from dataclasses import dataclass, field

import numpy as np

from behavegpt.schema import NUM_SLOTS, NUM_WEEKDAYS

SLOTS = NUM_SLOTS - 1
WEEK = (NUM_WEEKDAYS - 1) * SLOTS
"""Half hours of a week."""
PRIOR = 10.0
"""Observations that a coarser clock counts for in a finer one."""

PAIRS_HELD = 1 << 22
"""Pairs that wait to be merged: 64 MB."""


def half_hour(weekday: np.ndarray, slot: np.ndarray) -> np.ndarray:
    """Return the half hour of the week, 0 .. 335, of ids."""
    return (weekday.astype(np.int64) - 1) * SLOTS + slot.astype(np.int64) - 1


def count_steps(now: np.ndarray, following: np.ndarray) -> np.ndarray:
    """Return (W, W) how often an event in half hour i was followed by one d half hours later, modulo a week."""
    steps = (following - now) % WEEK
    return np.bincount(now * WEEK + steps, minlength=WEEK * WEEK).reshape(WEEK, WEEK)


@dataclass(frozen=True, slots=True)
class Clock:
    """When the next event happens, given the weekday and slot of this one."""

    up_to: np.ndarray
    """(W, W) cumulative probability of the steps to the next event."""

    @classmethod
    def fit(cls, steps: np.ndarray) -> "Clock":
        """Return the clock of `count_steps`: weekday and slot, backed off to the slot, backed off to all.

        A half hour with n observations has weight n / (n + PRIOR), the coarser one the rest.
        """
        by_slot = steps.reshape(-1, SLOTS, WEEK).sum(axis=0)
        p = (steps.sum(axis=0) + 1 / WEEK) / (steps.sum() + 1)
        for counts in (by_slot, steps):
            prior = np.tile(p, (len(counts) // len(p), 1)) if p.ndim == 2 else p
            p = (counts + PRIOR * prior) / (counts.sum(axis=1, keepdims=True) + PRIOR)
        return cls(np.cumsum(p, axis=1))

    def advance(self, weekday: np.ndarray, slot: np.ndarray, u_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (B,) weekday and slot ids of the next event."""
        now = half_hour(weekday, slot)
        steps = np.minimum((self.up_to[now] <= u_B[:, None]).sum(axis=1), WEEK - 1)
        following = (now + steps) % WEEK
        return following // SLOTS + 1, following % SLOTS + 1


@dataclass(frozen=True, slots=True)
class Pairs:
    """How often each value went with each given value, over all training events."""

    pair: np.ndarray
    """(P,) given << 32 | value, rising."""
    up_to: np.ndarray
    """(P + 1,) events up to each pair."""

    def seen(self, given: np.ndarray) -> np.ndarray:
        """Return (B,) booleans: did training have the given value?"""
        first, last = self._range(given)
        return last > first

    def draw(self, given: np.ndarray, u_B: np.ndarray) -> np.ndarray:
        """Return (B,) a value each, by its frequency; anything where training did not have the given one."""
        first, last = (self.up_to[edge] for edge in self._range(given))
        at = np.searchsorted(self.up_to, first + (u_B * (last - first)).astype(np.int64), side="right") - 1
        return self.pair[np.minimum(at, len(self.pair) - 1)] & 0xFFFFFFFF

    def share_without_one(self, given: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Return (B,) the share of the value among the given one's events but for the event that is asked about."""
        first, last = (self.up_to[edge] for edge in self._range(given))
        at = np.searchsorted(self.pair, _pair(given, value))
        count = self.up_to[at + 1] - self.up_to[at]
        return (count - 1) / np.maximum(last - first - 1, 1)

    def _range(self, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        given = given.astype(np.int64)
        return np.searchsorted(self.pair, given << 32), np.searchsorted(self.pair, (given + 1) << 32)


@dataclass(slots=True)
class PairCounts:
    """Counts pairs; memory grows with the distinct ones, not with the events."""

    _pairs: list[np.ndarray] = field(default_factory=list)
    _counts: list[np.ndarray] = field(default_factory=list)

    def add(self, given: np.ndarray, value: np.ndarray) -> None:
        """Count (E,) events."""
        pairs, counts = np.unique(_pair(given, value), return_counts=True)
        self._pairs.append(pairs)
        self._counts.append(counts)
        if sum(map(len, self._pairs)) > PAIRS_HELD:
            self._merge()

    def table(self) -> Pairs:
        """Return the frequencies of all that was counted."""
        self._merge()
        return Pairs(self._pairs[0], np.concatenate([np.zeros(1, np.int64), np.cumsum(self._counts[0])]))

    def _merge(self) -> None:
        pairs, row = np.unique(np.concatenate([np.zeros(0, np.int64), *self._pairs]), return_inverse=True)
        counts = np.zeros(len(pairs), np.int64)
        np.add.at(counts, row, np.concatenate([np.zeros(0, np.int64), *self._counts]))
        self._pairs, self._counts = [pairs], [counts]


def _pair(given: np.ndarray, value: np.ndarray) -> np.ndarray:
    return given.astype(np.int64) << 32 | value.astype(np.int64)
