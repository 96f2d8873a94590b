"""Count how often integers occur, over a stream of arrays, in memory that grows with the distinct ones alone.

In: arrays of keys. Out: the distinct keys, rising, and their sums.
"""

import numpy as np

BUFFERED_KEYS = 1 << 22
"""Keys held before they are merged: sorting many at once costs less than sorting often."""


class Tally:
    """Distinct keys and the sum of the weights that came with each."""

    def __init__(self, dtype: type[np.integer]) -> None:
        self._keys = [np.zeros(0, dtype)]
        self._sums = [np.zeros(0, np.int64)]
        self._num_buffered = 0

    def add(self, keys: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Add keys of any order, each with its weight (1 by default)."""
        if weights is None:
            found, sums = np.unique(keys, return_counts=True)
        else:
            found, sums = _sum_by_key(keys, weights)
        self._keys.append(found)
        self._sums.append(sums)
        self._num_buffered += len(found)
        if self._num_buffered > BUFFERED_KEYS:
            self._merge()

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the distinct keys, rising, and the int64 sum of each."""
        self._merge()
        return self._keys[0], self._sums[0]

    def _merge(self) -> None:
        keys, sums = _sum_by_key(np.concatenate(self._keys), np.concatenate(self._sums))
        self._keys, self._sums, self._num_buffered = [keys], [sums], 0


def _sum_by_key(keys: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found, where = np.unique(keys, return_inverse=True)
    # bincount adds weights as float64, which is exact up to 2^53.
    return found, np.bincount(where, weights=weights, minlength=len(found)).astype(np.int64)
