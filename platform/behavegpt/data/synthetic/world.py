"""The world behind a generated log: a configuration goes in, the fixed tables that draw every event come out.

Legend: B behaviours, E event types, P places, Q parts of the day, S = 48 half hours. A moment is one of 2 S: a working
day's slots, then a weekend's. All indices here are values from 0; a dataset's ids come later, from its training split.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from behavegpt.errors import InputError
from behavegpt.schema import NUM_INPUTS, NUM_SLOTS

SLOTS_PER_DAY = NUM_SLOTS - 1
DAYS_PER_WEEK = 7
FIRST_WEEKEND_DAY = 5
"""Counted from Monday = 0."""

RHYTHM, EVENT, PLACE, TRANSITION, PERIOD = range(5)
"""The five sources of a next behaviour, in the order of `GeneratorConfig.weights`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorConfig:
    """How a log is drawn. Two equal configurations give the same bytes."""

    world_seed: int = 0
    """Draws the tables: rhythms and habits. Another seed is another population with a law of its own."""
    seed: int = 0
    """Draws the users and their events inside that world."""
    num_users: int = 1024
    """Users that a split's windows are spread over; where it has fewer windows, the first users get one each."""
    num_train_events: int = 828_000
    """Training targets, rounded up to whole windows of 90."""
    num_val_windows: int = 600
    """Validation windows of 90 targets each."""
    num_test_windows: int = 100
    """Test windows of 90 targets each."""
    num_behaviors: int = 39
    """Classes to predict."""
    num_event_types: int = 114
    """Event types, each of exactly one behaviour; at least one per behaviour."""
    num_places: int = 2000
    """Places that the users share."""
    num_periods: int = 4
    """Equal parts of the day, which event habits may tell apart; 48 at most."""
    rhythm_weight: float = 0.31
    """Probability that the next behaviour comes from the time of day and week alone."""
    event_weight: float = 0.27
    """Probability that it is the current event type's habit."""
    place_weight: float = 0.30
    """Probability that it is the current place's habit."""
    transition_weight: float = 0.05
    """Probability that it is the habit after the last two behaviours."""
    period_weight: float = 0.07
    """Probability that it is the current event type's habit at this part of the day. The five weights sum to 1."""
    behavior_exponent: float = 1.6
    """Zipf exponent of the rhythm's behaviours, head to tail."""
    habit_exponent: float = 1.3
    """Zipf exponent of the behaviours that habits lead to."""
    place_exponent: float = 1.6
    """Zipf exponent of homes, workplaces and outings over the places: the frequency law of the largest habit table."""
    events_per_day: float = 26.0
    """Mean events of a user per day."""

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise InputError(*problems)

    @property
    def weights(self) -> tuple[float, float, float, float, float]:
        """Return the probability of each source: RHYTHM, EVENT, PLACE, TRANSITION, PERIOD."""
        return self.rhythm_weight, self.event_weight, self.place_weight, self.transition_weight, self.period_weight

    @property
    def num_train_windows(self) -> int:
        """Return the windows that hold `num_train_events` targets."""
        return -(-self.num_train_events // NUM_INPUTS)


def _problems(config: GeneratorConfig) -> Iterator[str]:
    for name in (f.name for f in fields(config)):
        value = getattr(config, name)
        if name.endswith("seed") and value < 0:
            yield f"{name} is {value}; allowed: 0 or more"
        elif name.startswith("num_") and value < 1:
            yield f"{name} is {value}; allowed: 1 or more"
        elif name.endswith("_weight") and not 0 <= value <= 1:
            yield f"{name} is {value}; allowed: 0 to 1"
        elif name.endswith("_exponent") and not 0 <= value <= 10:
            yield f"{name} is {value}; allowed: 0 to 10"
    if not 0 < config.events_per_day <= 1000:
        yield f"events_per_day is {config.events_per_day}; allowed: above 0, at most 1000"
    if config.num_periods > SLOTS_PER_DAY:
        yield f"num_periods is {config.num_periods}; allowed: 1 to {SLOTS_PER_DAY}"
    if config.num_event_types < config.num_behaviors:
        yield f"num_event_types is {config.num_event_types}; allowed: num_behaviors ({config.num_behaviors}) or more"
    if abs(sum(config.weights) - 1) > 1e-9:
        yield f"the five source weights {config.weights} sum to {sum(config.weights):.6g}; allowed: exactly 1"


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """The tables that a `world_seed` fixes. A habit maps what is visible now to one favourite next behaviour."""

    weights: np.ndarray
    """(5,) probability of each source, in the order of RHYTHM .. PERIOD."""
    rhythm: np.ndarray
    """(2 S, B) distribution of the next behaviour at each moment; every entry is positive."""
    event_habit: np.ndarray
    """(E,) the behaviour that follows an event type."""
    place_habit: np.ndarray
    """(P,) the behaviour that follows at a place."""
    transition_habit: np.ndarray
    """(B, B + 1) the behaviour that follows [current, previous]; previous B means that the window shows none."""
    period_habit: np.ndarray
    """(E, Q) the behaviour that follows an event type in a part of the day."""
    first_event: np.ndarray
    """(B,) the first event type of a behaviour; its types are consecutive."""
    num_types: np.ndarray
    """(B,) event types of a behaviour."""
    place_cdf: np.ndarray
    """(P,) cumulative probability of a place, for homes, workplaces and outings alike."""
    week_rate: np.ndarray
    """(7 S,) expected events of a user in each half hour of the week, from Monday 00:00."""

    @property
    def num_behaviors(self) -> int:
        """Return B, which as a previous behaviour stands for none."""
        return len(self.first_event)

    def period(self, moment: np.ndarray) -> np.ndarray:
        """Return the part of the day, 0 .. Q - 1, of each moment."""
        return moment % SLOTS_PER_DAY * self.period_habit.shape[1] // SLOTS_PER_DAY


def make_world(config: GeneratorConfig) -> World:
    """Return the world of `config.world_seed`; the other fields give its sizes and laws."""
    rng = np.random.default_rng(config.world_seed)
    B, E, P = config.num_behaviors, config.num_event_types, config.num_places
    base = zipf(B, config.behavior_exponent)
    rhythm = _rhythm(rng, base)
    habits = zipf(B, config.habit_exponent)
    num_types = _types_per_behavior(base, E)
    return World(
        weights=np.array(config.weights),
        rhythm=rhythm,
        event_habit=rng.choice(B, E, p=habits),
        place_habit=rng.choice(B, P, p=habits),
        transition_habit=rng.choice(B, (B, B + 1), p=habits),
        period_habit=rng.choice(B, (E, config.num_periods), p=habits),
        first_event=np.cumsum(num_types) - num_types,
        num_types=num_types,
        place_cdf=np.cumsum(zipf(P, config.place_exponent)),
        week_rate=_week_rate(config.events_per_day),
    )


def zipf(size: int, exponent: float) -> np.ndarray:
    """Return (size,) probabilities proportional to rank^-exponent."""
    weight = np.arange(1, size + 1, dtype=float) ** -exponent
    return weight / weight.sum()


def _rhythm(rng: np.random.Generator, base: np.ndarray) -> np.ndarray:
    """Return (2 S, B): each behaviour has a favourite hour, and a level of its own at the weekend."""
    B = len(base)
    amplitude = 0.8 * rng.uniform(0.3, 1.0, B)
    peak_slot = rng.uniform(0, SLOTS_PER_DAY, B)
    level = rng.normal(0, 0.3, (2, 1, B))
    angle = 2 * np.pi * (np.arange(SLOTS_PER_DAY)[:, None] - peak_slot) / SLOTS_PER_DAY
    weight = (base * np.exp(amplitude * np.cos(angle) + level)).reshape(-1, B)
    return weight / weight.sum(axis=1, keepdims=True)


def _types_per_behavior(base: np.ndarray, num_event_types: int) -> np.ndarray:
    """Return (B,) event types: one each, then each further one where sqrt(frequency) per type is largest."""
    count = np.ones(len(base), dtype=np.int64)
    for _ in range(num_event_types - len(base)):
        count[np.argmax(np.sqrt(base) / count)] += 1
    return count


def _week_rate(events_per_day: float) -> np.ndarray:
    """Return (7 S,) expected events per half hour: quiet nights, busy evenings, a late start at the weekend."""
    hour = np.arange(SLOTS_PER_DAY) / 2
    workday = 0.04 + _bump(hour, 8, 1.5) + _bump(hour, 12.5, 2) + 1.5 * _bump(hour, 19.5, 2.5)
    weekend = 0.04 + 1.2 * _bump(hour, 13, 3) + 1.5 * _bump(hour, 20, 2.5)
    week = np.concatenate([workday] * FIRST_WEEKEND_DAY + [weekend] * (DAYS_PER_WEEK - FIRST_WEEKEND_DAY))
    return week * (events_per_day * DAYS_PER_WEEK / week.sum())


def _bump(hour: np.ndarray, center: float, width: float) -> np.ndarray:
    return np.exp(-0.5 * ((hour - center) / width) ** 2)
