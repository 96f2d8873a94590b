"""The rules that turn a drawn behaviour into the next input: not the model, but fitted on the training split as well.

* Weekday and slot: the clock of tables.py, fitted on the half hours from a training event to the next one that has a
  behaviour, given the weekday and slot of the first. It knows neither the user nor the behaviour.
* Event, given the behaviour: drawn from one of two sources, a past event of the user with that behaviour, or the
  training split's events with that behaviour, by their frequency.
* Location, given the event: drawn from one of five, the places of past events of the user with the same event, or in
  the same part of the day (4 hours, working days apart from weekends), or at any time; the last place; the training
  split's places of that event.

"Past" is the history that the model may read and what was generated since. A source that has nothing passes its share
to the next one named in `event_sources` and `location_sources`. The shares of the sources are those that make the
training split's own events and places likeliest, by expectation maximisation over NUM_FITTED windows; there each
event is left out of the frequencies that explain it.

Legend: B users, L positions of a window or columns of a story, E events that are explained, S sources.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from behavegpt.data.windows import as_matrix
from behavegpt.schema import OTHER_ID, PADDING_ID, WINDOW_LENGTH
from behavegpt.tasks.generation.story import COLUMNS, Story
from behavegpt.tasks.generation.tables import SLOTS, Clock, PairCounts, Pairs, count_steps, half_hour

EVENT_SOURCES = ("own with the behaviour", "training with the behaviour")
LOCATION_SOURCES = ("own with the event", "own at this part of the day", "own", "last", "training with the event")
NUM_FITTED = 1_024
"""Windows from which the shares are fitted: the first ones of the shuffled shards."""
FITTED_AT_ONCE = 64
NUM_ROUNDS = 100
PART = 8
"""Slots of a part of the day."""
FIRST_WEEKEND_ID = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class InputRules:
    """Fitted rules."""

    clock: Clock
    events: Pairs
    """Events given the behaviour."""
    locations: Pairs
    """Locations given the event."""
    event_shares: np.ndarray
    """(2,) of EVENT_SOURCES."""
    location_shares: np.ndarray
    """(5,) of LOCATION_SOURCES."""

    def draw(self, story: Story, behavior: np.ndarray, u_BD: np.ndarray) -> dict[str, np.ndarray]:
        """Return (B,) ids of COLUMNS for the next event of each user.

        Args:
            behavior: (B,) ids.
            u_BD: (B, 5) numbers in [0, 1).
        """
        weekday, slot = self.clock.advance(story.last("weekday"), story.last("slot"), u_BD[:, 0])
        event = self._draw_event(story, behavior, u_BD[:, 1], u_BD[:, 2])
        location = self._draw_location(story, weekday, slot, event, u_BD[:, 3], u_BD[:, 4])
        return {"weekday": weekday, "slot": slot, "location": location, "event": event, "behavior": behavior}

    def to_json(self) -> dict[str, Any]:
        """Return what the report says of the rules."""
        events = dict(zip(EVENT_SOURCES, self.event_shares.tolist(), strict=True))
        return {"event": events, "location": dict(zip(LOCATION_SOURCES, self.location_shares.tolist(), strict=True))}

    def _draw_event(self, story: Story, behavior: np.ndarray, u_source: np.ndarray, u: np.ndarray) -> np.ndarray:
        own = story.past & (story.columns["behavior"] == behavior[:, None])
        trained = np.where(self.events.seen(behavior), self.events.draw(behavior, u), OTHER_ID)
        use_own = (_source(self.event_shares, u_source) == 0) & own.any(axis=1)
        return np.where(use_own, _pick(story.columns["event"], own, u), trained)

    def _draw_location(
        self,
        story: Story,
        weekday: np.ndarray,
        slot: np.ndarray,
        event: np.ndarray,
        u_source: np.ndarray,
        u: np.ndarray,
    ) -> np.ndarray:
        place, past = story.columns["location"], story.past
        moments = _moment(story.columns["weekday"], story.columns["slot"])
        same_event = past & (story.columns["event"] == event[:, None])
        same_moment = past & (moments == _moment(weekday, slot)[:, None])
        last = story.last("location")
        drawn = np.stack(
            [
                _pick(place, np.where(same_event.any(axis=1)[:, None], same_event, past), u),
                _pick(place, np.where(same_moment.any(axis=1)[:, None], same_moment, past), u),
                _pick(place, past, u),
                last,
                np.where(self.locations.seen(event), self.locations.draw(event, u), last),
            ]
        )
        return drawn[_source(self.location_shares, u_source), np.arange(len(last))]


def fit_inputs(tables: Iterable[pa.Table]) -> InputRules:
    """Return the rules for a dataset.

    Args:
        tables: The training split's windows, with COLUMNS.
    """
    steps, kept, num_kept = 0, [], 0
    counts = {("behavior", "event"): PairCounts(), ("event", "location"): PairCounts()}
    for table in tables:
        columns = {name: as_matrix(table[name]).astype(np.int64) for name in COLUMNS}
        steps = steps + count_steps(*steps_to_known(columns))
        # A window's first event is the last one of the window before, and is counted there.
        known = (columns["event"] != PADDING_ID) & (np.arange(WINDOW_LENGTH) > 0)
        for (given, value), count in counts.items():
            rows = known & (columns[given] != PADDING_ID)
            count.add(columns[given][rows], columns[value][rows])
        if num_kept < NUM_FITTED:
            kept.append({name: values[: NUM_FITTED - num_kept] for name, values in columns.items()})
            num_kept += len(kept[-1]["event"])
    events, locations = (count.table() for count in counts.values())
    parts = [{n: v[i : i + FITTED_AT_ONCE] for n, v in c.items()} for c in kept for i in _starts(len(c["event"]))]
    return InputRules(
        clock=Clock.fit(np.asarray(steps)),
        events=events,
        locations=locations,
        event_shares=fit_shares(np.concatenate([event_sources(part, events) for part in parts])),
        location_shares=fit_shares(np.concatenate([location_sources(part, locations) for part in parts])),
    )


def fit_shares(likelihood_ES: np.ndarray) -> np.ndarray:
    """Return (S,) the shares of a mixture that make its observations likeliest (Dempster, Laird & Rubin 1977).

    Args:
        likelihood_ES: Of each observation under each source; those that no source explains are left out.
    """
    shares = np.full(likelihood_ES.shape[1], 1 / likelihood_ES.shape[1])
    possible = likelihood_ES[likelihood_ES.sum(axis=1) > 0]
    for _ in range(NUM_ROUNDS if len(possible) else 0):
        weighted = possible * shares
        shares = (weighted / weighted.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares


def _starts(size: int) -> range:
    return range(0, size, FITTED_AT_ONCE)


def steps_to_known(columns: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the half hours of each event and of the next one in its window that has a behaviour."""
    width = columns["behavior"].shape[1]
    place = np.where(columns["behavior"] != PADDING_ID, np.arange(width), width)
    following = np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1][:, 1:]
    row, now = np.nonzero(following < width)
    moment = half_hour(columns["weekday"], columns["slot"])
    return moment[row, now], moment[row, following[row, now]]


