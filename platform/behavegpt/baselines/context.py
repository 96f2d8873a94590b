"""What a rule may see of the history before a target: the last behaviours, the slot, the user.

In: a `TargetBatch`. Out: (T,) values at the last event before each target. Everything is read at or before that event.
"""

import numpy as np

from behavegpt.schema import PADDING_ID
from behavegpt.tasks.targets import TargetBatch


def last_behaviors(batch: TargetBatch) -> tuple[np.ndarray, np.ndarray]:
    """Return the last behaviour known before each target and the one known before that, ids; 0 where there is none."""
    behavior_BI = batch.behavior
    place = np.where(behavior_BI != PADDING_ID, np.arange(behavior_BI.shape[1]), -1)
    last_BI = np.maximum.accumulate(place, axis=1)
    before_BI = np.take_along_axis(
        np.pad(last_BI, ((0, 0), (1, 0)), constant_values=-1), np.maximum(last_BI, 0), axis=1
    )
    return _at(batch, behavior_BI, last_BI), _at(batch, behavior_BI, np.where(last_BI < 0, -1, before_BI))


def users(batch: TargetBatch) -> np.ndarray:
    """Return (T,) uint64 the pseudonym of each target's user."""
    return batch.user[batch.places[0]]


def index_of(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the place of each value among the sorted `known` ones, -1 where it is not among them."""
    if not len(known):
        return np.full(len(values), -1)
    at = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[at] == values, at, -1)


def _at(batch: TargetBatch, behavior_BI: np.ndarray, place_BI: np.ndarray) -> np.ndarray:
    found = np.take_along_axis(behavior_BI, np.maximum(place_BI, 0), axis=1)
    return batch.at_targets(np.where(place_BI < 0, PADDING_ID, found))
