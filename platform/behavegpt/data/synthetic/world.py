"""The world behind a generated log: a configuration goes in, the fixed tables that draw every event come out.

Legend: B behaviours, E event types, P places, Q parts of the day, S = 48 half hours. A moment is one of 2 S: a working
day's slots, then a weekend's. All indices here are values from 0; a dataset's ids come later, from its training split.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from behavegpt.data.synthetic.config import SLOTS_PER_DAY, GeneratorConfig

DAYS_PER_WEEK = 7
FIRST_WEEKEND_DAY = 5
"""Counted from Monday = 0."""
NUM_PROFILES = 39
"""Shapes of a day that behaviours have. They are drawn first, so that all domains of a world_seed share them."""


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
    place_thresholds: tuple[np.ndarray, np.ndarray]
    """At each moment, two (2 S,) thresholds of a uniform number: below the first a user is at home, from the second on
    an outing, between them at work."""
    rhythm_ladder: np.ndarray
    """(2 S B,) the cumulative distributions of `rhythm` end to end, each one higher than the one before."""
    week_rate: np.ndarray
    """(7 S,) expected events of a user in each half hour of the week, from Monday 00:00."""

    @property
    def num_behaviors(self) -> int:
        """Return B, which as a previous behaviour stands for none."""
        return len(self.first_event)

    def period(self, moment: np.ndarray) -> np.ndarray:
        """Return the part of the day, 0 .. Q - 1, of each moment."""
        return moment % SLOTS_PER_DAY * self.period_habit.shape[1] // SLOTS_PER_DAY


@lru_cache(maxsize=4)
def make_world(config: GeneratorConfig) -> World:
    """Return the world of `config.world_seed`; the other fields give its sizes and laws. A process makes it once."""
    rng = np.random.default_rng(config.world_seed)
    B, E, P = config.num_behaviors, config.num_event_types, config.num_places
    base = zipf(B, config.behavior_exponent)
    rhythm = _rhythm(rng, base)
    habits = zipf(B, config.habit_exponent)
    num_types = _types_per_behavior(base, E)
    return World(
        weights=np.array(config.weights),
        rhythm=rhythm,
        event_habit=rng.choice(B, E, p=habits).astype(np.int32),
        place_habit=rng.choice(B, P, p=habits).astype(np.int32),
        transition_habit=rng.choice(B, (B, B + 1), p=habits).astype(np.int32),
        period_habit=rng.choice(B, (E, config.num_periods), p=habits).astype(np.int32),
        first_event=(np.cumsum(num_types) - num_types).astype(np.int32),
        num_types=num_types.astype(np.int32),
        place_cdf=np.cumsum(zipf(P, config.place_exponent)),
        place_thresholds=_place_thresholds(),
        rhythm_ladder=_ladder(rhythm),
        week_rate=_week_rate(config.events_per_day),
    )


def zipf(size: int, exponent: float) -> np.ndarray:
    """Return (size,) probabilities proportional to rank^-exponent."""
    weight = np.arange(1, size + 1, dtype=float) ** -exponent
    return weight / weight.sum()


def _rhythm(rng: np.random.Generator, base: np.ndarray) -> np.ndarray:
    """Return (2 S, B): a behaviour's profile is its favourite hour, and a level of its own at the weekend."""
    profile = np.arange(len(base)) % NUM_PROFILES
    amplitude = 0.8 * rng.uniform(0.3, 1.0, NUM_PROFILES)[profile]
    peak_slot = rng.uniform(0, SLOTS_PER_DAY, NUM_PROFILES)[profile]
    level = rng.normal(0, 0.3, (2, 1, NUM_PROFILES))[:, :, profile]
    angle = 2 * np.pi * (np.arange(SLOTS_PER_DAY)[:, None] - peak_slot) / SLOTS_PER_DAY
    weight = (base * np.exp(amplitude * np.cos(angle) + level)).reshape(-1, len(base))
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


def _place_thresholds() -> tuple[np.ndarray, np.ndarray]:
    """Return, per moment, the probability of being at home, and that of being at home or at work."""
    hour = np.arange(SLOTS_PER_DAY) / 2
    office, night = (hour >= 9) & (hour < 18), (hour < 7) | (hour >= 23)
    home_workday = np.where(night, 0.9, np.where(office, 0.1, 0.6))
    home_weekend = np.where(night, 0.9, 0.6)
    work_workday = np.where(office, 0.7, 0.05)
    home = np.concatenate([home_workday, home_weekend])
    return home, home + np.concatenate([work_workday, np.full(SLOTS_PER_DAY, 0.02)])


def _ladder(rhythm: np.ndarray) -> np.ndarray:
    cdf = np.cumsum(rhythm, axis=1)
    cdf[:, -1] = 1.0
    return (cdf + np.arange(len(cdf))[:, None]).ravel()


def _bump(hour: np.ndarray, center: float, width: float) -> np.ndarray:
    return np.exp(-0.5 * ((hour - center) / width) ** 2)
