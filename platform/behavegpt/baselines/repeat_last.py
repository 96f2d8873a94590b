"""The last behaviour again, or else the most frequent ones: w [b = last] + (1 - w) p(b).

w makes the training targets likeliest. Where that would not put the last behaviour first, in logs that seldom repeat,
it is put there all the same, just above the most frequent one: the row says what repeating is worth.
"""

import numpy as np

from behavegpt.baselines.backoff import PairCounts, back_off
from behavegpt.baselines.context import last_behaviors
from behavegpt.data.card.baselines import Pairs, fit_repeat_weight, fit_unigram
from behavegpt.schema import PADDING_ID
from behavegpt.tasks.system import Training
from behavegpt.tasks.targets import TargetBatch

JUST_ABOVE = 1e-3
"""In nats."""


class RepeatLast:
    """The mixture, with the last behaviour always first."""

    name = "repeat-last"
    trained = False
    num_params = num_params_total = 0

    def fit(self, training: Training) -> None:
        num_ids = training.num_classes + 1
        counts = PairCounts(num_ids)
        for batch in training.targets():
            counts.add(last_behaviors(batch)[0], batch.targets + 1)
        level = counts.table()
        context = np.repeat(level.keys, level.distinct)
        pairs = Pairs(context, level.counts.indices.astype(np.int64), level.counts.data)
        unigram = fit_unigram(pairs, num_ids)
        self._weight = fit_repeat_weight(unigram, pairs)
        self._unigram = unigram[1:]

    def scores(self, batch: TargetBatch) -> np.ndarray:
        scores_TV = back_off(self._unigram, [], [], len(batch.targets))
        last, _ = last_behaviors(batch)
        known = np.flatnonzero(last != PADDING_ID)
        mixed = self._weight + (1 - self._weight) * self._unigram[last[known] - 1]
        scores_TV[known] += np.log1p(-self._weight)
        highest = JUST_ABOVE + scores_TV[known].max(axis=1)
        scores_TV[known, last[known] - 1] = np.maximum(np.log(mixed), highest)
        return scores_TV
