"""The figures of one new behaviour: its recall and the macro recall of every start, and what pretraining is worth.

In: the systems of each start, one a seed, and the test targets. Out: figures with two intervals, as in the ablation:
over seeds (Student's t) and over users (the same users drawn again for every start).

Legend: R runs of a start (seeds), D draws of users, U users, V classes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from behavegpt.loss.prior import correct_prior
from behavegpt.tasks.ablation.compare import Difference, Interval, over_seeds, verdict
from behavegpt.tasks.adaptation.new_behavior_training import Judged
from behavegpt.tasks.figures import (
    FIRST_BEHAVIOR,
    Figures,
    UserSums,
    check_identities,
    draw_weights,
    figures,
    user_sums,
)
from behavegpt.tasks.metrics import classes
from behavegpt.tasks.next_behavior import BOOTSTRAP_SEED, LEVEL
from behavegpt.tasks.outcomes import score
from behavegpt.tasks.system import System, Training
from behavegpt.tasks.targets import TargetBatch

METRICS = {
    "rec_m": "Rec_m",
    "rec_new": "recall of new",
    "prec_new": "precision of new",
    "rec_known": "Rec_m of known",
    "rec_w": "Rec_w",
    "nats": "nats",
}
"""Rec_m and the recall of the new one are the columns of the paper's Table 3. `Rec_m of known` is the macro recall
of all behaviours but the new one: what it costs them."""


class Balanced:
    """A system whose class prior is corrected to uniform: what its scores hold beyond frequency."""

    trained = True

    def __init__(self, inner: System, counts_V: np.ndarray) -> None:
        """Take a system, and the training targets of each class; a class without any keeps its scores."""
        self.name, self.num_params, self.num_params_total = inner.name, inner.num_params, inner.num_params_total
        self._inner = inner
        self._trained = torch.from_numpy(counts_V / counts_V.sum())
        self._wanted = torch.from_numpy((counts_V > 0) / (counts_V > 0).sum())

    def fit(self, training: Training) -> None:
        """Do nothing: it is trained."""

    def scores(self, batch: TargetBatch) -> np.ndarray:
        return correct_prior(torch.from_numpy(self._inner.scores(batch)), self._trained, self._wanted, 1.0).numpy()


@dataclass(frozen=True, kw_only=True, slots=True)
class StartFigures:
    """The figures of one start."""

    runs: Mapping[str, np.ndarray]
    """(R,) by METRICS."""
    draws: Mapping[str, np.ndarray]
    """(D,) by METRICS, the mean over the runs; the d-th draw is of the same users for every start."""

    def over_users(self, metric: str) -> Interval:
        """Return the mean with its interval over users."""
        return _over_users(float(self.runs[metric].mean()), self.draws[metric])


def measure(
    systems: Mapping[str, Sequence[System]],
    batches: Callable[[], Iterable[TargetBatch]],
    *,
    new: int,
    num_classes: int,
) -> dict[str, StartFigures]:
    """Return the figures of every start.

    Args:
        systems: One a seed, for each start.
        batches: Gives the targets; called once a run and once before.
        new: Class of the new behaviour.
    """
    users = np.unique(np.concatenate([np.unique(batch.user[batch.places[0]]) for batch in batches()]))
    sums = {n: [user_sums(score(run, batches()), users, num_classes) for run in runs] for n, runs in systems.items()}
    of_runs = iter(figures([one for group in sums.values() for one in group], BOOTSTRAP_SEED))
    return {name: _start(group, [next(of_runs) for _ in group], new, num_classes) for name, group in sums.items()}


def judge(system: System, batches: Iterable[TargetBatch], new: int, num_classes: int) -> Judged:
    """Return what a model does on a split, without intervals."""
    outcomes = score(system, batches)
    recall = classes.recall(classes.count_classes(outcomes.target, outcomes.prediction, num_classes))
    nats = float(outcomes.nats.astype(np.float64).mean())
    return Judged(float(recall[FIRST_BEHAVIOR:].mean()), float(recall[new]), nats)


def difference(one: StartFigures, other: StartFigures, metric: str) -> Difference:
    """Return the figure of one start minus the other's; runs pair by seed, draws by their users."""
    gaps = one.runs[metric] - other.runs[metric]
    seeds, users = over_seeds(gaps), _over_users(float(gaps.mean()), one.draws[metric] - other.draws[metric])
    return Difference(float(gaps.mean()), seeds, users, verdict(seeds, users, smaller_is_better=metric == "nats"))


def _start(sums: Sequence[UserSums], of_runs: Sequence[Figures], new: int, num_classes: int) -> StartFigures:
    for figure in of_runs:
        check_identities(figure.point)
    runs: dict[str, list[np.ndarray]] = {metric: [] for metric in METRICS}
    draws: dict[str, list[np.ndarray]] = {metric: [] for metric in METRICS}
    for one, figure in zip(sums, of_runs, strict=True):
        points, drawn = _of_class(one, new)
        points |= {metric: np.array(value) for metric, value in figure.point.items()}
        for given, into in ((points, runs), ({**figure.draws, **drawn}, draws)):
            given["rec_known"] = _without_new(given, num_classes)
            for metric in METRICS:
                into[metric].append(given[metric])
    return StartFigures(
        runs={metric: np.array(values) for metric, values in runs.items()},
        draws={metric: np.mean(values, axis=0) for metric, values in draws.items()},
    )


def _without_new(figures: Mapping[str, np.ndarray], num_classes: int) -> np.ndarray:
    """Return the macro recall of the known behaviours: the macro mean is over all, the new one among them."""
    num_all = num_classes - FIRST_BEHAVIOR
    return (figures["rec_m"] * num_all - figures["rec_new"]) / (num_all - 1)


def _of_class(run: UserSums, new: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return recall and precision of one class, and (D,) those of the draws; a draw without it keeps the whole's."""
    hits, predicted, actual = (matrix[:, [new]].toarray().ravel() for matrix in run[1:])
    whole = {"rec_new": _ratio(hits.sum(), actual.sum(), 0.0), "prec_new": _ratio(hits.sum(), predicted.sum(), 0.0)}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in whole}
    for weights_DU in draw_weights(len(hits), BOOTSTRAP_SEED):
        right = weights_DU @ hits
        parts["rec_new"].append(_ratio(right, weights_DU @ actual, whole["rec_new"]))
        parts["prec_new"].append(_ratio(right, weights_DU @ predicted, whole["prec_new"]))
    return whole, {name: np.concatenate(part) for name, part in parts.items()}


def _ratio(part: np.ndarray, whole: np.ndarray, undefined: np.ndarray | float) -> np.ndarray:
    return np.where(whole == 0, undefined, part / np.where(whole == 0, 1, whole))


def _over_users(mean: float, draws: np.ndarray) -> Interval:
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean, float(low), float(high))
