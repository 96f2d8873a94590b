"""The figures of a run, and what they would be for other users: sums per user, drawn again and again.

In: the outcomes of a run. Out: every metric of METRICS for all users and for NUM_DRAWS samples of users with
replacement (the bootstrap over users: the targets of one user are not independent). Equal seeds draw equal users, so
that two systems can be compared draw by draw.

In a draw, a class without a target (or a prediction) has no recall (or precision) of its own; it keeps that of the
whole sample, or rare classes would pull every draw below the figure whose interval they give.

Legend: U users, V classes, D draws, A sums.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from behavegpt.schema import FIRST_KNOWN_ID
from behavegpt.tasks.metrics import classes
from behavegpt.tasks.metrics.calibration import NUM_BINS, Reliability, bin_of
from behavegpt.tasks.metrics.classes import ClassCounts
from behavegpt.tasks.metrics.ranking import hit_rate, ndcg
from behavegpt.tasks.outcomes import Outcomes

CUTOFFS = (1, 3, 5, 10)
NUM_DRAWS = 1_000
WEIGHTS_PER_CHUNK = 1 << 22
"""Users times draws that are held at once: 34 MB."""
FIRST_BEHAVIOR = FIRST_KNOWN_ID - 1
"""Class of the most frequent behaviour. Class 0 is `other`: its targets count, but no macro mean is over it."""

METRICS = (
    *("prec_m", "rec_m", "prec_w", "rec_w", "prec_w_eq6", "rec_w_eq7"),
    *(f"ndcg@{k}" for k in CUTOFFS),
    *(f"hr@{k}" for k in CUTOFFS),
    *("ece", "nats"),
)
"""Names of the figures, in the order of the tables."""


class UserSums(NamedTuple):
    """What a run's figures are made of, per user."""

    additive: np.ndarray
    """(U, A): targets, nats, NDCG@k and HR@k for each cutoff, and the three sums of each reliability bin."""
    hits: csr_array
    """(U, V)"""
    predicted: csr_array
    actual: csr_array


@dataclass(frozen=True, slots=True)
class Figures:
    """The metrics of one run."""

    point: dict[str, float]
    draws: dict[str, np.ndarray]
    """(D,) each."""


def user_sums(outcomes: Outcomes, users: np.ndarray, num_classes: int) -> UserSums:
    """Return the sums of each of `users`, which are sorted and hold every user of the outcomes."""
    user = np.searchsorted(users, outcomes.user)
    right = outcomes.prediction == outcomes.target
    bins = bin_of(outcomes.confidence)
    sums = [np.ones(len(user)), outcomes.nats.astype(np.float64)]
    sums += [ndcg(outcomes.rank, k) for k in CUTOFFS] + [hit_rate(outcomes.rank, k) for k in CUTOFFS]
    columns = [np.bincount(user, weights=values, minlength=len(users)) for values in sums]
    for values in (np.ones(len(user)), outcomes.confidence.astype(np.float64), right.astype(np.float64)):
        binned = np.bincount(user * NUM_BINS + bins, weights=values, minlength=len(users) * NUM_BINS)
        columns += list(binned.reshape(len(users), NUM_BINS).T)
    shape = (len(users), num_classes)

    def count(rows: np.ndarray, of_class: np.ndarray) -> csr_array:
        return csr_array((np.ones(len(rows)), (rows, of_class)), shape=shape)

    return UserSums(
        additive=np.stack(columns, axis=1),
        hits=count(user[right], outcomes.target[right]),
        predicted=count(user, outcomes.prediction),
        actual=count(user, outcomes.target),
    )


