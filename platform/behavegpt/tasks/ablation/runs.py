"""One trained model of an ablation, and what it does on a split as its class prior is corrected.

In: a finished cell of a study, and the batches of a split. Out: a `Measured`. The corrections lie on one path, the same
for every loss: from the logits as they were trained to those that are right in the data's frequencies p, and on to
those that are right under p^(1 - balance), which is uniform at 1. A plain model on the second half is
post-hoc logit adjustment (Menon et al., ICLR 2021), the cheapest rival there is: it takes no training at all.

Legend: T targets, V classes, G = V.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from behavegpt.loss.prior import correct_prior, trained_prior
from behavegpt.model.attention import resolve_attention
from behavegpt.model.sizing import count_params
from behavegpt.model.transformer import BehaveGPT
from behavegpt.tasks.figures import FIRST_BEHAVIOR, UserSums, user_sums
from behavegpt.tasks.metrics import classes
from behavegpt.tasks.metrics.classes import count_classes
from behavegpt.tasks.models import ModelSystem, read_weights
from behavegpt.tasks.outcomes import Outcomes, score
from behavegpt.tasks.system import System, Training
from behavegpt.tasks.targets import TargetBatch
from behavegpt.train.checkpoint_manifest import LOOP_NAME
from behavegpt.train.config import TrunkJob
from behavegpt.train.export import read_checked


class Correction(NamedTuple):
    """Which class distribution the predictions are to be right for."""

    strength: float
    """How far from the distribution that training weighed to the wanted one; 0 leaves the logits as they are."""
    balance: float
    """The wanted one is p^(1 - balance): 0 the data's own frequencies, 1 uniform."""


AS_TRAINED, TO_DATA = Correction(0.0, 0.0), Correction(1.0, 0.0)
PATH = (*(Correction(k / 4, 0.0) for k in range(5)), *(Correction(1.0, k / 8) for k in range(1, 11)))
"""From AS_TRAINED over TO_DATA to uniform, and a little beyond."""
ERM = "erm"
"""Plain cross-entropy, which the others are compared with."""
ALONG = ("rec_m", "rec_w", "nats")
"""What is kept of every point of the path."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One trained model."""

    loss: str
    """ERM, or the name of its variant."""
    seed: int
    system: System
    prior: Tensor
    """(G,) class distribution under which it was trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What one run did."""

    loss: str
    seed: int
    as_trained: UserSums
    to_data: UserSums
    along: np.ndarray
    """(len(PATH), len(ALONG))"""


class _Given:
    """Scores that are there already, as a system."""

    trained = True
    num_params = num_params_total = 0

    def __init__(self, name: str, scores: np.ndarray) -> None:
        self.name = name
        self._scores = scores

    def fit(self, training: Training) -> None:
        """Do nothing."""

    def scores(self, batch: TargetBatch) -> np.ndarray:
        return self._scores


def read_run(job: TrunkJob, counts_G: Tensor, device: torch.device) -> Run:
    """Return the finished model of a job's only cell, on its device.

    Args:
        counts_G: Training targets of each class.

    Raises:
        InputError: The checkpoint is missing or damaged.
    """
    [cell] = job.cells
    path = job.checkpoint_dir / job.final_name(cell)
    read_checked(path)
    module = BehaveGPT(job.model, resolve_attention(job.model.attention, device))
    module.load_state_dict(read_weights(path))
    loss = ERM if job.train.loss is None else job.variant
    return Run(
        loss=loss,
        seed=job.train.seed,
        system=ModelSystem(f"{loss}, seed {job.train.seed}", module.to(device), count_params(job.model), device),
        prior=trained_prior(job.train.loss, counts_G, load_file(path / LOOP_NAME)),
    )


def wanted_prior(counts_G: Tensor, balance: float) -> Tensor:
    """Return p^(1 - balance), normalised over the classes that training has (G,); the others stay 0."""
    probs_G = counts_G.double() / counts_G.sum()
    powers_G = torch.where(counts_G > 0, probs_G ** (1 - balance), 0.0)
    return powers_G / powers_G.sum()


def measure(run: Run, batches: Iterable[TargetBatch], users: np.ndarray, counts_G: Tensor) -> Measured:
    """Return what the run does on the batches, scored once.

    Args:
        users: Sorted; every user of the batches.

    Raises:
        ValueError: The run's scores have another shape, or one is not a number.
    """
    wanted = [wanted_prior(counts_G, correction.balance) for correction in PATH]
    parts: list[list[Outcomes]] = [[] for _ in PATH]
    for batch in batches:
        logits_TV = torch.from_numpy(run.system.scores(batch))
        for part, correction, wanted_G in zip(parts, PATH, wanted, strict=True):
            corrected_TV = correct_prior(logits_TV, run.prior, wanted_G, correction.strength)
            part.append(score(_Given(run.system.name, corrected_TV.numpy()), [batch]))
    outcomes = [_joined(part) for part in parts]
    num_classes = len(counts_G)
    ends = [user_sums(outcomes[PATH.index(end)], users, num_classes) for end in (AS_TRAINED, TO_DATA)]
    along = np.array([_point(one, num_classes) for one in outcomes])
    return Measured(loss=run.loss, seed=run.seed, as_trained=ends[0], to_data=ends[1], along=along)


def _joined(parts: Sequence[Outcomes]) -> Outcomes:
    return Outcomes(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in Outcomes.__slots__})


def _point(outcomes: Outcomes, num_classes: int) -> tuple[float, float, float]:
    """Return ALONG of one point of the path."""
    counts = count_classes(outcomes.target, outcomes.prediction, num_classes)
    macro = classes.recall(counts)[FIRST_BEHAVIOR:].mean()
    weighted = (outcomes.target == outcomes.prediction).mean()
    return float(macro), float(weighted), float(outcomes.nats.astype(np.float64).mean())
