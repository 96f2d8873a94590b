"""Next behaviour: any systems on the same targets, with intervals, per class, and the differences between them.

In: a dataset's split, a protocol, and rows, each of one or several runs of one system. Out: a `Comparison`, which
report.py prints and writes. The paper's Table 2 is one such comparison.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from behavegpt.data.manifest import Manifest
from behavegpt.data.vocab import Vocabulary
from behavegpt.tasks.figures import (
    CUTOFFS,
    FIRST_BEHAVIOR,
    METRICS,
    NUM_DRAWS,
    Figures,
    UserSums,
    check_identities,
    figures,
    user_sums,
)
from behavegpt.tasks.metrics.calibration import NUM_BINS
from behavegpt.tasks.metrics.classes import ClassCounts
from behavegpt.tasks.outcomes import score
from behavegpt.tasks.system import System
from behavegpt.tasks.targets import Protocol, Split, TargetBatch

LEVEL = 0.95
"""Of every interval."""
BOOTSTRAP_SEED = 0
"""The same for every comparison, so that the same runs give the same intervals."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    runs: tuple[System, ...]
    """One a seed, fitted; equal but for it."""
    seeds: tuple[int, ...] = ()
    """Of the runs; empty for a rule without one."""
    num_events: int | None = None
    """Training targets of each run; None where that is all of them."""
    is_model: bool = False
    """Whether it is the model that the others are compared with."""
    note: str | None = None
    """What a user of its probabilities should know."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A figure of a row: the mean over its runs."""

    mean: float
    low: float
    high: float
    """The interval over other users and, where there are several runs, other seeds."""
    seed_sd: float | None
    """Standard deviation between the runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowFigures:
    """All figures of a row."""

    row: Row
    estimates: dict[str, Estimate]
    """By METRICS."""
    draws: dict[str, np.ndarray]
    """(NUM_DRAWS,) by METRICS; the d-th draw is of the same users in every row."""
    runs: list[dict[str, float]]
    """The figures of each run."""
    per_user: dict[str, float]
    """Mean over users of the user's own mean, for HR@k and NDCG@k."""
    counts: ClassCounts
    """Summed over the runs, each (V,)."""
    bins: np.ndarray
    """(3, NUM_BINS) count, sum of confidence and right predictions of the reliability bins, summed over the runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What jobs/evaluate.py found."""

    dataset: str
    fingerprint: str
    split: Split
    protocol: Protocol
    num_users: int
    num_targets: int
    num_other: int
    """Targets whose behaviour training does not know."""
    mean_history: float
    """Mean number of events before a target that a system may read."""
    behaviors: Vocabulary
    rows: tuple[RowFigures, ...]

    @property
    def absent(self) -> int:
        """Behaviours that training knows and no target here has: they count 0 in the macro means."""
        return int((self.rows[0].counts.actual[FIRST_BEHAVIOR:] == 0).sum())


def compare(
    rows: Sequence[Row],
    batches: Callable[[], Iterable[TargetBatch]],
    *,
    manifest: Manifest,
    behaviors: Vocabulary,
    split: Split,
    protocol: Protocol,
    progress: Callable[[str], None],
) -> Comparison:
    """Return the comparison of the rows.

    Args:
        batches: Gives the targets; called once a run.
        progress: Told the name of each row before it is scored.
    """
    users, num_targets, num_other, history = _survey(batches())
    num_classes = manifest.vocabulary_sizes["behavior"] - 1
    sums: list[list[UserSums]] = []
    for row in rows:
        progress(row.name)
        sums.append([user_sums(score(run, batches()), users, num_classes) for run in row.runs])
    of_runs = figures([run for runs in sums for run in runs], BOOTSTRAP_SEED)
    for figure in of_runs:
        check_identities(figure.point)
    found, start = [], 0
    for index, (row, runs) in enumerate(zip(rows, sums, strict=True)):
        found.append(
            _row_figures(row, runs, of_runs[start : start + len(runs)], np.random.default_rng([BOOTSTRAP_SEED, index]))
        )
        start += len(runs)
    return Comparison(
        dataset=manifest.name,
        fingerprint=manifest.fingerprint,
        split=split,
        protocol=protocol,
        num_users=len(users),
        num_targets=num_targets,
        num_other=num_other,
        mean_history=history,
        behaviors=behaviors,
        rows=tuple(found),
    )


def difference(model: RowFigures, other: RowFigures, metric: str) -> Estimate:
    """Return the model's figure minus the other's, with the interval of the same users' differences."""
    mean = model.estimates[metric].mean - other.estimates[metric].mean
    return Estimate(mean=mean, seed_sd=None, **_interval(model.draws[metric] - other.draws[metric]))


def _survey(batches: Iterable[TargetBatch]) -> tuple[np.ndarray, int, int, float]:
    """Return the users, the targets, those of class `other`, and the mean history."""
    users, num_targets, num_other, history = [np.zeros(0, np.uint64)], 0, 0, 0
    for batch in batches:
        window, position = batch.places
        users.append(np.unique(batch.user[window]))
        num_targets += len(window)
        num_other += int((batch.targets < FIRST_BEHAVIOR).sum())
        history += int(position.sum()) + len(position)
    return np.unique(np.concatenate(users)), num_targets, num_other, history / max(1, num_targets)


def _row_figures(row: Row, runs: list[UserSums], of_runs: list[Figures], rng: np.random.Generator) -> RowFigures:
    chosen = rng.integers(0, len(runs), (NUM_DRAWS, len(runs)))
    draws, estimates = {}, {}
    for metric in METRICS:
        points = np.array([figure.point[metric] for figure in of_runs])
        per_run = np.stack([figure.draws[metric] for figure in of_runs], axis=1)
        draws[metric] = np.take_along_axis(per_run, chosen, axis=1).mean(axis=1)
        sd = float(points.std(ddof=1)) if len(points) > 1 else None
        estimates[metric] = Estimate(mean=float(points.mean()), seed_sd=sd, **_interval(draws[metric]))
    additive = np.sum([run.additive for run in runs], axis=0)
    per_user = additive[:, 2 : 2 + 2 * len(CUTOFFS)] / additive[:, :1]
    names = [f"{name}@{k}" for name in ("ndcg", "hr") for k in CUTOFFS]
    counts = ClassCounts(*(np.sum([run[i].sum(axis=0) for run in runs], axis=0) for i in (1, 2, 3)))
    return RowFigures(
        row=row,
        estimates=estimates,
        draws=draws,
        runs=[figure.point for figure in of_runs],
        per_user=dict(zip(names, per_user.mean(axis=0).tolist(), strict=True)),
        counts=counts,
        bins=additive[:, 2 + 2 * len(CUTOFFS) :].sum(axis=0).reshape(3, NUM_BINS),
    )


def _interval(draws: np.ndarray) -> dict[str, float]:
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"low": float(low), "high": float(high)}
