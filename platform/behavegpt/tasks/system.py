"""What the evaluator asks of a system, be it a model or a rule: fit on the training split, then score batches.

Adding a system to the tables is one file in `baselines` with one class that satisfies `System`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from behavegpt.data.manifest import Manifest
from behavegpt.tasks.targets import TargetBatch, read_targets
from behavegpt.train.config import TrunkJob


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What a system may learn from, and the budget of one that is trained."""

    dataset: Path
    manifest: Manifest
    job: TrunkJob
    """One cell: the model's shape, the recipe, the number of training targets, and the directory for its files."""
    train: Callable[[TrunkJob], None]
    """Trains a job's cell unless it is finished: in this process, or on a cluster."""
    device: torch.device
    """Where a trained model scores."""

    @property
    def num_classes(self) -> int:
        """Classes to score; class c is behaviour id c + 1."""
        return self.manifest.vocabulary_sizes["behavior"] - 1

    def targets(self) -> Iterator[TargetBatch]:
        """Yield every training target once, with its history. May be called again."""
        return read_targets(self.dataset, self.manifest, "train", "every")


class System(Protocol):
    """One run of one system."""

    name: str
    """As --systems names it and the tables show it."""
    trained: bool
    """Whether it has a budget and a seed: it is then run once a seed."""
    num_params: int
    """Learned parameters but for lookup tables and positions, known after `fit`; 0 for a rule that only counts."""
    num_params_total: int
    """All learned parameters."""

    def fit(self, training: Training) -> None:
        """Learn from the training split alone."""
        ...

    def scores(self, batch: TargetBatch) -> np.ndarray:
        """Return (T, V) logits or log-probabilities of the batch's targets, in the order of `TargetBatch.targets`.

        The row of a target must not depend on anything after the event before it, nor on other rows.
        """
        ...
