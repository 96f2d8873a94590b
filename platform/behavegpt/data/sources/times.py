"""Times of a log, in whatever form the file has them, become instants and local half hours of the week.

In: a column of ISO 8601 text, numbers or Arrow timestamps. Out: for every row an instant or the reason why there is
none. A text or timestamp without an offset is local time: of the row's own offset where there is one, else of the
file's zone; where the clock was set back, the first of the two instants; where it was set forward, the time that the
clock would have shown without the change.
"""

# Arrow makes its compute functions at import, where a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavegpt.data.sources.spec import EARLIEST, LATEST, TimeUnit
from behavegpt.data.sources.time_text import NUMBER, parse_iso, rewrite_ctime
from behavegpt.data.sources.zones import MICROS, local_to_instants, offsets_at, week_slots

TIME_OK, TIME_MISSING, TIME_UNREADABLE, TIME_OUT_OF_RANGE, TIME_BAD_OFFSET = range(5)

MICROS_PER_UNIT: dict[TimeUnit, float] = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """How the times of one file are to be understood."""

    unit: TimeUnit
    """Never auto."""
    timezone: str
    latest: int
    """Seconds since 1970 UTC; from then on, a time is out of range."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """The times of R rows; see EventBlock for the fields."""

    micros: np.ndarray
    week_slot: np.ndarray
    status: np.ndarray
    counts: dict[str, int]


@dataclass(slots=True)
class _Reading:
    """What the cells say, before the zone has its say."""

    micros: np.ndarray
    """(R,) int64; where `local`, of the local clock."""
    local: np.ndarray | bool
    """(R,) booleans, or one for all rows."""
    status: np.ndarray
    """(R,) uint8."""


def read_times(values: pa.Array, clock: Clock, offset_minutes: np.ndarray | None = None) -> Times:
    """Return the times of a column.

    Args:
        values: (R,) text, numbers or Arrow timestamps.
        offset_minutes: (R,) float minutes from UTC to the row's local time, NaN where unusable; None for the zone's.
    """
    reading = _read(values, clock.unit)
    counts = {"times_without_offset": 0, "times_shown_twice": 0, "times_never_shown": 0, "unusable_offsets": 0}
    status = reading.status
    ok = status == TIME_OK
    if offset_minutes is not None:
        wrong = ok & np.isnan(offset_minutes)
        counts["unusable_offsets"] = int(wrong.sum())
        status[wrong] = TIME_BAD_OFFSET
        ok &= ~wrong
        shift = np.where(ok, np.nan_to_num(offset_minutes), 0).astype(np.int64) * 60
    else:
        shift = None
    micros = _to_instants(reading, ok, shift, clock.timezone, counts)
    outside = ok & ((micros < EARLIEST * MICROS) | (micros >= clock.latest * MICROS))
    status[outside] = TIME_OUT_OF_RANGE
    bad = np.flatnonzero(status)
    micros[bad] = 0
    week_slot = _week_slots(micros, shift, clock.timezone)
    week_slot[bad] = 0
    return Times(micros=micros, week_slot=week_slot, status=status, counts=counts)


def classify_numbers(numbers: np.ndarray) -> dict[TimeUnit, int]:
    """Return unit -> index of the first number that means a time from 1971 to 2100 in it; the windows do not overlap.

    Args:
        numbers: (R,) float64.
    """
    windows: dict[TimeUnit, tuple[float, float]] = {
        unit: (EARLIEST * MICROS / factor, LATEST * MICROS / factor) for unit, factor in MICROS_PER_UNIT.items()
    }
    windows["yyyymmddhhmmss"] = (19_710_101_000_000, 21_000_101_000_000)
    found: dict[TimeUnit, int] = {}
    for unit, (low, high) in windows.items():
        rows = np.flatnonzero((numbers >= low) & (numbers < high))
        if len(rows):
            found[unit] = int(rows[0])
    return found


def _read(values: pa.Array, unit: TimeUnit) -> _Reading:
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_date(values.type):
        values = values.cast(pa.timestamp("s"))
    if pa.types.is_timestamp(values.type):
        return _from_timestamps(values)
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        return _from_numbers(values, unit)
    values = pc.utf8_trim_whitespace(values.cast(pa.string()))
    missing = pc.equal(values, "").fill_null(True).to_numpy(zero_copy_only=False)
    if unit in ("iso", "ctime"):
        reading = _from_text(rewrite_ctime(values) if unit == "ctime" else values)
    else:
        reading = _from_number_text(values, unit)
    reading.status[missing] = TIME_MISSING
    return reading


def _from_timestamps(values: pa.Array) -> _Reading:
    aware = values.type.tz is not None
    if values.type.unit in ("s", "ms"):
        # Arrow would wrap around where microseconds overflow.
        factor = 1_000_000 if values.type.unit == "s" else 1_000
        whole = pc.fill_null(values.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
        micros = np.clip(whole, -(2**62) // factor, 2**62 // factor) * factor
    elif values.type.unit == "us":
        micros = pc.fill_null(values.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    else:
        micros = pc.fill_null(values.cast(pa.int64()), 0).to_numpy(zero_copy_only=False) // 1000
    return _Reading(_clip(micros), not aware, _missing(values))


def _from_numbers(values: pa.Array, unit: TimeUnit) -> _Reading:
    status = _missing(values)
    numbers = pc.fill_null(values, 0).to_numpy(zero_copy_only=False)
    if numbers.dtype.kind == "f":
        blank = np.isnan(numbers)
        status[blank] = TIME_MISSING
        numbers = np.where(blank, 0, numbers)
    if unit == "yyyymmddhhmmss":
        micros, wrong = _from_digits(numbers)
        status[wrong & (status == TIME_OK)] = TIME_UNREADABLE
        return _Reading(micros, True, status)
    if unit not in MICROS_PER_UNIT:
        status[status == TIME_OK] = TIME_UNREADABLE
        return _Reading(np.zeros(len(values), np.int64), False, status)
    return _Reading(_scale(numbers, unit), False, status)


def _from_number_text(values: pa.Array, unit: TimeUnit) -> _Reading:
    good = pc.match_substring_regex(values, NUMBER)
    fraction = pc.match_substring(values, ".")
    whole = pc.if_else(pc.and_not(good, fraction), values, None).cast(pa.int64())
    broken = pc.if_else(pc.and_(good, fraction), values, None).cast(pa.float64())
    reading = _from_numbers(whole, unit)
    rows = pc.is_valid(broken).to_numpy(zero_copy_only=False)
    if rows.any():
        fractions = _from_numbers(broken, unit)
        reading.micros = np.where(rows, fractions.micros, reading.micros)
        reading.status = np.where(rows, fractions.status, reading.status)
    wrong = pc.invert(good).fill_null(False).to_numpy(zero_copy_only=False)
    reading.status[wrong] = TIME_UNREADABLE
    return reading


def _from_text(values: pa.Array) -> _Reading:
    aware, naive = parse_iso(values)
    local = pc.is_valid(naive).to_numpy(zero_copy_only=False)
    present = pc.coalesce(aware.cast(pa.int64()), naive.cast(pa.int64()))
    status = np.where(pc.is_valid(present).to_numpy(zero_copy_only=False), TIME_OK, TIME_UNREADABLE).astype(np.uint8)
    return _Reading(_clip(pc.fill_null(present, 0).to_numpy(zero_copy_only=False)), local, status)


def _from_digits(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the local clock of numbers such as 20160420093015 in microseconds, and which of them are no time."""
    inside = (numbers >= 10**13) & (numbers < 10**14)
    digits = np.where(inside & (numbers == np.floor(numbers)), numbers, 0).astype(np.int64)
    date, clock = np.divmod(digits, 1_000_000)
    year, month, day = date // 10_000, date // 100 % 100, date % 100
    hour, minute, second = clock // 10_000, clock // 100 % 100, clock % 100
    month_start = (year.clip(1) - 1970).astype("M8[Y]").astype("M8[M]") + (month.clip(1, 12) - 1)
    length = ((month_start + 1).astype("M8[D]") - month_start.astype("M8[D]")).astype(np.int64)
    good = (month >= 1) & (month <= 12) & (day >= 1) & (day <= length) & (hour < 24) & (minute < 60) & (second < 60)
    days = month_start.astype("M8[D]").astype(np.int64) + day - 1
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second
    return np.where(good, seconds * MICROS, 0), ~good


