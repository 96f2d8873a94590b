"""Metrics of generated sequences: hand-worked, and against sums over the distribution functions."""

import math
from collections import Counter

import numpy as np
import pytest

from behavegpt.tasks.metrics.sequences import bleu, distinct_2, js_divergence, ks_statistic, wasserstein


def test_distances_by_hand():
    a, b = np.array([0, 0, 1, 3]), np.array([0, 1, 1, 2])
    # Distribution functions at 0, 1, 2: 2/4, 3/4, 3/4 and 1/4, 3/4, 4/4.
    assert ks_statistic(a, b) == pytest.approx(1 / 4)
    assert wasserstein(a, b) == pytest.approx(1 / 4 + 0 + 1 / 4)
    # Shares 2, 1, 0, 1 and 1, 2, 1, 0 quarters, their means 1.5, 1.5, 0.5, 0.5.
    bits = [2 * math.log2(4 / 3), math.log2(2 / 3), 1, math.log2(2 / 3), 2 * math.log2(4 / 3), 1]
    assert js_divergence(a, b, 4) == pytest.approx(sum(bits) / 8)


@pytest.mark.parametrize("seed", range(4))
def test_distances_equal_sums_over_distribution_functions(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 9, (20, 50)), rng.integers(2, 12, (15, 50))
    p, q = (np.array([(x == c).mean() for c in range(14)]) for x in (a, b))
    gaps = np.abs(np.cumsum(p) - np.cumsum(q))
    assert ks_statistic(a, b) == pytest.approx(gaps.max())
    assert wasserstein(a, b) == pytest.approx(gaps.sum())
    m = (p + q) / 2
    kl = sum(x[c] * math.log2(x[c] / m[c]) for x in (p, q) for c in range(14) if x[c] > 0)
    assert js_divergence(a, b, 14) == pytest.approx(kl / 2)


def test_equal_and_disjoint_sequences_are_the_ends_of_the_scales():
    a = np.arange(20).reshape(2, 10) % 5
    assert (ks_statistic(a, a), wasserstein(a, a), js_divergence(a, a, 10)) == (0, 0, 0)
    assert bleu(a, a) == pytest.approx(1)
    assert (ks_statistic(a, a + 5), wasserstein(a, a + 5)) == (1, 5)
    assert js_divergence(a, a + 5, 10) == pytest.approx(1)
    assert bleu(a, a + 5) == 0


def bleu_by_hand(generated, references):
    """Papineni et al. 2002: clipped n-gram precisions to length 4, their geometric mean, and the brevity penalty."""
    logs = []
    for n in range(1, 5):
        matched = possible = 0
        for one, truth in zip(generated, references, strict=True):
            grams, wanted = (Counter(tuple(s[i : i + n]) for i in range(len(s) - n + 1)) for s in (one, truth))
            matched += sum(min(count, wanted[gram]) for gram, count in grams.items())
            possible += sum(grams.values())
        logs.append(math.log(matched / possible))
    made, true = sum(map(len, generated)), sum(map(len, references))
    return math.exp(sum(logs) / 4) * (1 if made > true else math.exp(1 - true / made))


@pytest.mark.parametrize("length", [30, 50, 60])
def test_bleu_is_the_publications(length):
    rng = np.random.default_rng(length)
    references = rng.integers(0, 3, (8, 50))
    generated = rng.integers(0, 3, (8, length))
    assert bleu(generated, references) == pytest.approx(bleu_by_hand(generated.tolist(), references.tolist()))


def test_distinct_2_by_hand():
    assert distinct_2([[1, 2, 1, 2, 1]]) == 2 / 4
    assert distinct_2([[1, 2, 1, 2, 1], [1, 2, 3, 4, 5]]) == (2 / 4 + 1) / 2
    assert distinct_2(np.zeros((3, 11), int)) == pytest.approx(1 / 10)