def event_sources(columns: dict[str, np.ndarray], events: Pairs) -> np.ndarray:
    """Return (E, 2) how likely each training event that has a behaviour is under each source."""
    row, at = explained(columns)
    event, behavior = columns["event"], columns["behavior"]
    trained = events.share_without_one(behavior[row, at], event[row, at])
    own = (np.arange(event.shape[1]) < at[:, None]) & (behavior[row] == behavior[row, at][:, None])
    return np.stack([_share(event, row, at, own, trained), trained], axis=1)


def location_sources(columns: dict[str, np.ndarray], locations: Pairs) -> np.ndarray:
    """Return (E, 5) how likely each training event's location is under each source."""
    row, at = explained(columns)
    place, event = columns["location"], columns["event"]
    past = np.arange(event.shape[1]) < at[:, None]
    moments = _moment(columns["weekday"], columns["slot"])
    same_event = past & (event[row] == event[row, at][:, None])
    same_moment = past & (moments[row] == moments[row, at][:, None])
    own = _share(place, row, at, past, np.zeros(len(row)))
    likelihoods = [
        _share(place, row, at, same_event, own),
        _share(place, row, at, same_moment, own),
        own,
        (place[row, at - 1] == place[row, at]).astype(float),
        locations.share_without_one(event[row, at], place[row, at]),
    ]
    return np.stack(likelihoods, axis=1)


def explained(columns: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return row and position of the events that have a behaviour, as generated ones do, and a past."""
    row, at = np.nonzero(columns["behavior"][:, 1:] != PADDING_ID)
    return row, at + 1


def _share(values: np.ndarray, row: np.ndarray, at: np.ndarray, among: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Return (E,) the share of events `among` (E, L) that have the value of the event explained."""
    number = among.sum(axis=1)
    same = (among & (values[row] == values[row, at][:, None])).sum(axis=1)
    return np.where(number > 0, same / np.maximum(number, 1), otherwise)


def _moment(weekday: np.ndarray, slot: np.ndarray) -> np.ndarray:
    """Return the part of the day, and whether it is of a weekend, as one number."""
    return (slot - 1) // PART + np.where(weekday >= FIRST_WEEKEND_ID, SLOTS // PART, 0)


def _source(shares: np.ndarray, u: np.ndarray) -> np.ndarray:
    return np.minimum(np.searchsorted(np.cumsum(shares), u, side="right"), len(shares) - 1)


def _pick(values: np.ndarray, among: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return (B,) a value of one of the events `among` (B, L), each as likely; anything where there is none."""
    place = np.cumsum(among, axis=1)
    number = place[:, -1]
    wanted = (u * number).astype(np.int64) + 1
    return values[np.arange(len(values)), (place < wanted[:, None]).sum(axis=1).clip(max=values.shape[1] - 1)]
