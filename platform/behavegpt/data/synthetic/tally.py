"""Count drawn windows as they pass, and number their values by what training holds.

In: windows of values, chunk by chunk. Out: sums that add up over chunks, then the vocabularies and every value's id.
"""

from dataclasses import dataclass, field

import numpy as np

from behavegpt.data.synthetic.config import GeneratorConfig
from behavegpt.data.vocab import Vocabulary
from behavegpt.data.windows import Windows
from behavegpt.schema import FIRST_KNOWN_ID, NUM_INPUTS, OTHER_ID, VOCABULARIES


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """What a split's windows hold; an event that two windows of a user share counts once."""

    events: dict[str, np.ndarray] = field(default_factory=dict)
    """Per column, the events of each value."""
    last_second: int = 0
    """Unix second of the last event."""

    def __add__(self, other: "Tally") -> "Tally":
        if not self.events:
            return other
        return Tally(
            events={column: counts + other.events[column] for column, counts in self.events.items()},
            last_second=max(self.last_second, other.last_second),
        )

    @property
    def num_events(self) -> int:
        """Return the count of all events."""
        return int(self.events["behavior"].sum())


def num_values(config: GeneratorConfig) -> dict[str, int]:
    """Return how many values each column may have."""
    return {"location": config.num_places, "event": config.num_event_types, "behavior": config.num_behaviors}


def name_values(column: str, size: int) -> list[str]:
    """Return the texts of the values 0 .. size - 1 of a column, in ascending order."""
    return [f"{column}-{value:0{len(str(size - 1))}d}" for value in range(size)]


def count_windows(config: GeneratorConfig, windows: Windows) -> Tally:
    """Return the tally of windows of values."""
    shared = windows.number > 0  # whose first event is the last one of the window before
    events = {}
    for column, size in num_values(config).items():
        values = getattr(windows, column)
        events[column] = np.bincount(values.ravel(), minlength=size) - np.bincount(values[shared, 0], minlength=size)
    return Tally(events=events, last_second=int(windows.timestamp.max()))


def number_values(config: GeneratorConfig, train: Tally) -> tuple[dict[str, Vocabulary], dict[str, np.ndarray]]:
    """Return the vocabulary of each column, and the (size,) ids of its values, by frequency in training."""
    vocabularies, ids = {}, {}
    for column, size in num_values(config).items():
        counts, names = train.events[column], name_values(column, size)
        known = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
        vocabularies[column] = Vocabulary(tuple(names[value] for value in known), tuple(counts[known].tolist()))
        ids[column] = np.full(size, OTHER_ID, dtype=np.uint32)
        ids[column][known] = np.arange(FIRST_KNOWN_ID, FIRST_KNOWN_ID + len(known))
    return vocabularies, ids


def count_hidden(windows: Windows, ids: dict[str, np.ndarray]) -> int:
    """Return the targets that follow a place or an event type whose habit counts but which the dataset calls other.

    Args:
        windows: Of values.
        ids: Of every value, by column.
    """
    unknown_event = ids["event"][windows.event] == OTHER_ID
    hides = unknown_event | (ids["location"][windows.location] == OTHER_ID)
    hides[:, 1:] |= unknown_event[:, :-1]
    return int(hides[:, :NUM_INPUTS].sum())


def count_events(tallies: dict[str, Tally], ids: dict[str, np.ndarray]) -> dict[str, int]:
    """Return, in the words of ingest, the events of each split and those shown as `other`."""
    counts = {}
    for split, tally in tallies.items():
        counts[f"events_{split}"] = tally.num_events
        if split != "train":
            counts |= {f"other_{c}_{split}": int(tally.events[c][ids[c] == OTHER_ID].sum()) for c in VOCABULARIES}
    return counts
