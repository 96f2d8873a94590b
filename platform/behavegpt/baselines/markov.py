"""What followed the last two behaviours in training, backed off to the last one, backed off to the most frequent."""

import numpy as np

from behavegpt.baselines.backoff import UNKNOWN, back_off, fit_levels
from behavegpt.baselines.context import last_behaviors
from behavegpt.schema import PADDING_ID
from behavegpt.tasks.system import Training
from behavegpt.tasks.targets import TargetBatch


class Markov:
    """p(b | last), refined to p(b | last but one, last)."""

    name = "markov"
    trained = False
    num_params = num_params_total = 0

    def fit(self, training: Training) -> None:
        self._num_ids = training.num_classes + 1
        batches = ((self._keys(batch), batch.targets) for batch in training.targets())
        self._unigram, self._levels = fit_levels(batches, 2, training.num_classes)

    def scores(self, batch: TargetBatch) -> np.ndarray:
        return back_off(self._unigram, self._levels, self._keys(batch), len(batch.targets))

    def _keys(self, batch: TargetBatch) -> list[np.ndarray]:
        last, before = last_behaviors(batch)
        first = np.where(last == PADDING_ID, UNKNOWN, last)
        return [first, np.where(before == PADDING_ID, UNKNOWN, before * self._num_ids + last)]
