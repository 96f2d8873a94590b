"""What a generated log is drawn from: every number that a user may set, checked when it is set.

The named configurations are in domains.py; world.py makes the tables of one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from behavegpt.errors import InputError
from behavegpt.schema import NUM_INPUTS, NUM_SLOTS

SLOTS_PER_DAY = NUM_SLOTS - 1
MAX_EVENTS_PER_USER = 1 << 20
"""Of one split: a user's events are drawn at once, so this bounds the memory."""
MAX_DAYS = {"train": 50 * 365, "val": 180, "test": 180}
"""Mean span of a user's events: training begins after 1970, and test ends long before today."""

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
        if problems := list(_problems(self)) or list(_span_problems(self)):
            raise InputError(*problems)

    @property
    def weights(self) -> tuple[float, float, float, float, float]:
        """Return the probability of each source: RHYTHM, EVENT, PLACE, TRANSITION, PERIOD."""
        return self.rhythm_weight, self.event_weight, self.place_weight, self.transition_weight, self.period_weight

    @property
    def num_train_windows(self) -> int:
        """Return the windows that hold `num_train_events` targets."""
        return -(-self.num_train_events // NUM_INPUTS)

    def num_windows(self, split: str) -> int:
        """Return the windows of train, val or test."""
        return {"train": self.num_train_windows, "val": self.num_val_windows, "test": self.num_test_windows}[split]

    def num_split_users(self, split: str) -> int:
        """Return the users that the split's windows are spread over."""
        return min(self.num_users, self.num_windows(split))


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


def _span_problems(config: GeneratorConfig) -> Iterator[str]:
    sizes = {"train": "num_train_events", "val": "num_val_windows", "test": "num_test_windows"}
    for split, name in sizes.items():
        num_events = -(-config.num_windows(split) // config.num_split_users(split)) * NUM_INPUTS
        days = num_events / config.events_per_day
        given = f"{name} {getattr(config, name)} with num_users {config.num_users}"
        if num_events > MAX_EVENTS_PER_USER:
            yield f"{given} is {num_events:,} events a user; allowed: {MAX_EVENTS_PER_USER:,} at most; raise num_users"
        elif days > MAX_DAYS[split]:
            yield (
                f"{given} and events_per_day {config.events_per_day} is {days:,.0f} days of events a user; "
                f"allowed: {MAX_DAYS[split]:,} at most; raise num_users"
            )
