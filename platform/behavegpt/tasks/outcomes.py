"""What one run of one system did on each target: a few numbers a target, kept batch by batch.

In: a system and the batches of targets. Out: `Outcomes`, 28 bytes a target whatever the number of classes. Scores never
outlive their batch: 14 million targets of 1,000 classes need 0.4 GB here, and would need 56 GB as a matrix.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from behavegpt.tasks.metrics.ranking import rank_targets
from behavegpt.tasks.system import System
from behavegpt.tasks.targets import TargetBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcomes:
    """One run on T targets; see `ranking.Ranked` for the columns."""

    user: np.ndarray
    """(T,) uint64 pseudonyms."""
    target: np.ndarray
    """(T,) int32 classes."""
    prediction: np.ndarray
    rank: np.ndarray
    confidence: np.ndarray
    nats: np.ndarray

    def __len__(self) -> int:
        return len(self.target)


def score(system: System, batches: Iterable[TargetBatch]) -> Outcomes:
    """Return what the system does on every target, in the order of the batches.

    Raises:
        ValueError: The system's scores have another shape, or one is not a number; the message names the system.
    """
    parts: list[Outcomes] = []
    for batch in batches:
        targets, scores = batch.targets, system.scores(batch)
        if scores.ndim != 2 or len(scores) != len(targets) or scores.shape[1] <= targets.max(initial=0):
            raise ValueError(f"{system.name}: scores of shape {scores.shape} for {len(targets)} targets")
        try:
            ranked = rank_targets(scores, targets)
        except ValueError as error:
            raise ValueError(f"{system.name}: {error}") from error
        user = batch.user[batch.places[0]]
        parts.append(Outcomes(user=user, target=targets.astype(np.int32), **ranked._asdict()))
    return Outcomes(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in Outcomes.__slots__})
