"""Read one piece of a log as blocks of events, in bounded memory.

In: a piece from plan.py and its spec. Out: `EventBlock`s in file order, whose rows ingest drops, counts or keeps.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from behavegpt.data.sources.behaviors import encode_behaviors
from behavegpt.data.sources.calendar_times import read_calendar_times
from behavegpt.data.sources.cells import encode_cells
from behavegpt.data.sources.csv_files import read_csv
from behavegpt.data.sources.ids import ID_TYPE, encode_ids, no_ids, to_numbers
from behavegpt.data.sources.json_files import read_json
from behavegpt.data.sources.parquet_files import read_parquet
from behavegpt.data.sources.plan import Piece, describe, find_source_problems, plan_pieces
from behavegpt.data.sources.spec import LogSpec
from behavegpt.data.sources.text_files import RawBlock
from behavegpt.data.sources.times import (
    TIME_BAD_OFFSET,
    TIME_MISSING,
    TIME_OK,
    TIME_OUT_OF_RANGE,
    TIME_UNREADABLE,
    Times,
    read_times,
)

__all__ = [
    "TIME_BAD_OFFSET",
    "TIME_MISSING",
    "TIME_OK",
    "TIME_OUT_OF_RANGE",
    "TIME_UNREADABLE",
    "EventBlock",
    "Piece",
    "describe",
    "find_source_problems",
    "plan_pieces",
    "read_blocks",
]

MAX_OFFSET_MINUTES = 18 * 60
"""From UTC, either way; no place has more, and ISO 8601 allows no more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EventBlock:
    """R rows of one file, in file order."""

    file: str
    """Path or URI, for messages."""
    first_row: int
    """Number in the file of the block's first row, read or skipped; the header of a CSV is row 1."""
    skipped: np.ndarray
    """(S,) int64 numbers in the file of the rows that were skipped as blank or malformed, ascending."""
    user: pa.DictionaryArray
    """int32 -> string, null where missing or blank; no value is blank. So are event, behavior and location."""
    event: pa.DictionaryArray
    behavior: pa.DictionaryArray
    """The event itself where neither a column nor a table gives it."""
    location: pa.DictionaryArray
    """All null where neither a column nor coordinates give it."""
    micros: np.ndarray
    """(R,) int64 since 1970 UTC, 0 where the time is not TIME_OK."""
    time_status: np.ndarray
    """(R,) uint8: TIME_OK, TIME_MISSING, TIME_UNREADABLE, TIME_OUT_OF_RANGE or TIME_BAD_OFFSET."""
    week_slot: np.ndarray
    """(R,) uint16 local half hour of the week, 0 from Monday 00:00 .. 335; 0 where the time is not TIME_OK."""
    time_raw: pa.Array
    """(R,) the times as the file has them, for a message about one row."""
    counts: dict[str, int]
    """malformed_rows, blank_lines, times_without_offset, times_shown_twice, times_never_shown, unusable_offsets,
    weekday_contradictions, events_without_entry, invalid_coordinates; all of them, 0 where nothing happened."""
    first_malformed: str | None
    """A sentence that names file and row of the first malformed row; None where there is none."""

    def __len__(self) -> int:
        return len(self.micros)

    def row_number(self, row: int) -> int:
        """Return the number in the file of the block's row at index `row`."""
        # Before skipped row number k of the block stand its position minus k rows that were read.
        read_before = self.skipped - self.first_row - np.arange(len(self.skipped))
        return self.first_row + row + int(np.searchsorted(read_before, row, side="right"))

    def at(self, column: str, row: int) -> str:
        """Return 'file: column x, row n' for a message about the block's row at index `row`."""
        return f"{self.file}: column {column!r}, row {self.row_number(row)}"


def read_blocks(piece: Piece, spec: LogSpec) -> Iterator[EventBlock]:
    """Yield the rows of a piece in file order; may run for several pieces at once in threads or processes.

    Raises:
        InputError: The piece cannot be read on; names file and row.
    """
    for raw in _read_raw(piece, spec):
        yield _to_events(raw, piece, spec)


