"""The metrics of Table 4: worked by hand, and against scipy user by user."""

from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp, wasserstein_distance

from behavegpt.tasks.generation.figures import METRICS, figures, real_halves


def behaviors(*rows: list[int]) -> dict[str, np.ndarray]:
    ids = np.array(rows)
    return {"behavior": ids, "slot": ids}


def test_two_users_by_hand():
    """Generated 2 2 2 2 and 2 3 2 3, true 2 2 3 3 and 2 3 2 3; of eight: 6 twos and 2 threes, and 4 and 4."""
    found = figures(behaviors([2, 2, 2, 2], [2, 3, 2, 3]), behaviors([2, 2, 3, 3], [2, 3, 2, 3]), 5)
    assert found["ks"] == pytest.approx(2 / 8)
    assert found["wasserstein"] == pytest.approx(2 / 8)
    p, q = np.array([6, 2]) / 8, np.array([4, 4]) / 8
    middle = (p + q) / 2
    jsd = (p * np.log2(p / middle) + q * np.log2(q / middle)).sum() / 2
    assert found["jsd"] == found["jsd_slots"] == pytest.approx(jsd)
    # Pairs 22, 23, 32, 33: generated 3 2 1 0 of 6, true 1 3 1 1 of 6.
    p, q = np.array([3, 2, 1, 0]) / 6, np.array([1, 3, 1, 1]) / 6
    middle = (p + q) / 2
    terms = np.where(p > 0, p * np.log2(np.maximum(p, 1e-9) / middle), 0) + q * np.log2(q / middle)
    assert found["jsd_bigrams"] == pytest.approx(terms.sum() / 2)
    # 1 of 3 and 2 of 3 pairs are distinct.
    assert found["distinct_2"] == pytest.approx((1 / 3 + 2 / 3) / 2)
    # The first user: shares 1, 0 and 1/2, 1/2; the second has no gap.
    assert found["ks_user"] == found["wasserstein_user"] == pytest.approx((1 / 2 + 0) / 2)
    p, q = np.array([1, 0]), np.array([0.5, 0.5])
    of_first = (np.log2(1 / 0.75) + 0.5 * np.log2(0.5 / 0.75) + 0.5 * np.log2(0.5 / 0.25)) / 2
    assert found["jsd_user"] == pytest.approx(of_first / 2)
    # 6 of 8 words, 4 of 6 pairs, 2 of 4 triples, 1 of 2 quadruples are in the reference: clipped counts.
    words, pairs, triples, quadruples = 6 / 8, 4 / 6, 2 / 4, 1 / 2
    assert found["bleu"] == pytest.approx((words * pairs * triples * quadruples) ** 0.25)
    assert set(found) == set(METRICS)


def test_means_over_users_are_scipys():
    rng = np.random.default_rng(0)
    drawn, true = rng.integers(1, 9, (20, 50)), (1 + 7 * rng.random((20, 50)) ** 2).astype(int)
    found = figures(behaviors(*drawn), behaviors(*true), 9)
    pairs = list(zip(drawn, true, strict=True))
    statistics: list[Any] = [ks_2samp(a, b) for a, b in pairs]
    assert found["ks_user"] == pytest.approx(np.mean([result.statistic for result in statistics]))
    assert found["wasserstein_user"] == pytest.approx(np.mean([wasserstein_distance(a, b) for a, b in pairs]))
    divergences = [jensenshannon(np.bincount(a, minlength=9), np.bincount(b, minlength=9), 2) ** 2 for a, b in pairs]
    assert found["jsd_user"] == pytest.approx(np.mean(divergences))


def test_the_truth_against_itself():
    truth = behaviors([2, 3, 4, 2, 3], [5, 5, 5, 5, 6])
    found = figures(truth, truth, 8)
    assert found.pop("bleu") == pytest.approx(1)
    assert found.pop("distinct_2") == pytest.approx((3 / 4 + 2 / 4) / 2)
    assert list(found.values()) == pytest.approx([0] * 8, abs=1e-12)


def test_one_behaviour_a_user_has_no_pairs():
    found = figures(behaviors([2], [3]), behaviors([2], [2]), 5)
    assert (found["jsd_bigrams"], found["distinct_2"], found["bleu"]) == (0, 0, 0)


def test_halves_of_users_who_are_alike_do_not_differ():
    means, deviations = real_halves(behaviors(*[[2, 3, 4, 2, 3]] * 7), 8, seed=0)
    assert means["bleu"] == pytest.approx(1)
    assert means["jsd"] == means["ks_user"] == pytest.approx(0)
    assert max(deviations.values()) == pytest.approx(0)


def test_halves_of_two_kinds_of_users_lie_between():
    """Two users of each of two kinds: a half has one of each kind in 4 of 6 splits, else two of one kind."""
    truth = behaviors([2] * 5, [2] * 5, [3] * 5, [3] * 5)
    means, deviations = real_halves(truth, 8, seed=0)
    assert 0 < means["ks"] < 1
    assert deviations["ks"] == pytest.approx(np.sqrt(means["ks"] * (1 - means["ks"]) * 20 / 19))
    assert means["distinct_2"] == pytest.approx(1 / 4)
