"""Tables of histories: what every source gives, and what the predictor takes.

A table has one row a user: `user` (an id of the log, or a pseudonym), the last 90 events or fewer as lists of ids
(weekday, slot, location, event; right padded with 0), and `length`.

Legend: U users, I = NUM_INPUTS positions.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
import pyarrow as pa

from behavegpt.schema import FEATURES, NUM_INPUTS


class Source(Protocol):
    """Where histories come from; picklable, for any process that sees the files."""

    @property
    def num_users(self) -> int:
        """Return how many users there are."""
        ...

    @property
    def num_reads(self) -> int:
        """Return in how many parts the users can be read."""
        ...

    def read(self, index: int) -> pa.Table:
        """Return the histories of one part; the parts one after the other are all users in order."""
        ...


def to_table(user: pa.Array, columns: Mapping[str, np.ndarray], length: np.ndarray) -> pa.Table:
    """Return a table of histories.

    Args:
        user: (U,)
        columns: (U, I) unsigned ids of FEATURES.
        length: (U,) 1 .. I.
    """
    lists = [
        pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(columns[name]).reshape(-1)), NUM_INPUTS)
        for name in FEATURES
    ]
    return pa.table([user, *lists, pa.array(length.astype(np.uint8))], names=["user", *FEATURES, "length"])


def read_slices(source: Source, size: int) -> Iterator[pa.Table]:
    """Yield all histories in order, at most `size` of them at a time."""
    for index in range(source.num_reads):
        table = source.read(index)
        for first in range(0, table.num_rows, size):
            yield table.slice(first, size)