def _read_raw(piece: Piece, spec: LogSpec) -> Iterator[RawBlock]:
    if piece.file.format == "parquet":
        columns = list(piece.types)
        return read_parquet(piece.file, piece.row_groups, piece.part.first_row, columns, piece.block_bytes)
    if piece.file.format == "jsonl":
        return read_json(piece.file, piece.part, spec.encoding, piece.types, piece.block_bytes)
    types = dict.fromkeys(piece.types, ID_TYPE)
    if spec.columns.timestamp is not None:
        roles = [role for role, name in spec.columns.named().items() if name == spec.columns.timestamp]
        types[spec.columns.timestamp] = piece.time_type if roles == ["timestamp"] else pa.string()
    return read_csv(piece.file, piece.part, piece.dialect, piece.names, types, piece.block_bytes)


def _to_events(raw: RawBlock, piece: Piece, spec: LogSpec) -> EventBlock:
    columns, counts = spec.columns, _no_counts()
    cells = {name: _only_chunk(raw.table[name]) for name in raw.table.column_names}
    times, time_raw = _times(cells, piece, spec, counts)
    event = encode_ids(cells[columns.event])
    behavior, location = event, no_ids(len(event))
    if columns.behavior is not None:
        behavior = encode_ids(cells[columns.behavior])
    elif piece.behaviors is not None:
        behavior, counts["events_without_entry"] = encode_behaviors(event, piece.behaviors)
    if columns.location is not None:
        location = encode_ids(cells[columns.location])
    elif columns.latitude is not None and columns.longitude is not None and spec.h3_resolution is not None:
        latitude, longitude = cells[columns.latitude], cells[columns.longitude]
        location, counts["invalid_coordinates"] = encode_cells(latitude, longitude, spec.h3_resolution)
    counts |= times.counts
    counts |= {"blank_lines": raw.blank, "malformed_rows": len(raw.skipped) - raw.blank}
    return EventBlock(
        file=piece.file.name,
        first_row=raw.first_row,
        skipped=raw.skipped,
        user=encode_ids(cells[columns.user]),
        event=event,
        behavior=behavior,
        location=location,
        micros=times.micros,
        time_status=times.status,
        week_slot=times.week_slot,
        time_raw=time_raw,
        counts=counts,
        first_malformed=raw.first_malformed,
    )


def _times(cells: dict[str, pa.Array], piece: Piece, spec: LogSpec, counts: dict[str, int]) -> tuple[Times, pa.Array]:
    columns = spec.columns
    if columns.timestamp is not None:
        offsets = None if columns.utc_offset is None else _offsets(cells[columns.utc_offset])
        return read_times(cells[columns.timestamp], piece.clock, offsets), cells[columns.timestamp]
    assert columns.weekday is not None and columns.slot is not None and columns.day is not None
    weekday, slot, day = (cells[name] for name in (columns.weekday, columns.slot, columns.day))
    times, counts["weekday_contradictions"] = read_calendar_times(weekday, slot, day, spec.first_date, piece.clock)
    return times, day


def _offsets(cells: pa.Array) -> np.ndarray:
    """Return whole minutes from UTC, NaN where the cell holds none that a place on earth has."""
    minutes = to_numbers(cells)
    usable = (np.abs(minutes) <= MAX_OFFSET_MINUTES) & (minutes == np.floor(minutes))
    return np.where(usable, minutes, np.nan)


def _no_counts() -> dict[str, int]:
    names = (
        "malformed_rows",
        "blank_lines",
        "times_without_offset",
        "times_shown_twice",
        "times_never_shown",
        "unusable_offsets",
        "weekday_contradictions",
        "events_without_entry",
        "invalid_coordinates",
    )
    return dict.fromkeys(names, 0)


def _only_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
