"""Times of a log, in whatever form the file has them, become instants.

In: a column of ISO 8601 text, epoch numbers or Arrow timestamps, and the log's time zone. Out: int64 microseconds since
1970 UTC. A text or timestamp without an offset is local time of the log's time zone; where the clock was set back, the
first of the two instants; where it was set forward, the time that the clock would have shown without the change.
"""

# Arrow makes its compute functions at import, where a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavegpt.data.logs import Log
from behavegpt.data.zones import local_to_instants
from behavegpt.errors import InputError

TimeUnit = Literal["auto", "s", "ms", "us", "ns"]
"""Unit of a numeric time column; auto means seconds for numbers and is the only choice for text."""

MICROS_PER_UNIT = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
MICROS = 1_000_000
EARLIEST = 31_536_000
"""1971-01-01 UTC in seconds: milliseconds read as microseconds, or seconds as milliseconds, land before it."""
LATEST = 4_102_444_800
"""2100-01-01 UTC in seconds: milliseconds read as seconds land after it."""

_NUMBER = r"^-?[0-8]?\d{1,18}(\.\d+)?$"
"""Of a size that int64 holds."""
_OFFSET = r":\d{2}.*(Z|[+-]\d{2}(:?\d{2})?)$"
_ALLOWED = "ISO 8601 such as 2012-06-11T18:06Z, or an epoch number"


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """The instants of a log's rows."""

    micros: np.ndarray
    """(R,) int64 microseconds since 1970 UTC; 0 where missing."""
    missing: np.ndarray
    """(R,) booleans: the row has no time."""
    counts: dict[str, int]
    """How many rows had a time without an offset, and how many of those the clock showed twice or never."""


def read_times(log: Log, column: str, *, unit: TimeUnit, timezone: str) -> Times:
    """Return the instants in `column`.

    Raises:
        InputError: A time cannot be read, lies outside 1971..2100 (which names the unit that would fit), or the
            column's type does not go with `unit`.
    """
    values = log.table[column]
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        values = pc.utf8_trim_whitespace(values.cast(pa.string()))
        values = pc.if_else(pc.equal(values, ""), None, values).combine_chunks()
        if _first_matches(values, _NUMBER):
            return _from_epoch(log, column, _read_numbers(log, column, values), unit)
        _refuse_unit(log, column, "text", unit)
        return _from_text(log, column, values, timezone)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _from_epoch(log, column, values.combine_chunks(), unit)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        _refuse_unit(log, column, str(kind), unit)
        return _from_timestamps(log, column, values.combine_chunks(), timezone)
    raise InputError(f"{log.path}: column {column!r} has type {kind}; a time is {_ALLOWED}")


def _first_matches(values: pa.Array, pattern: str) -> bool:
    present = values.drop_null()
    return len(present) > 0 and bool(pc.match_substring_regex(present[:1], pattern)[0].as_py())


def _refuse_unit(log: Log, column: str, kind: str, unit: TimeUnit) -> None:
    if unit != "auto":
        raise InputError(f"--time-unit {unit}: column {column!r} of {log.path} holds {kind}, no numbers; leave it out")


def _read_numbers(log: Log, column: str, values: pa.Array) -> pa.Array:
    """Return text as int64, or as float64 where a value has a fraction."""
    wrong = pc.invert(pc.match_substring_regex(values, _NUMBER)).fill_null(False)
    if pc.any(wrong).as_py():
        raise _bad_value(log, column, values, pc.index(wrong, True).as_py())
    fractions = pc.any(pc.match_substring(values, ".")).as_py()
    return values.cast(pa.float64() if fractions else pa.int64())


def _from_epoch(log: Log, column: str, values: pa.Array, unit: TimeUnit) -> Times:
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    missing = pc.is_null(values).to_numpy(zero_copy_only=False)
    numbers = pc.fill_null(values, 0).to_numpy(zero_copy_only=False)
    unit = "s" if unit == "auto" else unit
    outside = ~missing & ~_inside(numbers, unit)
    if outside.any():
        row = int(outside.argmax())
        meaning = _meaning(numbers[row], unit)
        raise InputError(
            f"{log.at(column, row)}: {meaning} ({outside.sum():,} such rows); {_remedy(numbers[~missing])}"
        )
    micros = np.rint(numbers * MICROS_PER_UNIT[unit]) if numbers.dtype.kind == "f" else _scale(numbers, unit)
    return Times(micros=micros.astype(np.int64), missing=missing, counts={})


