"""Does a system that says 70 % come true 70 % of the time? Reliability bins, and the expected calibration error.

In: for each target the probability of the system's prediction, and whether it was right. Out: NUM_BINS bins of equal
width over (0, 1], each closed above (Guo et al. 2017, section 2). Leading axes may hold bootstrap draws.
"""

from dataclasses import dataclass

import numpy as np

NUM_BINS = 15


@dataclass(frozen=True, slots=True)
class Reliability:
    """Sums per bin, each (..., NUM_BINS)."""

    count: np.ndarray
    confidence: np.ndarray
    """Sum of the probabilities."""
    right: np.ndarray
    """Predictions that came true."""

    def error(self) -> np.ndarray:
        """Return (...) the ECE: the mean over targets of |share that came true - mean probability| of their bin."""
        return np.abs(self.right - self.confidence).sum(axis=-1) / self.count.sum(axis=-1)


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """Return the bin of each probability."""
    return np.clip(np.ceil(confidence.astype(np.float64) * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)


def reliability(confidence: np.ndarray, right: np.ndarray) -> Reliability:
    """Return the bins of T predictions."""
    bins = bin_of(confidence)
    weights = (None, confidence.astype(np.float64), right.astype(np.float64))
    return Reliability(*(np.bincount(bins, weights=w, minlength=NUM_BINS).astype(np.float64) for w in weights))
