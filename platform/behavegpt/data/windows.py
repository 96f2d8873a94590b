"""A column batch of windows in memory: what ingest and the generator make, and what shards.py writes and reads.

Legend: W windows, L = WINDOW_LENGTH positions.
"""

from dataclasses import dataclass, fields

import numpy as np

from behavegpt.schema import PADDING_ID, WINDOW_LENGTH


@dataclass(frozen=True, kw_only=True, slots=True)
class Windows:
    """W windows as arrays; see `schema.window_schema` for what each column means."""

    weekday: np.ndarray
    """(W, L) ids, right padded with 0."""
    slot: np.ndarray
    location: np.ndarray
    event: np.ndarray
    behavior: np.ndarray
    timestamp: np.ndarray
    """(W, L) int64 seconds since 1970 UTC, 0 in the padding."""
    length: np.ndarray
    """(W,) events in the window."""
    first_target: np.ndarray
    """(W,) index of the first event that is scored as a target, at least 1."""
    user: np.ndarray
    """(W,) pseudonymous user index."""
    window_id: np.ndarray
    """(W,) unique in the dataset."""

    def __len__(self) -> int:
        return len(self.length)

    def take(self, rows: np.ndarray) -> "Windows":
        """Return the windows at `rows`, an index or boolean array over W."""
        return Windows(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def num_targets(self) -> np.ndarray:
        """Return (W,) the count of scored targets: positions >= first_target whose behaviour is known."""
        return target_mask(self.behavior, self.first_target).sum(axis=1)


def target_mask(behavior: np.ndarray, first_target: np.ndarray) -> np.ndarray:
    """Return (W, L) booleans: is the event at this position scored as a target?"""
    position = np.arange(WINDOW_LENGTH)
    return (behavior != PADDING_ID) & (position[None, :] >= first_target[:, None])


def concatenate(parts: list[Windows]) -> Windows:
    """Return the windows of `parts` one after the other."""
    return Windows(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Windows)})
