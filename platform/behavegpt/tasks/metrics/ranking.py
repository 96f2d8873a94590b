"""The rank of each target among all classes, and what follows from it: hit rate, NDCG, one prediction.

In: scores (T, V) of one batch. Out: some numbers a target, after which the scores can go.

Ties are counted against the system: a class with the target's own score ranks before the target. A system that gives
every class the same score thus has rank V everywhere, and no library's order of sorting moves a figure. The prediction
follows the same rule, so that accuracy is exactly the hit rate at 1.

Legend: T targets, V classes.
"""

from typing import NamedTuple

import numpy as np


class Ranked(NamedTuple):
    """What is kept of T scored targets."""

    rank: np.ndarray
    """(T,) int32 from 1: the classes that score at least as high as the target, itself included."""
    prediction: np.ndarray
    """(T,) int32: the class of the highest score; where the target shares it, another class that does."""
    confidence: np.ndarray
    """(T,) float32: the probability of the prediction."""
    nats: np.ndarray
    """(T,) float32: -log of the target's probability."""


def rank_targets(scores_TV: np.ndarray, targets_T: np.ndarray) -> Ranked:
    """Return what is kept of each target.

    Args:
        scores_TV: Logits or log-probabilities; their softmax over V is what the system believes.
        targets_T: Classes, 0 .. V - 1.

    Raises:
        ValueError: A score is not a number.
    """
    if np.isnan(scores_TV).any():
        raise ValueError(f"{int(np.isnan(scores_TV).sum())} of {scores_TV.size} scores are not a number")
    rows = np.arange(len(targets_T))
    of_target = scores_TV[rows, targets_T]
    rank = (scores_TV >= of_target[:, None]).sum(axis=1, dtype=np.int32)
    prediction = scores_TV.argmax(axis=1)
    shared = np.flatnonzero((prediction == targets_T) & (rank > 1))
    others = scores_TV[shared]
    others[np.arange(len(shared)), targets_T[shared]] = -np.inf
    prediction[shared] = others.argmax(axis=1)
    highest = scores_TV.max(axis=1)
    total = highest + np.log(np.exp(scores_TV - highest[:, None]).sum(axis=1, dtype=np.float64))
    return Ranked(
        rank=rank,
        prediction=prediction.astype(np.int32),
        confidence=np.exp(highest - total).astype(np.float32),
        nats=(total - of_target).astype(np.float32),
    )


def hit_rate(rank: np.ndarray, k: int) -> np.ndarray:
    """Return (T,) HR@k of each target: 1.0 where its rank is at most k."""
    return (rank <= k).astype(np.float64)


def ndcg(rank: np.ndarray, k: int) -> np.ndarray:
    """Return (T,) NDCG@k of each target: 1 / log2(rank + 1) where its rank is at most k (one relevant class)."""
    return np.where(rank <= k, 1 / np.log2(rank + 1.0), 0.0)
