"""What the counts and the vocabularies of a dataset owe to the users who leave it.

In: the windows of those users. Out: their events, each once, although windows share events and a straddling window
serves two splits; and counts and vocabularies without them. Events that are in no window cannot be told apart any
more and stay counted.

Legend: W windows, E events in them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from behavegpt.data.manifest import Manifest
from behavegpt.data.vocab import Vocabulary
from behavegpt.data.windows import Windows, concatenate
from behavegpt.schema import FIRST_KNOWN_ID, NUM_INPUTS, OTHER_ID, PADDING_ID, SPLITS, VOCABULARIES, WINDOW_LENGTH


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """The E events of users who leave."""

    num_users: int
    users: Mapping[str, int]
    """How many of them have windows in each split."""
    split: np.ndarray
    """(E,) index into SPLITS of the side of the cutoffs on which each event lies."""
    ids: Mapping[str, np.ndarray]
    """(E,) of each vocabulary's column."""


def tally_events(manifest: Manifest, windows: Mapping[str, Windows]) -> Tally:
    """Return the events that the windows of each split hold, each event once.

    Args:
        windows: All windows of the users who leave, by split; a split may lack.
    """
    everything = concatenate(list(windows.values()))
    window_split = np.repeat([SPLITS.index(split) for split in windows], [len(part) for part in windows.values()])
    users, user = np.unique(everything.user, return_inverse=True)
    index = np.arange(WINDOW_LENGTH)
    # An event is known by its user and its place in the user's history.
    place = everything.number.astype(np.int64)[:, None] * NUM_INPUTS + index
    key = (user.astype(np.int64)[:, None] << 40) + place
    present = index < everything.length[:, None]
    _, first = np.unique(key[present], return_index=True)
    if manifest.cutoffs:
        seconds = everything.timestamp[present][first]
        split = sum(seconds >= _seconds(manifest.cutoffs[name]) for name in SPLITS[1:])
    else:
        split = np.repeat(window_split, everything.length)[first]
    return Tally(
        num_users=len(users),
        users={name: len(np.unique(part.user)) for name, part in windows.items()},
        split=np.asarray(split, np.int64),
        ids={column: getattr(everything, column)[present][first] for column in VOCABULARIES},
    )


def reduce_counts(counts: Mapping[str, int], tally: Tally) -> dict[str, int]:
    """Return a manifest's counts without the events and users, and with the number of those who were forgotten."""
    events = np.bincount(tally.split, minlength=len(SPLITS))
    less = {
        "users": tally.num_users,
        "events_kept": int(events.sum()),
        "missing_behavior": int((tally.ids["behavior"] == PADDING_ID).sum()),
        **{f"events_{split}": int(events[index]) for index, split in enumerate(SPLITS)},
        **{f"users_{split}": number for split, number in tally.users.items()},
    }
    for column, ids in tally.ids.items():
        others = np.bincount(tally.split[ids == OTHER_ID], minlength=len(SPLITS))
        less |= {f"other_{column}_{split}": int(others[index]) for index, split in enumerate(SPLITS)}
    return {name: count - less.get(name, 0) for name, count in counts.items()} | {
        "forgotten_users": counts.get("forgotten_users", 0) + tally.num_users,
        "forgotten_events": counts.get("forgotten_events", 0) + int(events.sum()),
    }


def reduce_vocabulary(vocabulary: Vocabulary, ids: np.ndarray, split: np.ndarray) -> Vocabulary:
    """Return the vocabulary without these events of training; a value that none is left of loses its text, not its id.

    Args:
        ids: (E,)
        split: (E,) index into SPLITS.
    """
    gone = np.bincount(ids[split == 0], minlength=vocabulary.size)[FIRST_KNOWN_ID:]
    counts = (np.array(vocabulary.counts, np.int64) - gone).tolist()
    values = (value if count > 0 else "" for value, count in zip(vocabulary.values, counts, strict=True))
    return replace(vocabulary, values=tuple(values), counts=tuple(counts))


def _seconds(instant: str) -> int:
    return int(datetime.fromisoformat(instant).timestamp())
