"""The predictors without training: their scores worked by hand, and against a loop over dictionaries."""

import math
from collections import Counter

import numpy as np
import pytest

from behavegpt.data.card.baselines import (
    Pairs,
    fit_repeat_weight,
    fit_unigram,
    score_conditional,
    score_repeat,
    score_unigram,
)

OTHER, A, B = 1, 2, 3
NUM_IDS = 4


def make_pairs(rows: list[tuple[int, int]]) -> Pairs:
    """Return the counts of (context, target) rows."""
    counts = sorted(Counter(rows).items())
    context, target = (np.array([pair[i] for pair, _ in counts]) for i in (0, 1))
    return Pairs(context, target, np.array([count for _, count in counts]))


# Targets A, A, B after A, and A after nothing: 3 x A and 1 x B of 3 classes, so with half a count for each class
# p(other), p(A), p(B) = 0.5 / 5.5, 3.5 / 5.5, 1.5 / 5.5.
TRAIN = make_pairs([(A, A), (A, A), (A, B), (0, A)])
P_A, P_B, P_OTHER = 7 / 11, 3 / 11, 1 / 11


def test_unigram_by_hand() -> None:
    unigram = fit_unigram(TRAIN, NUM_IDS)
    assert unigram.tolist() == pytest.approx([0, P_OTHER, P_A, P_B], rel=1e-15)
    score = score_unigram(unigram, make_pairs([(A, A), (B, B), (0, B), (A, OTHER)]))
    assert score.nats == pytest.approx(-(math.log(P_A) + 2 * math.log(P_B) + math.log(P_OTHER)) / 4, rel=1e-14)
    assert score.accuracy == 1 / 4


def test_repeat_last_by_hand() -> None:
    unigram = fit_unigram(TRAIN, NUM_IDS)
    # After A came A twice and B once: 2 (1 - p) / (w + (1 - w) p) = 1 / (1 - w) with p = 7/11 gives w = 1/12.
    weight = fit_repeat_weight(unigram, TRAIN)
    assert weight == pytest.approx(1 / 12, rel=1e-9)
    score = score_repeat(unigram, weight, make_pairs([(A, A), (A, B), (0, A), (B, B)]))
    repeated = [1 / 12 + 11 / 12 * P_A, 1 / 12 + 11 / 12 * P_B]
    expected = [repeated[0], 11 / 12 * P_B, P_A, repeated[1]]
    assert score.nats == pytest.approx(-sum(map(math.log, expected)) / 4, rel=1e-9)
    assert score.accuracy == 3 / 4, "A, A, A (the most frequent, for want of a last one) and B are guessed"


def test_repeat_weight_at_its_ends() -> None:
    never = make_pairs([(A, B), (B, A), (A, B)])
    assert fit_repeat_weight(fit_unigram(never, NUM_IDS), never) == 0
    always = make_pairs([(A, A), (B, B), (A, A)])
    assert fit_repeat_weight(fit_unigram(always, NUM_IDS), always) == 1 - 1 / 4


def test_witten_bell_by_hand() -> None:
    unigram = fit_unigram(TRAIN, NUM_IDS)
    # Two kinds of targets followed A in three, one followed nothing in one, and B was never a context.
    after_a = [(2 + 2 * P_A) / 5, (1 + 2 * P_B) / 5, 2 * P_OTHER / 5]
    expected = [*after_a, (1 + P_A) / 2, P_B / 2, P_B]
    pairs = make_pairs([(A, A), (A, B), (A, OTHER), (0, A), (0, B), (B, B)])
    score = score_conditional(unigram, TRAIN, pairs)
    assert score.nats == pytest.approx(-sum(map(math.log, expected)) / 6, rel=1e-14)
    assert score.accuracy == 2 / 6, "A after A and A after nothing; after B the best guess is the most frequent one"


def test_a_context_that_only_val_has_is_the_unigram() -> None:
    unigram = fit_unigram(TRAIN, NUM_IDS)
    score = score_conditional(unigram, TRAIN, make_pairs([(77, A), (78, B)]))
    assert score.nats == pytest.approx(-(math.log(P_A) + math.log(P_B)) / 2, rel=1e-14)
    assert score.accuracy == 1 / 2


@pytest.mark.parametrize("seed", range(5))
def test_scores_against_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_ids = 9
    train_rows = list(zip(rng.integers(0, 7, 200).tolist(), rng.integers(1, 8, 200).tolist(), strict=True))
    rows = list(zip(rng.integers(0, 9, 80).tolist(), rng.integers(1, 9, 80).tolist(), strict=True))
    singles, pairs = Counter(target for _, target in train_rows), Counter(train_rows)
    ids = range(1, num_ids)
    p = {b: (singles[b] + 0.5) / (200 + (num_ids - 1) / 2) for b in ids}

    def after(context: int, target: int) -> float:
        followers = {b: pairs[context, b] for b in ids if pairs[context, b]}
        total = sum(followers.values()) + len(followers)
        return (followers.get(target, 0) + len(followers) * p[target]) / total if total else p[target]

    unigram = fit_unigram(make_pairs(train_rows), num_ids)
    score = score_conditional(unigram, make_pairs(train_rows), make_pairs(rows))
    assert score.nats == pytest.approx(-sum(math.log(after(c, b)) for c, b in rows) / 80, rel=1e-12)
    best = {c: max(ids, key=lambda b: (after(c, b), -b)) for c, _ in rows}
    assert score.accuracy == sum(best[c] == b for c, b in rows) / 80
    assert sum(after(3, b) for b in ids) == pytest.approx(1, rel=1e-12), "the formula of the test is a distribution"

    known = [(c, b) for c, b in train_rows if c]
    grid = np.linspace(0, 0.999, 1000)
    likelihood = [sum(math.log(w * (c == b) + (1 - w) * p[b]) for c, b in known) for w in grid]
    assert fit_repeat_weight(unigram, make_pairs(train_rows)) == pytest.approx(grid[np.argmax(likelihood)], abs=1e-3)
