"""Draw users' event streams from a world: vectorised over users, with one loop over the events of a stream.

Legend: U users, T = 90 windows + 1 events of a stream, so that consecutive windows share one event. Everything here
is in values (indices from 0), not in ids.
"""

from dataclasses import dataclass

import numpy as np

from behavegpt.data.world import (
    DAYS_PER_WEEK,
    EVENT,
    FIRST_WEEKEND_DAY,
    PERIOD,
    PLACE,
    SLOTS_PER_DAY,
    TRANSITION,
    World,
)
from behavegpt.schema import NUM_INPUTS

SECONDS_PER_SLOT = 1800
SECONDS_PER_DAY = SLOTS_PER_DAY * SECONDS_PER_SLOT
SECONDS_PER_WEEK = DAYS_PER_WEEK * SECONDS_PER_DAY
STAY_PROBABILITY = 0.5
"""That an event in the same half hour as the one before happens at the same place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """Consecutive events of U users."""

    second: np.ndarray
    """(U, T) strictly increasing whole seconds since a Monday 00:00."""
    place: np.ndarray
    """(U, T)"""
    event: np.ndarray
    """(U, T)"""
    behavior: np.ndarray
    """(U, T)"""


def draw_places(world: World, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return an array of `shape` of places, drawn from their Zipf law."""
    return _inverse_cdf(world.place_cdf, rng.random(shape))


def draw_stream(world: World, anchors: np.ndarray, num_windows: int, rng: np.random.Generator) -> Stream:
    """Return the streams of U users over `num_windows` windows.

    Args:
        anchors: (U, 2) home and workplace of each user.
    """
    shape = (len(anchors), num_windows * NUM_INPUTS + 1)
    second = _draw_seconds(world, shape, rng)
    place = _draw_visits(world, second, anchors, rng)
    behavior, event = _draw_behaviors(world, moments(*calendar(second)), place, rng)
    return Stream(second=second, place=place, event=event, behavior=behavior)


def calendar(second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weekday (0 Monday .. 6) and the half hour (0 .. 47) of seconds since a Monday 00:00."""
    return second // SECONDS_PER_DAY % DAYS_PER_WEEK, second // SECONDS_PER_SLOT % SLOTS_PER_DAY


def moments(weekday: np.ndarray, slot: np.ndarray) -> np.ndarray:
    """Return the row of `World.rhythm` for a weekday (0 Monday .. 6) and a half hour (0 .. 47)."""
    return np.where(weekday >= FIRST_WEEKEND_DAY, slot + SLOTS_PER_DAY, slot)


def _draw_seconds(world: World, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return (U, T) seconds of a Poisson process with the weekly rate, begun anywhere in the first week.

    Time is rescaled: in units of expected events the process has unit rate, and the inverse of the cumulative weekly
    rate takes it back to seconds (Cinlar 1975, the inversion method).
    """
    cumulative = np.concatenate([[0.0], np.cumsum(world.week_rate)])
    begin = rng.random((shape[0], 1)) * cumulative[-1]
    expected = begin + np.cumsum(rng.standard_exponential(shape), axis=1)
    week, rest = np.divmod(expected, cumulative[-1])
    within = np.interp(rest, cumulative, np.arange(len(cumulative)) * SECONDS_PER_SLOT)
    second = (week * SECONDS_PER_WEEK + within).astype(np.int64)
    position = np.arange(shape[1])
    return np.maximum.accumulate(second - position, axis=1) + position


def _draw_visits(world: World, second: np.ndarray, anchors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (U, T) places: home, work or an outing by the time of the week; within a half hour users tend to stay."""
    home, work = _anchor_probabilities()
    moment = moments(*calendar(second))
    u = rng.random(second.shape)
    at_home = u < home[moment]
    at_work = ~at_home & (u < (home + work)[moment])
    place = np.where(at_home, anchors[:, :1], draw_places(world, second.shape, rng))
    place = np.where(at_work, anchors[:, 1:], place)
    half_hour = second // SECONDS_PER_SLOT
    stays = rng.random(second.shape) < STAY_PROBABILITY
    stays[:, 0] = False
    stays[:, 1:] &= half_hour[:, 1:] == half_hour[:, :-1]
    arrival = np.maximum.accumulate(np.where(stays, 0, np.arange(second.shape[1])), axis=1)
    return np.take_along_axis(place, arrival, axis=1)


def _anchor_probabilities() -> tuple[np.ndarray, np.ndarray]:
    """Return (2 S,) the probabilities of being at home and at work at each moment; the rest are outings."""
    hour = np.arange(SLOTS_PER_DAY) / 2
    office, night = (hour >= 9) & (hour < 18), (hour < 7) | (hour >= 23)
    home_workday = np.where(night, 0.9, np.where(office, 0.1, 0.6))
    home_weekend = np.where(night, 0.9, 0.6)
    work_workday = np.where(office, 0.7, 0.05)
    return np.concatenate([home_workday, home_weekend]), np.concatenate([work_workday, np.full(SLOTS_PER_DAY, 0.02)])


def _draw_behaviors(
    world: World, moment: np.ndarray, place: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return (U, T) behaviours and event types; the memory of the previous behaviour restarts at each window."""
    moment, place = np.ascontiguousarray(moment.T), np.ascontiguousarray(place.T)
    rhythmic = _draw_rhythm(world, moment, rng)
    source = _inverse_cdf(np.cumsum(world.weights), rng.random(moment.shape))
    ready = np.where(source == PLACE, world.place_habit[place], rhythmic)
    from_event, from_transition, from_period = source == EVENT, source == TRANSITION, source == PERIOD
    period = world.period(moment)
    variant = rng.random(moment.shape) ** 2
    behavior, event = np.empty_like(moment), np.empty_like(moment)
    behavior[0] = _draw_rhythm(world, moment[0], rng)
    event[0] = emit(world, behavior[0], variant[0])
    none = np.full(len(moment[0]), world.num_behaviors)
    for now in range(len(moment) - 1):
        previous = none if now % NUM_INPUTS == 0 else behavior[now - 1]
        following = ready[now]
        np.copyto(following, world.event_habit[event[now]], where=from_event[now])
        np.copyto(following, world.transition_habit[behavior[now], previous], where=from_transition[now])
        np.copyto(following, world.period_habit[event[now], period[now]], where=from_period[now])
        behavior[now + 1] = following
        event[now + 1] = emit(world, following, variant[now + 1])
    return behavior.T, event.T


def emit(world: World, behavior: np.ndarray, variant: np.ndarray) -> np.ndarray:
    """Return the event types of behaviours; `variant` in [0, 1) picks among the behaviour's types."""
    return world.first_event[behavior] + (world.num_types[behavior] * variant).astype(np.int64)


def _draw_rhythm(world: World, moment: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return one behaviour a moment. The distributions lie end to end, so that one search serves all moments."""
    cdf = np.cumsum(world.rhythm, axis=1)
    cdf[:, -1] = 1.0
    ladder = (cdf + np.arange(len(cdf))[:, None]).ravel()
    found = np.searchsorted(ladder, moment + rng.random(moment.shape), side="right")
    return np.minimum(found - moment * world.num_behaviors, world.num_behaviors - 1)


def _inverse_cdf(cdf: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return the index of the interval of `cdf` that holds each u; rounding never leads past the last one."""
    return np.minimum(np.searchsorted(cdf, u, side="right"), len(cdf) - 1)
