"""Draw users' event streams from a world, vectorised over users and over events.

In: a world, the users' own places, random numbers. Out: times, places, behaviours and event types of every event.
Legend: U users, T = 90 windows + 1 events of a stream, so that consecutive windows share one event. Everything here
is in values (indices from 0), not in ids.
"""

from dataclasses import dataclass

import numpy as np

from behavegpt.data.synthetic.config import PERIOD, PLACE, RHYTHM, SLOTS_PER_DAY, TRANSITION
from behavegpt.data.synthetic.world import DAYS_PER_WEEK, FIRST_WEEKEND_DAY, World
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
    half_hour = (second // SECONDS_PER_SLOT).astype(np.int32)
    return half_hour // SLOTS_PER_DAY % DAYS_PER_WEEK, half_hour % SLOTS_PER_DAY


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
    week = np.floor(expected / cumulative[-1])
    within = np.interp(expected - week * cumulative[-1], cumulative, np.arange(len(cumulative)) * SECONDS_PER_SLOT)
    second = (week * SECONDS_PER_WEEK + within).astype(np.int64)
    position = np.arange(shape[1])
    return np.maximum.accumulate(second - position, axis=1) + position


def _draw_visits(world: World, second: np.ndarray, anchors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (U, T) places: home, work or an outing by the time of the week; within a half hour users tend to stay."""
    home, away = world.place_thresholds
    moment = moments(*calendar(second))
    u = rng.random(second.shape)
    at_home = u < home[moment]
    outing = u >= away[moment]
    u = rng.random(second.shape)
    half_hour = second // SECONDS_PER_SLOT
    stays = rng.random(second.shape) < STAY_PROBABILITY
    stays[:, 0] = False
    stays[:, 1:] &= half_hour[:, 1:] == half_hour[:, :-1]
    outing &= ~stays
    place = np.where(at_home, anchors[:, :1], anchors[:, 1:])
    place[outing] = _inverse_cdf(world.place_cdf, u[outing])
    arrival = np.maximum.accumulate(np.where(stays, 0, np.arange(second.shape[1], dtype=np.int32)), axis=1)
    return np.take_along_axis(place, arrival, axis=1)


def _draw_behaviors(
    world: World, moment: np.ndarray, place: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return (U, T) behaviours and event types; the memory of the previous behaviour restarts at each window.

    Where the rhythm or the place decides, the behaviour needs no history, and most events are such; so a behaviour
    that does need one waits for few others. Each round below sets those whose history was set by the round before: a
    dozen rounds over ever shorter lists take the place of a loop over the T events. Arrays are (T, U) here, flat: the
    event after i is i + U.
    """
    num_users, num_events = len(moment), moment.size
    shape, moment, place = moment.T.shape, moment.T.ravel(), place.T.ravel()
    u = rng.random(num_events)
    source = _draw_sources(world, rng.random(num_events))
    variant = rng.random(num_events) ** 2
    source[-num_users:] = RHYTHM  # nothing follows the last events
    behavior = np.empty(num_events + num_users, dtype=np.int32)
    behavior[:num_users] = _rhythmic(world, moment[:num_users], rng.random(num_users))
    now = np.flatnonzero(source == RHYTHM)
    behavior[now + num_users] = _rhythmic(world, moment[now], u[now])
    now = np.flatnonzero(source == PLACE)
    behavior[now + num_users] = world.place_habit[place[now]]
    is_set = np.ones(num_events + 2 * num_users, dtype=bool)
    is_set[num_users : num_events + num_users] = (source == RHYTHM) | (source == PLACE)
    now = np.flatnonzero(is_set[:num_events] & ~is_set[num_users:-num_users])
    while len(now):
        alone = (source[now] != TRANSITION) | _starts_window(now, num_users)
        now = now[alone | is_set[now - num_users]]
        new = now + num_users
        behavior[new] = _habitual(world, behavior, now, num_users, source, moment, variant)
        is_set[new] = True
        late = new + num_users
        late = late[is_set[late] & ~is_set[late + num_users]]
        now = np.concatenate([new[~is_set[new + num_users]], late])
    behavior = behavior[:num_events]
    event = emit(world, behavior, variant)
    return behavior.reshape(shape).T, event.reshape(shape).T


def _draw_sources(world: World, u: np.ndarray) -> np.ndarray:
    """Return the source of each next behaviour, in the order of the weights."""
    source = np.zeros(len(u), dtype=np.uint8)
    for threshold in np.cumsum(world.weights)[:-1]:
        source += u >= threshold
    return source


def _starts_window(now: np.ndarray, num_users: int) -> np.ndarray:
    return now // num_users % NUM_INPUTS == 0


def _habitual(
    world: World,
    behavior: np.ndarray,
    now: np.ndarray,
    num_users: int,
    source: np.ndarray,
    moment: np.ndarray,
    variant: np.ndarray,
) -> np.ndarray:
    """Return the behaviours after the events `now`, whose sources are habits of the event or of the transition."""
    current, source = behavior[now], source[now]
    event = emit(world, current, variant[now])
    following = world.event_habit[event]
    part = source == PERIOD
    following[part] = world.period_habit[event[part], world.period(moment[now[part]])]
    part = source == TRANSITION
    at = now[part]
    previous = np.where(_starts_window(at, num_users), world.num_behaviors, behavior[at - num_users])
    following[part] = world.transition_habit[current[part], previous]
    return following


def emit(world: World, behavior: np.ndarray, variant: np.ndarray) -> np.ndarray:
    """Return the event types of behaviours; `variant` in [0, 1) picks among the behaviour's types."""
    return world.first_event[behavior] + (world.num_types[behavior] * variant).astype(np.int32)


def _rhythmic(world: World, moment: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return one behaviour a moment. The distributions lie end to end, so that one search serves all moments."""
    found = np.searchsorted(world.rhythm_ladder, moment + u, side="right")
    return np.minimum(found - moment * world.num_behaviors, world.num_behaviors - 1)


def _inverse_cdf(cdf: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return the index of the interval of `cdf` that holds each u; rounding never leads past the last one."""
    return np.minimum(np.searchsorted(cdf, u, side="right"), len(cdf) - 1).astype(np.int32)