def _scale(numbers: np.ndarray, unit: str) -> np.ndarray:
    """Return whole numbers of `unit` as microseconds, exactly."""
    factor = MICROS_PER_UNIT[unit]
    return numbers.astype(np.int64) * int(factor) if factor >= 1 else numbers.astype(np.int64) // round(1 / factor)


def _inside(numbers: np.ndarray, unit: str) -> np.ndarray:
    seconds = numbers * (MICROS_PER_UNIT[unit] / MICROS)
    return (seconds >= EARLIEST) & (seconds < LATEST)


def _meaning(number: float, unit: str) -> str:
    year = 1970 + float(number) * MICROS_PER_UNIT[unit] / MICROS / 31_556_952
    return f"{number} read as {unit} would be in the year {year:.0f}, outside 1971 to 2100"


def _remedy(numbers: np.ndarray) -> str:
    fits = [unit for unit in MICROS_PER_UNIT if _inside(numbers, unit).all()]
    if fits:
        return f"pass --time-unit {fits[0]}"
    return "no unit fits all rows: correct these, or empty them so that the rows are dropped and counted"


def _from_text(log: Log, column: str, values: pa.Array, timezone: str) -> Times:
    with_offset = pc.match_substring_regex(values, _OFFSET)
    values = pc.replace_substring_regex(values, r"(\.\d{6})\d+", r"\1")
    aware = _parse(log, column, pc.if_else(with_offset, values, None), pa.timestamp("us", tz="UTC"))
    naive = _parse(log, column, pc.if_else(with_offset, None, values), pa.timestamp("us"))
    return _combine(log, column, aware, naive, timezone)


def _from_timestamps(log: Log, column: str, values: pa.Array, timezone: str) -> Times:
    aware = pa.types.is_timestamp(values.type) and values.type.tz is not None
    values = values.cast(pa.timestamp("us", tz="UTC" if aware else None), safe=False)
    none = pa.nulls(len(values), pa.timestamp("us", tz=None if aware else "UTC"))
    return _combine(log, column, *((values, none) if aware else (none, values)), timezone)


def _combine(log: Log, column: str, aware: pa.Array, naive: pa.Array, timezone: str) -> Times:
    """Return the times of two arrays of which each row is present in one at most: instants, and local times."""
    local = pc.is_valid(naive).to_numpy(zero_copy_only=False)
    missing = pc.is_null(aware).to_numpy(zero_copy_only=False) & ~local
    present = pc.coalesce(aware.cast(pa.int64()), naive.cast(pa.int64()))
    micros = pc.fill_null(present, 0).to_numpy(zero_copy_only=False).copy()
    outside = ~missing & ((micros < EARLIEST * MICROS) | (micros >= LATEST * MICROS))
    if outside.any():
        row = int(outside.argmax())
        year = np.datetime64(int(micros[row]), "us").astype("datetime64[Y]")
        raise InputError(
            f"{log.at(column, row)}: the year {year} is outside 1971 to 2100 ({outside.sum():,} such rows); "
            "correct these, or empty them so that the rows are dropped and counted"
        )
    seconds, fraction = np.divmod(micros[local], MICROS)
    instants, twice, never = local_to_instants(seconds, timezone)
    micros[local] = instants * MICROS + fraction
    counts = {"times_without_offset": int(local.sum()), "times_shown_twice": twice, "times_never_shown": never}
    return Times(micros=micros, missing=missing, counts=counts)


def _parse(log: Log, column: str, values: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return values.cast(kind)
    except pa.ArrowInvalid:
        low, high = 0, len(values)  # the first bad row is in [low, high): halve the range until one row is left
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if _fails(values[low:middle], kind) else (middle, high)
        raise _bad_value(log, column, values, low) from None


def _fails(values: pa.Array, kind: pa.DataType) -> bool:
    try:
        values.cast(kind)
    except pa.ArrowInvalid:
        return True
    return False


def _bad_value(log: Log, column: str, values: pa.Array, row: int) -> InputError:
    return InputError(f"{log.at(column, row)}: {values[row].as_py()[:40]!r} is not a time; allowed is {_ALLOWED}")
