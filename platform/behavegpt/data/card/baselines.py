"""Score the predictors that need no training loop, as nats per target and accuracy: the bar for any model.

In: how often each (context, target) pair occurs in train, and in the split to score. Out: one `Score` a predictor.
Targets and behaviours are vocabulary ids; context 0 means that none is known. `other` (id 1) is a class like any.

* most frequent: the share of each behaviour among the n training targets, (c + 1/2) / (n + K/2) with K classes
  (Krichevsky & Trofimov 1981), so that a behaviour that training never saw costs much, but not infinitely much.
* conditional: the share after a context a, with Witten & Bell's back-off to the most frequent (1991):
  p(b | a) = (c(a, b) + T(a) p(b)) / (c(a) + T(a)), where T(a) is how many different behaviours followed a.
* repeat last: w [b = a] + (1 - w) p(b), with the w of maximum likelihood on train.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import root_scalar

from behavegpt.schema import PADDING_ID


@dataclass(frozen=True, slots=True)
class Pairs:
    """How often each target followed each context; P distinct pairs, by context and then target."""

    context: np.ndarray
    """(P,)"""
    target: np.ndarray
    """(P,) behaviour ids from 1."""
    count: np.ndarray
    """(P,) at least 1."""


@dataclass(frozen=True, slots=True)
class Score:
    """How well one predictor does on one split."""

    nats: float
    """Mean -log p of the targets."""
    accuracy: float
    """Share of targets that are the predictor's one best guess."""


def fit_unigram(pairs: Pairs, num_ids: int) -> np.ndarray:
    """Return (num_ids,) the probability of each behaviour id; 0 for padding.

    Args:
        num_ids: Size of the vocabulary's table, padding included.
    """
    counts = np.bincount(pairs.target, weights=pairs.count, minlength=num_ids)
    unigram = (counts + 0.5) / (counts.sum() + (num_ids - 1) / 2)
    unigram[PADDING_ID] = 0.0
    return unigram


def score_unigram(unigram: np.ndarray, pairs: Pairs) -> Score:
    """Return the score of the same prediction for every target."""
    return _score(unigram[pairs.target], pairs.target == unigram.argmax(), pairs)


def fit_repeat_weight(unigram: np.ndarray, train: Pairs) -> float:
    """Return the w in [0, 1) of w [b = a] + (1 - w) p(b) that makes the training targets likeliest.

    The log-likelihood is concave in w; its derivative is zero at the best one. With n targets, w stops at
    1 - 1 / (n + 1), for a training split that only ever repeats.
    """
    known = train.context != PADDING_ID
    same = known & (train.context == train.target)
    p, count = unigram[train.target[same]], train.count[same]
    num_known = int(train.count[known].sum())
    num_other = num_known - int(count.sum())

    def slope(w: float) -> float:
        return float((count * (1 - p) / (w + (1 - w) * p)).sum()) - num_other / (1 - w)

    highest = 1 - 1 / (num_known + 1)
    if slope(0.0) <= 0:
        return 0.0
    return highest if slope(highest) >= 0 else root_scalar(slope, bracket=(0.0, highest), xtol=1e-12).root


def score_repeat(unigram: np.ndarray, weight: float, pairs: Pairs) -> Score:
    """Return the score of the mixture; its best guess is the last behaviour itself, where one is known."""
    known = pairs.context != PADDING_ID
    same = pairs.context == pairs.target
    mixed = weight * same + (1 - weight) * unigram[pairs.target]
    guess = np.where(known, pairs.context, unigram.argmax())
    return _score(np.where(known, mixed, unigram[pairs.target]), guess == pairs.target, pairs)


def score_conditional(unigram: np.ndarray, train: Pairs, pairs: Pairs) -> Score:
    """Return the score of the shares after each context, backed off to `unigram`."""
    num_contexts = int(max(train.context.max(initial=0), pairs.context.max(initial=0))) + 1
    total = np.bincount(train.context, weights=train.count, minlength=num_contexts)
    distinct = np.bincount(train.context, minlength=num_contexts)
    seen = _look_up(train, pairs, len(unigram))
    share, weight = total[pairs.context], distinct[pairs.context]
    backed_off = unigram[pairs.target]
    unknown = share == 0
    p = np.where(unknown, backed_off, (seen + weight * backed_off) / np.where(unknown, 1, share + weight))
    best = _best_guesses(unigram, train, distinct)
    return _score(p, best[pairs.context] == pairs.target, pairs)


def _look_up(train: Pairs, pairs: Pairs, num_ids: int) -> np.ndarray:
    """Return (P,) how often each of `pairs` occurs in train."""
    known, wanted = (p.context.astype(np.int64) * num_ids + p.target for p in (train, pairs))
    at = np.minimum(np.searchsorted(known, wanted), max(len(known) - 1, 0))
    return np.where(known[at] == wanted, train.count[at], 0) if len(known) else np.zeros(len(wanted), np.int64)


def _best_guesses(unigram: np.ndarray, train: Pairs, distinct: np.ndarray) -> np.ndarray:
    """Return the likeliest behaviour after each context; ties go to the smaller id, as argmax does.

    Among the behaviours that never followed a context only the most frequent one of all can win.
    """
    best = np.full(len(distinct), unigram.argmax())
    value = distinct * unigram.max()
    score = train.count + distinct[train.context] * unigram[train.target]
    order = np.lexsort((train.target, -score, train.context))
    first = order[np.unique(train.context[order], return_index=True)[1]]
    at, target = train.context[first], train.target[first]
    wins = (score[first] > value[at]) | ((score[first] == value[at]) & (target < best[at]))
    best[at[wins]] = target[wins]
    return best


def _score(p: np.ndarray, right: np.ndarray, pairs: Pairs) -> Score:
    num_targets = pairs.count.sum()
    nats = float(-(pairs.count * np.log(p)).sum() / num_targets)
    return Score(nats=nats, accuracy=float(pairs.count[right].sum() / num_targets))
