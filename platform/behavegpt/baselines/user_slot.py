"""What the same user did in training, and what at this half hour of the day.

The slot is that of the last event before the target: the target's own is not known when it is predicted (eq. 1).
"""

import numpy as np

from behavegpt.baselines.backoff import UNKNOWN, back_off, fit_levels
from behavegpt.baselines.context import index_of, users
from behavegpt.schema import NUM_SLOTS
from behavegpt.tasks.system import Training
from behavegpt.tasks.targets import TargetBatch


class UserSlot:
    """p(b | user), refined to p(b | user, slot)."""

    name = "user-slot"
    trained = False
    num_params = num_params_total = 0

    def fit(self, training: Training) -> None:
        self._users = np.unique(np.concatenate([np.unique(batch.user) for batch in training.targets()]))
        batches = ((self._keys(batch), batch.targets) for batch in training.targets())
        self._unigram, self._levels = fit_levels(batches, 2, training.num_classes)

    def scores(self, batch: TargetBatch) -> np.ndarray:
        return back_off(self._unigram, self._levels, self._keys(batch), len(batch.targets))

    def _keys(self, batch: TargetBatch) -> list[np.ndarray]:
        user = index_of(users(batch), self._users)
        slot = batch.at_targets(batch.inputs.features["slot"])
        return [user, np.where(user == UNKNOWN, UNKNOWN, user * NUM_SLOTS + slot)]
