"""The events of some users so far: their history, then what is generated, one event at a time.

Legend: B users, T columns, the most that a user can come to.
"""

from dataclasses import dataclass

import numpy as np

from behavegpt.schema import FEATURES

COLUMNS = (*FEATURES, "behavior")


@dataclass(slots=True)
class Story:
    """Grows in place."""

    user: np.ndarray
    """(B,) uint64 pseudonyms."""
    columns: dict[str, np.ndarray]
    """(B, T) int64 ids of COLUMNS, right padded with 0."""
    length: np.ndarray
    """(B,) int64 events of each user."""

    @classmethod
    def begin(cls, user: np.ndarray, columns: dict[str, np.ndarray], length: np.ndarray, room: int) -> "Story":
        """Return the histories with room for more events."""
        wide = {name: np.pad(values.astype(np.int64), ((0, 0), (0, room))) for name, values in columns.items()}
        return cls(user, wide, length.astype(np.int64))

    @property
    def past(self) -> np.ndarray:
        """(B, T) booleans: is there an event?"""
        return np.arange(self.columns["event"].shape[1]) < self.length[:, None]

    def last(self, name: str) -> np.ndarray:
        """Return (B,) a column of each user's last event."""
        return self.columns[name][np.arange(len(self.length)), self.length - 1]

    def append(self, values: dict[str, np.ndarray]) -> None:
        """Add one event to each user."""
        for name, column in self.columns.items():
            column[np.arange(len(self.length)), self.length] = values[name]
        self.length = self.length + 1

    def since(self, begin: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the events from (B,) `begin` on, right padded to the longest, and how many they are."""
        lengths = self.length - begin
        source = begin[:, None] + np.arange(lengths.max())
        inside = source < self.length[:, None]
        source = np.where(inside, source, 0)
        columns = {n: np.where(inside, np.take_along_axis(v, source, axis=1), 0) for n, v in self.columns.items()}
        return columns, lengths
