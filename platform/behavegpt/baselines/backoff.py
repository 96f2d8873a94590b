"""Count what follows a context in training, and back off from rare contexts to common ones.

In: for each target a chain of contexts, from coarse to fine, as integer keys. Out: log-probabilities of every class.

    p_0(b) = (c(b) + 1/2) / (n + V/2)                                     Krichevsky & Trofimov 1981
    p_j(b | key) = (c(key, b) + T(key) p_(j-1)(b)) / (c(key) + T(key))    Witten & Bell 1991

T(key) is how many different classes followed the key; a key that training never saw passes p_(j-1) on.

Legend: T targets, V classes, K keys of a level.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array

UNKNOWN = -1
"""Key of a target that has no such context."""
PAIRS_HELD = 1 << 22
"""Distinct (key, class) pairs that wait to be merged: 64 MB."""


@dataclass(slots=True)
class PairCounts:
    """How often each class followed each key; memory grows with the distinct pairs, not with the targets."""

    num_classes: int
    _keys: list[np.ndarray] = field(default_factory=list)
    _counts: list[np.ndarray] = field(default_factory=list)

    def add(self, keys: np.ndarray, targets: np.ndarray) -> None:
        """Count T targets after their keys (UNKNOWN is left out)."""
        known = keys != UNKNOWN
        pairs, counts = np.unique(keys[known] * self.num_classes + targets[known], return_counts=True)
        self._keys.append(pairs)
        self._counts.append(counts)
        if sum(map(len, self._keys)) > PAIRS_HELD:
            self._merge()

    def table(self) -> "Level":
        """Return the counts by key."""
        self._merge()
        keys, row = np.unique(self._keys[0] // self.num_classes, return_inverse=True)
        shape = (len(keys), self.num_classes)
        counts = csr_array((self._counts[0].astype(np.float64), (row, self._keys[0] % self.num_classes)), shape=shape)
        return Level(keys=keys, counts=counts, total=counts.sum(axis=1), distinct=np.diff(counts.indptr))

    def _merge(self) -> None:
        pairs, row = np.unique(np.concatenate([np.zeros(0, np.int64), *self._keys]), return_inverse=True)
        counts = np.bincount(row, weights=np.concatenate([np.zeros(0), *self._counts]), minlength=len(pairs))
        self._keys, self._counts = [pairs], [counts]


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """The counts after one kind of context."""

    keys: np.ndarray
    """(K,) rising."""
    counts: csr_array
    """(K, V)"""
    total: np.ndarray
    """(K,) c(key)."""
    distinct: np.ndarray
    """(K,) T(key)."""

    def refine(self, p_TV: np.ndarray, keys_T: np.ndarray) -> None:
        """Replace p by this level's probabilities where the key is known; in place."""
        if not len(self.keys):
            return
        row = np.minimum(np.searchsorted(self.keys, keys_T), len(self.keys) - 1)
        known = np.flatnonzero(self.keys[row] == keys_T)
        row = row[known]
        total, distinct = self.total[row][:, None], self.distinct[row][:, None]
        p_TV[known] = (self.counts[row].toarray() + distinct * p_TV[known]) / (total + distinct)


def fit_levels(
    batches: Iterable[tuple[list[np.ndarray], np.ndarray]], num_levels: int, num_classes: int
) -> tuple[np.ndarray, list[Level]]:
    """Return (V,) p_0, and the levels from coarse to fine.

    Args:
        batches: The keys of each level and the targets, each (T,) int64.
    """
    pairs = [PairCounts(num_classes) for _ in range(num_levels)]
    counts = np.zeros(num_classes)
    for keys, targets in batches:
        counts += np.bincount(targets, minlength=num_classes)
        for level, of_level in zip(pairs, keys, strict=True):
            level.add(of_level, targets)
    return (counts + 0.5) / (counts.sum() + num_classes / 2), [level.table() for level in pairs]


def back_off(unigram_V: np.ndarray, levels: list[Level], keys: list[np.ndarray], num_targets: int) -> np.ndarray:
    """Return (T, V) log-probabilities."""
    p_TV = np.tile(unigram_V, (num_targets, 1))
    for level, of_level in zip(levels, keys, strict=True):
        level.refine(p_TV, of_level)
    return np.log(p_TV)
