"""The figures of an ablation: of every loss, and its differences to plain cross-entropy with two kinds of interval.

In: what each run did. Out: an `Ablation`. One interval is over seeds: Student's t on the differences of runs that share
initialisation and order of data. The other is over users: the same users drawn again for both losses, models as they
are. A loss helps or hurts only where both intervals lie on one side of 0.

Legend: R runs of a loss (seeds), V classes, D draws of users, P points of the path of corrections.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.stats import t as student

from behavegpt.data.manifest import Manifest
from behavegpt.data.vocab import Vocabulary
from behavegpt.tasks.ablation.runs import ALONG, ERM, PATH, TO_DATA, Measured, Run, measure
from behavegpt.tasks.figures import FIRST_BEHAVIOR, METRICS, Figures, UserSums, check_identities, figures
from behavegpt.tasks.metrics import classes
from behavegpt.tasks.metrics.classes import ClassCounts
from behavegpt.tasks.next_behavior import BOOTSTRAP_SEED, LEVEL
from behavegpt.tasks.targets import Split, TargetBatch

NUM_GROUPS = 10
NUM_RAREST = 5
"""The paper's Fig. 6a looks at five low-proportion behaviours."""
MIN_TARGETS = 20
"""Of a behaviour among the rarest: with fewer, its recall is a coin's."""
SMALLER_IS_BETTER = ("nats", "ece")

Verdict = Literal["helps", "hurts", "undecided"]
Stage = Literal["as_trained", "to_data"]


class Interval(NamedTuple):
    """A mean and where it may lie."""

    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """A loss's figure minus plain cross-entropy's."""

    mean: float
    seeds: Interval | None
    """Over seeds; None where there is one alone."""
    users: Interval
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class StageFigures:
    """The figures of a loss before or after correction."""

    runs: dict[str, np.ndarray]
    """(R,) by METRICS."""
    draws: dict[str, np.ndarray]
    """(D,) by METRICS, the mean over the runs; the d-th draw is of the same users for every loss."""
    recall: np.ndarray
    """(R, V); not a number where a class is no target."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LossFigures:
    """All figures of one loss."""

    name: str
    as_trained: StageFigures
    to_data: StageFigures
    """With the prior corrected to the data's frequencies, the whole way."""
    along: np.ndarray
    """(R, P, len(ALONG))"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ablation:
    """What jobs/ablation.py found."""

    dataset: str
    fingerprint: str
    split: Split
    seeds: tuple[int, ...]
    num_users: int
    num_targets: int
    targets: np.ndarray
    """(V,) of the split."""
    train_targets: np.ndarray
    """(V,)"""
    behaviors: Vocabulary
    losses: tuple[LossFigures, ...]
    """Plain cross-entropy first."""

    @property
    def rarest(self) -> np.ndarray:
        """The classes of the rarest behaviours in training that have at least MIN_TARGETS targets in the split."""
        known = np.flatnonzero(self.targets >= MIN_TARGETS)
        known = known[known >= FIRST_BEHAVIOR]
        return known[np.argsort(-self.train_targets[known], kind="stable")][-NUM_RAREST:]


def ablate(
    runs: Iterable[Run],
    batches: Callable[[], Iterable[TargetBatch]],
    *,
    manifest: Manifest,
    behaviors: Vocabulary,
    counts: np.ndarray,
    split: Split,
    progress: Callable[[str], None],
) -> Ablation:
    """Return the ablation; the runs are read one by one, every loss with the same seeds.

    Args:
        batches: Gives the targets of the split; called once a run and once before.
        counts: (V,) training targets of each class.
        progress: Told the name of each run before it is scored.
    """
    users, targets = _survey(batches(), len(counts))
    measured: dict[str, list[Measured]] = {}
    for run in runs:
        progress(run.system.name)
        measured.setdefault(run.loss, []).append(measure(run, batches(), users, torch.from_numpy(counts)))
    assert ERM in measured, "the others are compared with plain cross-entropy"
    seeds = tuple(one.seed for one in measured[ERM])
    assert all(tuple(one.seed for one in group) == seeds for group in measured.values()), "runs pair by seed"
    every = [sums for group in measured.values() for one in group for sums in (one.as_trained, one.to_data)]
    of_runs = figures(every, BOOTSTRAP_SEED)
    for figure in of_runs:
        check_identities(figure.point)
    rest, of_loss = iter(of_runs), {}
    for name, group in measured.items():
        mine = list(islice(rest, 2 * len(group)))
        of_loss[name] = LossFigures(
            name=name,
            as_trained=_stage(mine[::2], [one.as_trained for one in group]),
            to_data=_stage(mine[1::2], [one.to_data for one in group]),
            along=np.stack([one.along for one in group]),
        )
    return Ablation(
        dataset=manifest.name,
        fingerprint=manifest.fingerprint,
        split=split,
        seeds=seeds,
        num_users=len(users),
        num_targets=int(targets.sum()),
        targets=targets,
        train_targets=counts,
        behaviors=behaviors,
        losses=(of_loss[ERM], *(loss for name, loss in of_loss.items() if name != ERM)),
    )


def _survey(batches: Iterable[TargetBatch], num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the users, rising, and how many targets each class has."""
    users, targets = [np.zeros(0, np.uint64)], np.zeros(num_classes, np.int64)
    for batch in batches:
        users.append(np.unique(batch.user[batch.places[0]]))
        targets += np.bincount(batch.targets, minlength=num_classes)
    return np.unique(np.concatenate(users)), targets


