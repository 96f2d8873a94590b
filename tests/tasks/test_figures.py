"""The figures of a run and of its draws: against scikit-learn and plain means over the same targets, drawn anew."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from behavegpt.tasks.figures import METRICS, NUM_DRAWS, check_identities, draw_weights, figures, user_sums

NUM_CLASSES = 9


def brute(outcomes, of_target):
    """Return the figures of the targets at these indices (with repeats), macro over classes 1 .. 8."""
    target, prediction, rank = (getattr(outcomes, n)[of_target] for n in ("target", "prediction", "rank"))
    confidence, right = outcomes.confidence[of_target].astype(float), target == prediction
    found = {"nats": outcomes.nats[of_target].astype(float).mean(), "ece": 0.0}
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            found["ece"] += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    for k in (1, 3, 5, 10):
        found[f"hr@{k}"] = (rank <= k).mean()
        found[f"ndcg@{k}"] = np.mean([1 / np.log2(r + 1) if r <= k else 0 for r in rank])
    for average, labels in (("macro", range(1, NUM_CLASSES)), ("weighted", range(NUM_CLASSES))):
        precision, recall, *_ = precision_recall_fscore_support(
            target,
            prediction,
            labels=labels,
            average=average,
            zero_division=0,  # pyright: ignore[reportArgumentType]
        )
        found |= {f"prec_{average[0]}": precision, f"rec_{average[0]}": recall}
    tp, predicted, actual = ([(x == c).sum() for c in range(NUM_CLASSES)] for x in (target[right], prediction, target))
    found["prec_w_eq6"] = sum(t * t / p for t, p in zip(tp, predicted, strict=True) if p) / len(target)
    found["rec_w_eq7"] = sum(t * t / a for t, a in zip(tp, actual, strict=True) if a) / len(target)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_the_point_is_every_metric_over_all_targets(outcomes, seed):
    made = outcomes(seed)
    [found] = figures([user_sums(made, np.unique(made.user), NUM_CLASSES)], seed=0)
    assert found.point == pytest.approx(brute(made, np.arange(200)), abs=1e-9)
    assert tuple(found.point) == METRICS
    check_identities(found.point)


def test_a_draw_is_every_metric_over_the_users_drawn(outcomes):
    """Macro means are left out where a class is missing from the draw: they keep the class's value there."""
    made = outcomes(0)
    users = np.unique(made.user)
    [found] = figures([user_sums(made, users, NUM_CLASSES)], seed=5)
    weights = np.concatenate(list(draw_weights(len(users), 5)))
    assert len(weights) == NUM_DRAWS
    assert (weights.sum(axis=1) == len(users)).all()
    compared = 0
    for draw in range(0, NUM_DRAWS, 50):
        times = weights[draw, np.searchsorted(users, made.user)].astype(int)
        expected = brute(made, np.repeat(np.arange(200), times))
        drawn = {name: found.draws[name][draw] for name in METRICS}
        whole = all(
            (made.target[times > 0] == c).any() and (made.prediction[times > 0] == c).any() for c in range(1, 8)
        )
        compared += whole
        for name in METRICS:
            if whole or not name.endswith("_m"):
                assert drawn[name] == pytest.approx(expected[name], abs=1e-9), name
    assert compared >= 10


def test_a_class_that_a_draw_misses_keeps_its_recall(outcomes):
    made = outcomes(0)
    alone = np.unique(made.user)[0]
    made.target[made.user == alone] = 8  # class 8 belongs to one user, who always gets it right
    made.prediction[made.user == alone] = 8
    made.rank[made.user == alone] = 1
    users = np.unique(made.user)
    [found] = figures([user_sums(made, users, NUM_CLASSES)], seed=0)
    times = np.concatenate(list(draw_weights(len(users), 0)))[:, 0]
    assert 0.2 < (times == 0).mean() < 0.5
    without = found.draws["rec_m"][times == 0].mean()
    assert without == pytest.approx(found.draws["rec_m"][times > 0].mean(), abs=0.02)


def test_the_same_seed_draws_the_same_and_rows_do_not_matter(outcomes):
    sums = [user_sums(outcomes(seed), np.unique(outcomes(0).user), NUM_CLASSES) for seed in (0, 0, 0)]
    alone, (first, *_) = figures(sums[:1], seed=3)[0], figures(sums, seed=3)
    for name in METRICS:
        assert np.array_equal(alone.draws[name], first.draws[name])
    assert not np.array_equal(figures(sums[:1], seed=4)[0].draws["hr@3"], alone.draws["hr@3"])


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Users with rates of their own: 95 % intervals of HR@1 from 100 samples of 60 users."""
    from behavegpt.tasks.outcomes import Outcomes

    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(100):
        user = np.repeat(np.arange(60, dtype=np.uint64), 20)
        right = rng.random(1200) < np.repeat(rng.beta(2, 2, 60), 20)
        zeros = np.zeros(1200, np.float32)
        made = Outcomes(
            user=user,
            target=np.ones(1200, np.int32),
            prediction=np.where(right, 1, 2).astype(np.int32),
            rank=np.where(right, 1, 2).astype(np.int32),
            confidence=zeros,
            nats=zeros,
        )
        [found] = figures([user_sums(made, np.unique(user), 3)], seed=1)
        low, high = np.quantile(found.draws["hr@1"], [0.025, 0.975])
        inside += low <= 0.5 <= high
    assert 88 <= inside <= 99


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rec_w": 0.31}, "weighted recall is accuracy"),
        ({"ndcg@1": 0.2}, "NDCG@1 is HR@1"),
        ({"ndcg@3": 0.6}, "NDCG@k is at most HR@k"),
        ({"hr@5": 0.4, "ndcg@5": 0.39}, "rise with k"),
        ({"ndcg@5": 0.495}, "at most a hit at rank 4"),
        ({"prec_w_eq6": 0.5}, "equation 6"),
        ({"rec_w_eq7": 0.5}, "equation 7"),
        ({"ece": 1.2}, "a share"),
    ],
)
def test_figures_that_contradict_each_other_are_refused(change, sentence):
    """The hit at rank 4 is what rows of the paper's Table 5 break, however their columns are read."""
    point = {"prec_m": 0.3, "rec_m": 0.3, "prec_w": 0.3, "rec_w": 0.3, "prec_w_eq6": 0.2, "rec_w_eq7": 0.2}
    point |= {"ndcg@1": 0.3, "ndcg@3": 0.4, "ndcg@5": 0.45, "ndcg@10": 0.5, "ece": 0.1, "nats": 2.0}
    point |= {"hr@1": 0.3, "hr@3": 0.5, "hr@5": 0.65, "hr@10": 0.8}
    check_identities(point)
    with pytest.raises(AssertionError, match=sentence):
        check_identities(point | change)
