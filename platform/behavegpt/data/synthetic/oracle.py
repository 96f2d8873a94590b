"""The generator's own conditional distribution p*(next behaviour | what the window shows), and the floor it sets.

The next behaviour depends on the last two events of the window alone, through a mixture of five sources:

    p*(b) = w_rhythm pi[moment](b) + w_event [b = habit(event)] + w_place [b = habit(place)]
            + w_transition [b = habit(behaviour, previous behaviour or none)] + w_period [b = habit(event, part of day)]

so p* is known exactly at each of the 90 targets of a window. In: windows of values (indices from 0, see generator.py).
"""

import numpy as np
from scipy.special import entr

from behavegpt.data.draw import moments
from behavegpt.data.manifest import Floor
from behavegpt.data.windows import Windows
from behavegpt.data.world import EVENT, PERIOD, PLACE, RHYTHM, TRANSITION, World
from behavegpt.schema import NUM_INPUTS

WINDOWS_PER_CHUNK = 512
"""Bounds the memory of p*: 512 windows x 90 targets x 39 behaviours take 14 MB."""


def true_probabilities(world: World, windows: Windows) -> np.ndarray:
    """Return (W, 90, B): p* of the behaviour at positions 1 .. 90, given positions 0 .. 89 of the window.

    Args:
        windows: W full windows whose location, event and behavior are values, not ids.
    """
    event, place = windows.event[:, :NUM_INPUTS].ravel(), windows.location[:, :NUM_INPUTS].ravel()
    behavior = windows.behavior[:, :NUM_INPUTS].astype(np.int64)
    none = np.full((len(windows), 1), world.num_behaviors)
    previous = np.concatenate([none, behavior[:, :-1]], axis=1)
    moment = moments(windows.weekday[:, :NUM_INPUTS] - 1, windows.slot[:, :NUM_INPUTS].astype(np.int64) - 1).ravel()
    p = world.weights[RHYTHM] * world.rhythm[moment]
    row = np.arange(len(p))
    p[row, world.event_habit[event]] += world.weights[EVENT]
    p[row, world.place_habit[place]] += world.weights[PLACE]
    p[row, world.transition_habit[behavior.ravel(), previous.ravel()]] += world.weights[TRANSITION]
    p[row, world.period_habit[event, world.period(moment)]] += world.weights[PERIOD]
    return p.reshape(len(windows), NUM_INPUTS, world.num_behaviors)


def floor_of(world: World, windows: Windows, behavior_ids: np.ndarray) -> Floor:
    """Return the floor over all targets of the windows.

    Behaviours that share an id (those that training never saw are all `other`) are one class, as for the model. An
    event type or place that the dataset shows as `other` keeps its value here: such a floor is a little below what
    the ids allow, by less than 0.0004 nats in the demo study and by 0.008 with 25,000 training targets (worlds 0 to
    2), and the manifest counts the targets concerned.

    Args:
        windows: Full windows of values.
        behavior_ids: (B,) the dataset's id of each behaviour.
    """
    ids, column = np.unique(behavior_ids, return_inverse=True)
    to_class = np.eye(len(ids))[column]
    entropy, surprise = [], []
    for start in range(0, len(windows), WINDOWS_PER_CHUNK):
        chunk = windows.take(np.arange(start, min(start + WINDOWS_PER_CHUNK, len(windows))))
        p = (true_probabilities(world, chunk) @ to_class).reshape(-1, len(ids))
        entropy.append(entr(p).sum(axis=1))
        surprise.append(-np.log(p[np.arange(len(p)), column[chunk.behavior[:, 1:].ravel()]]))
    entropies, surprises = np.concatenate(entropy), np.concatenate(surprise)
    return Floor(
        entropy_nats=float(entropies.mean()),
        sampled_nats=float(surprises.mean()),
        sampled_stderr=float((surprises - entropies).std(ddof=1) / np.sqrt(len(entropies))),
        num_targets=len(entropies),
    )
