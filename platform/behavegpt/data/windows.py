"""A column batch of windows in memory: what ingest and the generator make, spill.py shuffles and shards.py writes.

Legend: W windows, L = WINDOW_LENGTH positions. Any unsigned type wide enough will do for ids; narrow ones spill faster.
"""

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

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
    """(W,) uint64 pseudonym."""
    number: np.ndarray
    """(W,) uint32 the window's place in its user's grid; (user, number) is unique within a split."""

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


def to_table(windows: Windows, window_id: np.ndarray, schema: pa.Schema) -> pa.Table:
    """Return the windows as an Arrow table of `schema`, with num_targets counted.

    Raises:
        pa.ArrowInvalid: A value does not fit the column's type.
    """
    given = {"window_id": window_id, "num_targets": windows.num_targets()}
    columns = []
    for field in schema:
        values = given[field.name] if field.name in given else getattr(windows, field.name)
        if pa.types.is_fixed_size_list(field.type):
            flat = pa.array(np.ascontiguousarray(values).reshape(-1), field.type.value_type)
            columns.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type))
        else:
            columns.append(pa.array(np.ascontiguousarray(values), field.type))
    return pa.table(columns, schema=schema)


def from_table(table: pa.Table) -> Windows:
    """Return the Windows of an Arrow table of `window_schema`, in the table's order."""
    arrays = {}
    for field in fields(Windows):
        column = table[field.name]
        arrays[field.name] = as_matrix(column) if pa.types.is_fixed_size_list(column.type) else column.to_numpy()
    return Windows(**arrays)


def as_matrix(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of fixed-size lists as (W, L)."""
    values = column.combine_chunks().flatten()
    return values.to_numpy(zero_copy_only=False).reshape(-1, column.type.list_size)