def draw_weights(num_users: int, seed: int) -> Iterator[np.ndarray]:
    """Yield (d, U) float64 how often each user is drawn, NUM_DRAWS rows in all; the same for the same seed."""
    step = max(1, WEIGHTS_PER_CHUNK // num_users)
    rng = np.random.default_rng(seed)
    for first in range(0, NUM_DRAWS, step):
        rows = [rng.integers(0, num_users, num_users) for _ in range(min(step, NUM_DRAWS - first))]
        yield np.stack([np.bincount(row, minlength=num_users) for row in rows]).astype(np.float64)


def figures(runs: Sequence[UserSums], seed: int) -> list[Figures]:
    """Return the figures of runs on the same users, all under the same draws."""
    num_users = len(runs[0].additive)
    whole = [ClassCounts(*(np.asarray(run[i].sum(axis=0)) for i in (1, 2, 3))) for run in runs]
    points = [_evaluate(run, np.ones((1, num_users)), counts) for run, counts in zip(runs, whole, strict=True)]
    parts: list[list[dict[str, np.ndarray]]] = [[] for _ in runs]
    for weights in draw_weights(num_users, seed):
        for part, run, counts in zip(parts, runs, whole, strict=True):
            part.append(_evaluate(run, weights, counts))
    return [
        Figures(
            {name: float(point[name][0]) for name in METRICS},
            {name: np.concatenate([chunk[name] for chunk in part]) for name in METRICS},
        )
        for point, part in zip(points, parts, strict=True)
    ]


def _evaluate(run: UserSums, weights_DU: np.ndarray, whole: ClassCounts) -> dict[str, np.ndarray]:
    """Return (D,) each metric, for users weighted in D ways."""
    sums_DA = weights_DU @ run.additive
    total, nats, *rest = sums_DA[:, : 2 + 2 * len(CUTOFFS)].T
    per_k = {f"ndcg@{k}": rest[i] / total for i, k in enumerate(CUTOFFS)}
    per_k |= {f"hr@{k}": rest[len(CUTOFFS) + i] / total for i, k in enumerate(CUTOFFS)}
    bins = sums_DA[:, 2 + 2 * len(CUTOFFS) :].reshape(len(sums_DA), 3, NUM_BINS)
    counts = ClassCounts(*((matrix.T @ weights_DU.T).T for matrix in run[1:]))
    precision = classes.precision(counts, classes.precision(whole))
    recall = classes.recall(counts, classes.recall(whole))
    return {
        "prec_m": precision[:, FIRST_BEHAVIOR:].mean(axis=1),
        "rec_m": recall[:, FIRST_BEHAVIOR:].mean(axis=1),
        "prec_w": classes.weighted(precision, counts),
        "rec_w": classes.weighted(recall, counts),
        "prec_w_eq6": classes.precision_eq6(counts),
        "rec_w_eq7": classes.recall_eq7(counts),
        **per_k,
        "ece": Reliability(*np.moveaxis(bins, 1, 0)).error(),
        "nats": nats / total,
    }


def check_identities(point: dict[str, float]) -> None:
    """Assert what holds for every system, whatever it predicts.

    The last one: a hit that is gained between rank 4 and 5 adds at most 1 / log2(5) to NDCG.
    """
    at = {name: [point[f"{name}@{k}"] for k in CUTOFFS] for name in ("hr", "ndcg")}
    small = 1e-9
    assert abs(point["rec_w"] - point["hr@1"]) < small, "weighted recall is accuracy, and that is HR@1"
    assert abs(point["ndcg@1"] - point["hr@1"]) < small, "NDCG@1 is HR@1"
    assert all(n <= h + small for n, h in zip(at["ndcg"], at["hr"], strict=True)), "NDCG@k is at most HR@k"
    assert all(values == sorted(values) for values in at.values()), "HR@k and NDCG@k rise with k"
    assert all(0 <= point[name] <= 1 + small for name in METRICS if name != "nats"), "a share lies in 0 .. 1"
    assert point["prec_w_eq6"] <= point["prec_w"] + small, "equation 6 is at most the usual precision"
    assert point["rec_w_eq7"] <= point["rec_w"] + small, "equation 7 is at most the usual recall"
    gained = (point["hr@5"] - point["hr@3"]) / np.log2(5)
    assert point["ndcg@5"] - point["ndcg@3"] <= gained + small, "NDCG@5 - NDCG@3 is at most a hit at rank 4"
