"""Vocabularies: the values of location, event and behaviour that the training split has, and their ids.

Ids follow the frequency in training: FIRST_KNOWN_ID is the most frequent value, so a behaviour's id is its rank from
head to tail. Values that training never saw map to OTHER_ID, as do those of too few users; of events, where behaviours
are a column of their own, to an `other` of their behaviour, which come after the values.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from behavegpt.schema import FIRST_KNOWN_ID

FOLDED_PREFIX = "other: "
"""Begins the name of the event that stands for all of a behaviour's events which have no id of their own; twice where
the log has an event of that name."""
FOLDED_KINDS = "folded_event_behaviors"
"""Count in the manifest of the behaviours whose folded events have an id together."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The known values of one column, by descending count in the training split, ties by value; then folded ones."""

    values: tuple[str, ...]
    counts: tuple[int, ...]
    """How often each value occurs among the training split's events."""

    @property
    def size(self) -> int:
        """Rows of the embedding table: the known values, padding and other."""
        return len(self.values) + FIRST_KNOWN_ID


def folded_events(events: Sequence[str], behaviors: Collection[str]) -> dict[str, int]:
    """Return, by behaviour, the id of the event that stands for its folded ones; those come after all others."""
    found: dict[str, int] = {}
    for at in reversed(range(len(events))):
        behavior = _folded_behavior(events[at], behaviors)
        if behavior is None or behavior in found:
            break
        found[behavior] = at + FIRST_KNOWN_ID
    return found


def _folded_behavior(event: str, behaviors: Collection[str]) -> str | None:
    while event.startswith(FOLDED_PREFIX):
        event = event.removeprefix(FOLDED_PREFIX)
        if event in behaviors:
            return event
    return None


def write_vocabulary(path: Path, vocabulary: Vocabulary) -> None:
    """Write columns id, value and count as Parquet."""
    columns = {
        "id": pa.array(range(FIRST_KNOWN_ID, vocabulary.size), pa.int64()),
        "value": pa.array(vocabulary.values, pa.string()),
        "count": pa.array(vocabulary.counts, pa.int64()),
    }
    pq.write_table(pa.table(columns), path)


def read_vocabulary(path: Path) -> Vocabulary:
    """Return the vocabulary that `write_vocabulary` wrote."""
    with pq.ParquetFile(path) as file:
        table = file.read()
    return Vocabulary(tuple(table["value"].to_pylist()), tuple(table["count"].to_pylist()))
