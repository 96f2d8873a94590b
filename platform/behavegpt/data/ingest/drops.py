"""Rows that cannot be used: each counts under the first reason that applies to it, and too many are an error.

In: a block of a log's rows. Out: the reason of each row, the counts, and where the first row of each reason is. No
message repeats a cell: it may hold a user's id.
"""

# Arrow makes its compute functions at import, where a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavegpt.data.sources.blocks import (
    TIME_BAD_OFFSET,
    TIME_MISSING,
    TIME_OUT_OF_RANGE,
    TIME_UNREADABLE,
    EventBlock,
)
from behavegpt.data.sources.spec import EARLIEST, LogSpec, date_of
from behavegpt.data.sources.times import classify_numbers
from behavegpt.errors import InputError

MAX_ID_BYTES = 1024
"""Of one id as UTF-8; a longer cell is a torn row or free text, not an id."""

REASONS = ("missing_user", "missing_time", "unreadable_time", "time_out_of_range", "missing_event", "id_too_long")
"""In the order in which they are tried, as the manifest counts them; a held-out behaviour is tried last."""
HELD_OUT = "held_out_behavior"

_SAID = {
    "malformed_rows": "is not a row of the file's columns",
    "missing_user": "has no user",
    "missing_time": "has no time",
    "unreadable_time": "has a time that cannot be read",
    "time_out_of_range": "has a time outside",
    "missing_event": "has no event",
    "id_too_long": f"has an id of more than {MAX_ID_BYTES:,} bytes",
}


def find_reasons(block: EventBlock, held_out: frozenset[str]) -> np.ndarray:
    """Return (R,) uint8: 0 for a usable row, else 1 + the index into (*REASONS, HELD_OUT) of why it is not."""
    ids = (block.user, block.event, block.behavior, block.location)
    wrong = (
        _is_null(block.user),
        block.time_status == TIME_MISSING,
        (block.time_status == TIME_UNREADABLE) | (block.time_status == TIME_BAD_OFFSET),
        block.time_status == TIME_OUT_OF_RANGE,
        _is_null(block.event),
        np.logical_or.reduce([_where(column, _too_long(column.dictionary)) for column in ids]),
        _where(block.behavior, _is_in(block.behavior.dictionary, held_out)),
    )
    reasons = np.zeros(len(block.micros), np.uint8)
    for index, rows in reversed(list(enumerate(wrong, start=1))):
        reasons[rows] = index
    return reasons


def count_reasons(reasons: np.ndarray) -> dict[str, int]:
    """Return how many rows have each reason."""
    counts = np.bincount(reasons, minlength=len(REASONS) + 2)[1:].tolist()
    return dict(zip((*REASONS, HELD_OUT), counts, strict=True))


def first_rows(block: EventBlock, reasons: np.ndarray, spec: LogSpec) -> dict[str, str]:
    """Return for each of REASONS that occurs the sentence about its first row: file, column, row, what is wrong."""
    said = {"malformed_rows": block.first_malformed} if block.first_malformed else {}
    present = np.flatnonzero(np.bincount(reasons, minlength=len(REASONS) + 2)[1 : len(REASONS) + 1])
    for index in present.tolist():
        row = int((reasons == index + 1).argmax())
        column, wrong = _column(block, row, REASONS[index], spec), _SAID[REASONS[index]]
        if REASONS[index] == "time_out_of_range":
            allowed = f"{date_of(EARLIEST)} to {date_of(spec.latest)} (--latest)"
            wrong = f"{wrong} {allowed}{_unit_that_fits(block.time_raw[row])}"
        elif block.time_status[row] == TIME_BAD_OFFSET and "time" in REASONS[index]:
            wrong = "is not whole minutes from UTC such as -300"
        said[REASONS[index]] = f"{block.at(column, row)}: {wrong}"
    return said


def refuse_too_many(counts: Mapping[str, int], first: Mapping[str, str], max_dropped: float) -> None:
    """Pass when the share of rows that were dropped for what is in them is at most `max_dropped`.

    Raises:
        InputError: It is larger; names the first row of each reason.
    """
    reasons = [reason for reason in ("malformed_rows", *REASONS) if counts[reason]]
    dropped = sum(counts[reason] for reason in reasons)
    if dropped <= max_dropped * counts["rows_read"]:
        return
    share = dropped / counts["rows_read"]
    raise InputError(
        f"--max-dropped {max_dropped:g}: {dropped:,} of {counts['rows_read']:,} rows ({share:.2%}) cannot be used; "
        "correct the log or the mapping, or allow a larger share",
        *(f"{first[reason]} ({counts[reason]:,} such rows)" for reason in reasons),
    )


def refuse_no_behavior(counts: Mapping[str, int], spec: LogSpec) -> None:
    """Pass when an event that was kept has a behaviour.

    Args:
        counts: events_kept and missing_behavior.

    Raises:
        InputError: None has one; names the table or the column that should give it.
    """
    if counts["missing_behavior"] < counts["events_kept"]:
        return
    if spec.behavior_table is not None:
        table = spec.behavior_table
        raise InputError(
            f"--behavior-table {table.input}: its column {table.event!r} has none of the events in the log's column "
            f"{spec.columns.event!r}, so no event would have a behaviour to predict"
        )
    raise InputError(
        f"--behavior {spec.columns.behavior}: the column is blank in every event that was kept, so there is no "
        "behaviour to predict"
    )


def _column(block: EventBlock, row: int, reason: str, spec: LogSpec) -> str:
    """Return the name of the column that is the reason why the row cannot be used."""
    columns = spec.columns
    if reason == "id_too_long":
        roles = {columns.user: block.user, columns.event: block.event, columns.behavior: block.behavior}
        roles[columns.location] = block.location
        long = (name for name, ids in roles.items() if name and len((ids[row].as_py() or "").encode()) > MAX_ID_BYTES)
        return next(long, columns.event)
    if "time" in reason and block.time_status[row] == TIME_BAD_OFFSET and columns.utc_offset is not None:
        return columns.utc_offset
    if "time" in reason:
        return columns.timestamp or columns.day or columns.slot or columns.weekday or columns.event
    return columns.user if reason == "missing_user" else columns.event


def _unit_that_fits(cell: pa.Scalar) -> str:
    """Return '; --time-unit x would put it within them' for a number that another unit makes a time, or ''."""
    try:
        fits = classify_numbers(np.array([float(cell.as_py())]))
    except (TypeError, ValueError):
        return ""
    return f"; --time-unit {next(iter(fits))} would put it within them" if fits else ""


def _is_null(column: pa.DictionaryArray) -> np.ndarray:
    return pc.is_null(column).to_numpy(zero_copy_only=False)


def _too_long(values: pa.Array) -> np.ndarray:
    return pc.greater(pc.binary_length(values), MAX_ID_BYTES).fill_null(False).to_numpy(zero_copy_only=False)


def _is_in(values: pa.Array, chosen: frozenset[str]) -> np.ndarray:
    return pc.is_in(values, value_set=pa.array(sorted(chosen), values.type)).to_numpy(zero_copy_only=False)


def _where(column: pa.DictionaryArray, chosen: np.ndarray) -> np.ndarray:
    """Return (R,) booleans: is the row's value one of those chosen in the dictionary?"""
    if not chosen.any():
        return np.zeros(len(column), bool)
    return np.append(chosen, False)[codes_of(column)]


def codes_of(column: pa.DictionaryArray) -> np.ndarray:
    """Return (R,) index into the column's dictionary, -1 where the value is missing."""
    return pc.fill_null(column.indices, -1).to_numpy(zero_copy_only=False)
