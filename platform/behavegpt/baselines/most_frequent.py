"""Always the behaviours that are most frequent among the training targets."""

import numpy as np

from behavegpt.baselines.backoff import back_off, fit_levels
from behavegpt.tasks.system import Training
from behavegpt.tasks.targets import TargetBatch


class MostFrequent:
    """p(b): the share of each behaviour."""

    name = "most-frequent"
    trained = False
    num_params = num_params_total = 0

    def fit(self, training: Training) -> None:
        self._unigram, _ = fit_levels((([], batch.targets) for batch in training.targets()), 0, training.num_classes)

    def scores(self, batch: TargetBatch) -> np.ndarray:
        return back_off(self._unigram, [], [], len(batch.targets))