def _stage(of_runs: Sequence[Figures], sums: Sequence[UserSums]) -> StageFigures:
    counts = [
        ClassCounts(*(np.asarray(of.sum(axis=0)) for of in (one.hits, one.predicted, one.actual))) for one in sums
    ]
    return StageFigures(
        runs={name: np.array([figure.point[name] for figure in of_runs]) for name in METRICS},
        draws={name: np.mean([figure.draws[name] for figure in of_runs], axis=0) for name in METRICS},
        recall=np.stack([classes.recall(one, np.nan) for one in counts]),
    )


def over_seeds(values: np.ndarray) -> Interval | None:
    """Return Student's interval of the mean of R values; None for a single one."""
    if len(values) < 2:
        return None
    half = float(student.ppf((1 + LEVEL) / 2, len(values) - 1)) * float(values.std(ddof=1)) / math.sqrt(len(values))
    mean = float(values.mean())
    return Interval(mean, mean - half, mean + half)


def difference(loss: LossFigures, erm: LossFigures, metric: str, stage: Stage = "as_trained") -> Difference:
    """Return the loss's figure minus plain cross-entropy's, both before or both after correction."""
    mine, plain = getattr(loss, stage), getattr(erm, stage)
    gaps = mine.runs[metric] - plain.runs[metric]
    low, high = np.quantile(mine.draws[metric] - plain.draws[metric], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    mean, seeds = float(gaps.mean()), over_seeds(gaps)
    users = Interval(mean, float(low), float(high))
    return Difference(mean, seeds, users, verdict(seeds, users, smaller_is_better=metric in SMALLER_IS_BETTER))


def verdict(seeds: Interval | None, users: Interval, *, smaller_is_better: bool = False) -> Verdict:
    """Return what both intervals say of a difference; one seed alone decides nothing."""
    if seeds is None:
        return "undecided"
    above, below = (all(side) for side in ((seeds.low > 0, users.low > 0), (seeds.high < 0, users.high < 0)))
    if not above and not below:
        return "undecided"
    return "hurts" if above == smaller_is_better else "helps"


def over_the_cheap_rival(loss: LossFigures, erm: LossFigures) -> np.ndarray:
    """Return (R,) macro recall of the loss as trained, minus that of plain cross-entropy at equal weighted recall.

    Plain cross-entropy gets there by prior correction alone, from the data's frequencies past uniform; between points
    of its path by a straight line. Not a number where the loss's weighted recall is beyond the path's.
    """
    macro, weighted = ALONG.index("rec_m"), ALONG.index("rec_w")
    gaps = []
    for mine, plain in zip(loss.along, erm.along, strict=True):
        tail = plain[PATH.index(TO_DATA) :]
        order = np.argsort(tail[:, weighted], kind="stable")
        rival = np.interp(mine[0, weighted], tail[order, weighted], tail[order, macro], left=np.nan, right=np.nan)
        gaps.append(mine[0, macro] - rival)
    return np.array(gaps)


def groups(ablation: Ablation) -> list[np.ndarray]:
    """Return the behaviours' classes from head to tail, in NUM_GROUPS parts of equal number (or one each, if fewer)."""
    known = np.arange(FIRST_BEHAVIOR, FIRST_BEHAVIOR + len(ablation.behaviors.values))
    return [group for group in np.array_split(known, NUM_GROUPS) if len(group)]


def mean_recall(stage: StageFigures, of: np.ndarray) -> np.ndarray:
    """Return (R,) the mean recall of the classes `of` that are targets; not a number where none is."""
    chosen = stage.recall[:, of]
    here = chosen[:, ~np.isnan(chosen[0])]
    return here.mean(axis=1) if here.shape[1] else np.full(len(chosen), np.nan)
