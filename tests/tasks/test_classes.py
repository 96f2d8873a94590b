"""Precision and recall: by hand, and by scikit-learn on random predictions with absent and never predicted classes."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from behavegpt.tasks.metrics import classes
from behavegpt.tasks.metrics.classes import count_classes

TARGETS = np.array([0, 0, 0, 1, 1, 2])
PREDICTIONS = np.array([0, 0, 1, 1, 0, 3])
"""Precision 2/3, 1/2, -, 0; recall 2/3, 1/2, 0, -."""


def test_by_hand():
    counts = count_classes(TARGETS, PREDICTIONS, 4)
    assert counts.hits.tolist() == [2, 1, 0, 0]
    assert classes.precision(counts) == pytest.approx([2 / 3, 1 / 2, 0, 0])
    assert classes.recall(counts) == pytest.approx([2 / 3, 1 / 2, 0, 0])
    assert classes.precision(counts, -1.0)[2] == -1
    assert classes.recall(counts, -1.0)[3] == -1
    assert classes.weighted(classes.precision(counts), counts) == pytest.approx((3 * 2 / 3 + 2 / 2) / 6)
    assert classes.weighted(classes.recall(counts), counts) == pytest.approx(3 / 6)
    assert classes.precision_eq6(counts) == pytest.approx((2 * 2 / 3 + 1 / 2) / 6)
    assert classes.recall_eq7(counts) == pytest.approx((2 * 2 / 3 + 1 / 2) / 6)


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    targets, predictions = rng.integers(0, 9, 200), rng.integers(3, 12, 200)  # 9 .. 11 are no target, 0 .. 2 no guess
    right = rng.random(200) < 0.4
    predictions[right] = np.clip(targets, 3, None)[right]
    counts = count_classes(targets, predictions, 14)
    for average, mean in (("macro", np.mean), ("weighted", lambda values: classes.weighted(values, counts))):
        expected = precision_recall_fscore_support(
            targets,
            predictions,
            labels=range(14),
            average=average,
            zero_division=0,  # pyright: ignore[reportArgumentType]
        )
        assert mean(classes.precision(counts)) == pytest.approx(expected[0], abs=1e-12)
        assert mean(classes.recall(counts)) == pytest.approx(expected[1], abs=1e-12)
    assert classes.weighted(classes.recall(counts), counts) == pytest.approx(accuracy_score(targets, predictions))


@pytest.mark.parametrize("seed", range(5))
def test_the_papers_forms_equal_their_sums(seed):
    rng = np.random.default_rng(seed)
    targets, predictions = rng.integers(0, 5, 60), rng.integers(0, 5, 60)
    above_6 = above_7 = 0.0
    for b in range(7):
        tp = sum(1 for t, p in zip(targets, predictions, strict=True) if t == p == b)
        fp = sum(1 for t, p in zip(targets, predictions, strict=True) if p == b != t)
        fn = sum(1 for t, p in zip(targets, predictions, strict=True) if t == b != p)
        above_6 += tp * tp / (tp + fp) if tp else 0
        above_7 += tp * tp / (tp + fn) if tp else 0
    counts = count_classes(targets, predictions, 7)
    assert classes.precision_eq6(counts) == pytest.approx(above_6 / 60)
    assert classes.recall_eq7(counts) == pytest.approx(above_7 / 60)
