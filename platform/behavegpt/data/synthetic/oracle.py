"""The generator's own conditional distribution p*(next behaviour | what the window shows), and the floor it sets.

The next behaviour depends on the last two events of the window alone, through a mixture of five sources:

    p*(b) = w_rhythm pi[moment](b) + w_event [b = habit(event)] + w_place [b = habit(place)]
            + w_transition [b = habit(behaviour, previous behaviour or none)] + w_period [b = habit(event, part of day)]

so p* is known exactly at each of the 90 targets of a window. It is the rhythm's distribution but for four behaviours
at most, so its entropy is a table's entry and four corrections, whatever the number of behaviours.
In: windows of values (indices from 0, see generator.py).
"""

from dataclasses import dataclass, fields

import numpy as np
from scipy.special import entr

from behavegpt.data.manifest import Floor
from behavegpt.data.synthetic.config import EVENT, PERIOD, PLACE, RHYTHM, TRANSITION
from behavegpt.data.synthetic.draw import moments
from behavegpt.data.synthetic.world import World
from behavegpt.data.windows import Windows
from behavegpt.schema import NUM_INPUTS

WINDOWS_PER_SLICE = 512
"""Bounds the memory of `sum_floor` to some 20 MB."""
HABITS = (EVENT, PLACE, TRANSITION, PERIOD)


@dataclass(frozen=True, kw_only=True, slots=True)
class FloorSums:
    """What the floor of a split is made of, summed over some of its targets."""

    num_targets: int = 0
    entropy: float = 0.0
    """Of the entropies of p*, in nats."""
    surprise: float = 0.0
    """Of -log p* of the behaviours that were drawn."""
    squared_gap: float = 0.0
    """Of the squared differences between the two."""

    def __add__(self, other: "FloorSums") -> "FloorSums":
        return FloorSums(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def floor(self) -> Floor:
        """Return the floor over all targets summed."""
        n = self.num_targets
        mean_gap = (self.surprise - self.entropy) / n
        variance = (self.squared_gap - n * mean_gap**2) / (n - 1)
        return Floor(
            entropy_nats=self.entropy / n,
            sampled_nats=self.surprise / n,
            sampled_stderr=float(np.sqrt(max(variance, 0.0) / n)),
            num_targets=n,
        )


def true_probabilities(world: World, windows: Windows) -> np.ndarray:
    """Return (W, 90, B): p* of the behaviour at positions 1 .. 90, given positions 0 .. 89 of the window.

    Args:
        windows: W full windows whose location, event and behavior are values, not ids.
    """
    moment, habits = _history(world, windows)
    p = world.weights[RHYTHM] * world.rhythm[moment]
    row = np.arange(len(p))
    for source, habit in zip(HABITS, habits, strict=True):
        p[row, habit] += world.weights[source]
    return p.reshape(len(windows), NUM_INPUTS, world.num_behaviors)


def floor_of(world: World, windows: Windows, behavior_ids: np.ndarray) -> Floor:
    """Return the floor over all targets of the windows; see `sum_floor`."""
    return sum_floor(world, windows, behavior_ids).floor()


def sum_floor(world: World, windows: Windows, behavior_ids: np.ndarray) -> FloorSums:
    """Return the sums of the floor over all targets of the windows.

    Behaviours that share an id (those that training never saw are all `other`) are one class, as for the model. An
    event type or place that the dataset shows as `other` keeps its value here: such a floor is a little below what
    the ids allow, by less than 0.0004 nats in the demo study and by 0.008 with 25,000 training targets (worlds 0 to
    2), and the manifest counts the targets concerned.

    Args:
        windows: Full windows of values.
        behavior_ids: (B,) the dataset's id of each behaviour.
    """
    ids, class_of = np.unique(behavior_ids, return_inverse=True)
    rhythm = np.zeros((len(ids), len(world.rhythm)))
    np.add.at(rhythm, class_of, world.weights[RHYTHM] * world.rhythm.T)
    rhythm = np.ascontiguousarray(rhythm.T)
    rhythm_entropy = entr(rhythm).sum(axis=1)
    sums = FloorSums()
    for start in range(0, len(windows), WINDOWS_PER_SLICE):
        part = windows.take(np.arange(start, min(start + WINDOWS_PER_SLICE, len(windows))))
        moment, habits = _history(world, part)
        habits, target = class_of[habits], class_of[part.behavior[:, 1:].ravel()]
        entropy = rhythm_entropy[moment] + _entropy_of_habits(world, rhythm, moment, habits)
        of_target = world.weights[list(HABITS)] @ (habits == target)
        surprise = -np.log(rhythm[moment, target] + of_target)
        sums += FloorSums(
            num_targets=len(target),
            entropy=float(entropy.sum()),
            surprise=float(surprise.sum()),
            squared_gap=float(((surprise - entropy) ** 2).sum()),
        )
    return sums


def _entropy_of_habits(world: World, rhythm: np.ndarray, moment: np.ndarray, habits: np.ndarray) -> np.ndarray:
    """Return (N,) what the habits add to the entropy of the weighted rhythm, which sums to its weight only.

    Args:
        rhythm: (2 S, C) weighted probabilities of the classes.
        moment: (N,)
        habits: (4, N) class of each source's habit; sources that agree add up in one class.
    """
    weights = world.weights[list(HABITS)]
    extra = np.zeros(len(moment))
    for index, habit in enumerate(habits):
        agree = habits == habit
        first = ~agree[:index].any(axis=0)
        without = rhythm[moment, habit]
        extra += np.where(first, entr(without + weights @ agree) - entr(without), 0.0)
    return extra


def _history(world: World, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """Return, for the N = 90 W targets, the (N,) moment and the (4, N) favourite behaviours in the order of HABITS."""
    event, place = windows.event[:, :NUM_INPUTS].ravel(), windows.location[:, :NUM_INPUTS].ravel()
    behavior = windows.behavior[:, :NUM_INPUTS].astype(np.int32)
    none = np.full((len(windows), 1), world.num_behaviors, dtype=np.int32)
    previous = np.concatenate([none, behavior[:, :-1]], axis=1)
    weekday, slot = (column[:, :NUM_INPUTS].astype(np.int32).ravel() - 1 for column in (windows.weekday, windows.slot))
    moment = moments(weekday, slot)
    habits = (
        world.event_habit[event],
        world.place_habit[place],
        world.transition_habit[behavior.ravel(), previous.ravel()],
        world.period_habit[event, world.period(moment)],
    )
    return moment, np.stack(habits)
