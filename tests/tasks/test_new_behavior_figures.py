"""The figures of a new behaviour against loops over targets, and the choice of a rate by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from behavegpt.data.batches import Batch
from behavegpt.errors import RefusedError
from behavegpt.schema import FEATURES, NUM_INPUTS
from behavegpt.tasks.adaptation import new_behavior_training
from behavegpt.tasks.adaptation.new_behavior_figures import Balanced, difference, judge, measure
from behavegpt.tasks.adaptation.new_behavior_training import Judged, choose_rate
from behavegpt.tasks.figures import draw_weights
from behavegpt.tasks.targets import TargetBatch

NEW, NUM_CLASSES = 2, 5
"""Class 0 is `other`, so four behaviours."""


def batches() -> list[TargetBatch]:
    """Return 40 targets of each of eight users, in two batches; the new class is a target of only some users."""
    made, rng = [], np.random.default_rng(0)
    for first in (0, 4):
        targets = np.full((4, NUM_INPUTS), -1)
        targets[:, :40] = rng.choice([1, 3, 4], (4, 40))
        targets[1:3, 5:15] = NEW
        inputs = Batch({name: np.zeros_like(targets) for name in FEATURES}, targets, np.zeros(4, np.uint64))
        users = np.arange(first, first + 4).astype(np.uint64)
        made.append(TargetBatch(inputs=inputs, behavior=np.zeros_like(targets), user=users))
    return made


TARGETS = np.concatenate([batch.targets for batch in batches()])
USERS = np.concatenate([batch.user[batch.places[0]] for batch in batches()]).astype(int)


class Scorer:
    """A system that scores every target by noise, and `skill` more at the truth; one row a target, in order."""

    trained = True
    name = "scorer"
    num_params = num_params_total = 0

    def __init__(self, seed: int, skill: float) -> None:
        self.table = np.random.default_rng(seed).normal(size=(len(TARGETS), NUM_CLASSES)).astype(np.float32)
        self.table[np.arange(len(TARGETS)), TARGETS] += skill

    def fit(self, training):
        pass

    def scores(self, batch):
        start = 0 if batch.user[0] == 0 else len(batches()[0].targets)
        return self.table[start : start + len(batch.targets)]


@pytest.fixture(scope="module")
def systems():
    return {"adapted": [Scorer(s, 2.0) for s in (0, 1, 2)], "scratch": [Scorer(s, 0.5) for s in (5, 6, 7)]}


@pytest.fixture(scope="module")
def found(systems):
    return measure(systems, batches, new=NEW, num_classes=NUM_CLASSES)


def recalls(predicted: np.ndarray, weight: np.ndarray) -> dict[int, float]:
    found = {}
    for c in range(1, NUM_CLASSES):
        whole = sum(weight[c == TARGETS])
        found[c] = sum(weight[(c == TARGETS) & (predicted == c)]) / whole if whole else None
    return found


def test_every_figure_is_the_loop_over_targets(systems, found):
    for run, system in enumerate(systems["adapted"]):
        predicted = system.table.argmax(axis=1)
        of = recalls(predicted, np.ones(len(TARGETS)))
        figures = {metric: values[run] for metric, values in found["adapted"].runs.items()}
        assert figures["rec_new"] == pytest.approx(of[NEW])
        assert figures["rec_m"] == pytest.approx(np.mean(list(of.values())))
        assert figures["rec_known"] == pytest.approx(np.mean([of[1], of[3], of[4]]))
        assert figures["rec_w"] == pytest.approx((predicted == TARGETS).mean())
        assert figures["prec_new"] == pytest.approx((TARGETS == NEW)[predicted == NEW].mean())
        judged = judge(system, batches(), NEW, NUM_CLASSES)
        assert judged == pytest.approx((figures["rec_m"], figures["rec_new"], figures["nats"]))


def test_a_draw_weighs_whole_users_and_one_without_the_class_keeps_the_wholes_recall(systems, found):
    weights = np.concatenate(list(draw_weights(8, 0)))
    without = next(d for d in range(len(weights)) if not weights[d, [1, 2, 5, 6]].any())
    for d in (0, 1, without):
        drawn = []
        for system in systems["adapted"]:
            predicted = system.table.argmax(axis=1)
            mine = recalls(predicted, weights[d][USERS])[NEW]
            drawn.append(recalls(predicted, np.ones(len(TARGETS)))[NEW] if mine is None else mine)
        assert found["adapted"].draws["rec_new"][d] == pytest.approx(np.mean(drawn))


def test_more_skill_helps_and_less_hurts(found):
    gap = difference(found["adapted"], found["scratch"], "rec_new")
    assert gap.verdict == "helps"
    assert gap.mean == pytest.approx(
        np.mean(found["adapted"].runs["rec_new"]) - np.mean(found["scratch"].runs["rec_new"])
    )
    assert difference(found["adapted"], found["scratch"], "nats").verdict == "helps"
    assert difference(found["scratch"], found["adapted"], "rec_m").verdict == "hurts"
    assert difference(found["adapted"], found["adapted"], "rec_m").verdict == "undecided"


def test_a_balanced_system_takes_the_log_share_off_the_scores_of_what_training_has(systems):
    inner, counts = systems["adapted"][0], np.array([0, 60, 20, 10, 10])
    batch = batches()[0]
    before, after = inner.scores(batch), Balanced(inner, counts).scores(batch)
    # Of 100 targets in four classes: log(1/4) - log(share) each; class 0 has none and keeps its score.
    expected = before + np.log([1.0, 0.25 / 0.6, 0.25 / 0.2, 0.25 / 0.1, 0.25 / 0.1])
    assert after == pytest.approx(expected, abs=1e-5)


def test_the_rate_of_the_best_mean_of_both_recalls_is_taken(monkeypatch):
    def jobs(rate: float, status: str = "completed") -> Any:
        return [SimpleNamespace(trunk_id=f"x{rate}-s{seed}", rate=rate, seed=seed, status=status) for seed in (0, 1)]

    monkeypatch.setattr(new_behavior_training, "read_row", lambda job: {"status": job.status})
    given = {0.1: Judged(0.3, 0.0, 1.8), 0.3: Judged(0.2, 0.3, 1.9), 1.0: Judged(0.25, 0.2, 2.0)}
    by_rate = {rate: jobs(rate) for rate in given}

    def judged(job):
        # The seeds differ by 0.02 around the given figures.
        return Judged(*(value + 0.02 * job.seed - 0.01 for value in given[job.rate]))

    tuned = choose_rate(by_rate, judged)
    assert tuned.rate == 0.3
    assert [job.trunk_id for job in tuned.jobs] == ["x0.3-s0", "x0.3-s1"]
    assert tuned.judged[0.1] == pytest.approx((0.3, 0.0, 1.8))
    by_rate[0.3][1].status = "diverged"
    tuned = choose_rate(by_rate, judged)
    assert (tuned.rate, tuned.judged[0.3]) == (1.0, None)
    with pytest.raises(RefusedError, match=r"x1\.0-s0: diverged, as at every other rate"):
        choose_rate({1.0: jobs(1.0, "diverged")}, judged)