def _scale(numbers: np.ndarray, unit: TimeUnit) -> np.ndarray:
    """Return numbers of `unit` as microseconds; whole ones exactly, and those far outside any calendar clipped."""
    factor = MICROS_PER_UNIT[unit]
    limit = int(2**62 / max(factor, 1))
    if numbers.dtype.kind == "f":
        return np.rint(np.clip(numbers, -limit, limit) * factor).astype(np.int64)
    whole = np.clip(numbers, np.iinfo(np.int64).min if numbers.dtype.kind == "i" else 0, 2**63 - 1).astype(np.int64)
    if factor < 1:
        return whole // round(1 / factor)
    if factor == 1:
        return _clip(whole)
    return np.clip(whole, -limit, limit) * int(factor)


def _clip(micros: np.ndarray) -> np.ndarray:
    """Return times that leave room for an offset; all of the clipped ones are far out of range."""
    return np.clip(micros, -(2**62), 2**62)


def _missing(values: pa.Array) -> np.ndarray:
    if values.null_count == 0:
        return np.zeros(len(values), np.uint8)
    return np.where(pc.is_null(values).to_numpy(zero_copy_only=False), TIME_MISSING, TIME_OK).astype(np.uint8)


def _to_instants(
    reading: _Reading, ok: np.ndarray, shift: np.ndarray | None, timezone: str, counts: dict[str, int]
) -> np.ndarray:
    """Return instants in microseconds; counts the local times on the way."""
    local = ok & reading.local
    micros = reading.micros
    if not local.any():
        return micros
    counts["times_without_offset"] = int(local.sum())
    if shift is not None:
        return micros - np.where(local, shift, 0) * MICROS
    whole = bool(local.all())
    chosen = micros if whole else micros[local]
    seconds = chosen // MICROS
    instants, counts["times_shown_twice"], counts["times_never_shown"] = local_to_instants(seconds, timezone)
    chosen = chosen + (instants - seconds) * MICROS
    if whole:
        return chosen
    micros[local] = chosen
    return micros


def _week_slots(micros: np.ndarray, shift: np.ndarray | None, timezone: str) -> np.ndarray:
    seconds = micros // MICROS
    if len(seconds) == 0:
        return np.zeros(0, np.uint16)
    return week_slots(seconds + (offsets_at(seconds, timezone) if shift is None else shift))
