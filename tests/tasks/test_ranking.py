"""Ranks, hit rates and NDCG: by hand, by a plain loop, and by scikit-learn where no scores are equal."""

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, ndcg_score

from behavegpt.tasks.metrics.ranking import hit_rate, ndcg, rank_targets


def test_by_hand():
    scores = np.log([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.25, 0.25, 0.5], [1 / 3, 1 / 3, 1 / 3]])
    ranked = rank_targets(scores, np.array([0, 2, 0, 1]))
    assert ranked.rank.tolist() == [1, 3, 3, 3]  # the third shares its score with class 1, the last with both
    assert ranked.prediction.tolist() == [0, 0, 2, 0]
    assert ranked.confidence == pytest.approx([0.5, 0.5, 0.5, 1 / 3])
    assert ranked.nats == pytest.approx([math.log(2), math.log(5), math.log(4), math.log(3)])
    assert hit_rate(ranked.rank, 1).tolist() == [1, 0, 0, 0]
    assert hit_rate(ranked.rank, 3).tolist() == [1, 1, 1, 1]
    assert ndcg(ranked.rank, 3).tolist() == [1, 0.5, 0.5, 0.5]
    assert ndcg(ranked.rank, 2).tolist() == [1, 0, 0, 0]


def test_a_target_that_shares_the_first_place_is_not_predicted():
    ranked = rank_targets(np.array([[2.0, 2.0, 1.0]] * 2), np.array([0, 1]))
    assert ranked.rank.tolist() == [2, 2]
    assert ranked.prediction.tolist() == [1, 0]


def test_a_system_without_an_opinion_has_the_last_rank_everywhere():
    ranked = rank_targets(np.zeros((7, 7)), np.arange(7))
    assert set(ranked.rank) == {7}
    assert not (ranked.prediction == np.arange(7)).any()


@pytest.mark.parametrize("levels", [None, 4])
def test_equal_to_a_plain_loop(levels):
    """With `levels`, scores take few values, so that ties are common."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(300, 11)) if levels is None else rng.integers(0, levels, (300, 11)).astype(float)
    targets = rng.integers(0, 11, 300)
    ranked = rank_targets(scores, targets)
    for row, target, rank, prediction in zip(scores, targets, ranked.rank, ranked.prediction, strict=True):
        assert rank == 1 + sum(row[c] >= row[target] for c in range(11) if c != target)
        assert row[prediction] == row.max()
        assert (prediction == target) == (rank == 1)
    assert hit_rate(ranked.rank, 1).mean() == accuracy_score(targets, ranked.prediction)


@pytest.mark.parametrize("k", [1, 3, 5, 10, 11])
def test_ndcg_is_scikit_learns(k):
    rng = np.random.default_rng(1)
    scores, targets = rng.normal(size=(200, 11)), rng.integers(0, 11, 200)
    mine = ndcg(rank_targets(scores, targets).rank, k).mean()
    assert mine == pytest.approx(ndcg_score(np.eye(11)[targets], scores, k=k), abs=1e-12)


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="1 of 6 scores"):
        rank_targets(np.array([[0.0, 1.0, np.nan], [0.0, 1.0, 2.0]]), np.array([0, 1]))
