"""Tell how a log writes its times from the first rows of every file.

In: samples of time columns. Out: the unit, or what is contradictory about it. The years 1971 to 2100 in seconds,
milliseconds, microseconds, nanoseconds and as YYYYMMDDHHMMSS are five ranges of numbers without overlap.
"""

# Arrow makes its compute functions at import, where a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavegpt.data.sources.spec import TimeUnit
from behavegpt.data.sources.time_text import NUMBER, parse_iso, rewrite_ctime
from behavegpt.data.sources.times import classify_numbers

_ALLOWED = "allowed are ISO 8601 such as 2012-06-11T18:06Z, epoch numbers and YYYYMMDDHHMMSS"


def find_units(cells: pa.Array) -> dict[TimeUnit, int]:
    """Return unit -> index of the first cell that is a time from 1971 to 2100 written so; empty where no cell is."""
    if pa.types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    if pa.types.is_timestamp(cells.type) or pa.types.is_date(cells.type):
        return {"iso": 0}
    if pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type):
        return classify_numbers(_floats(cells))
    if not (pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type)):
        return {}
    text = pc.utf8_trim_whitespace(cells.cast(pa.string()))
    numbers = pc.if_else(pc.match_substring_regex(text, NUMBER), text, None).cast(pa.float64())
    found = classify_numbers(_floats(numbers))
    as_iso: dict[TimeUnit, pa.Array] = {"iso": text, "ctime": rewrite_ctime(text)}
    for unit, texts in as_iso.items():
        aware, naive = parse_iso(texts)
        rows = np.flatnonzero(np.asarray(aware.is_valid()) | np.asarray(naive.is_valid()))
        if len(rows):
            found[unit] = int(rows[0])
    return found


def choose_unit(
    declared: TimeUnit, samples: list[tuple[str, int, pa.Array]], column: str
) -> tuple[TimeUnit | None, list[str]]:
    """Return the unit of the log, and the problem where there is none.

    Args:
        samples: Of every file: its name, the number of the sample's first row, and the first cells of the time column.
    """
    seen: dict[TimeUnit, str] = {}
    for file, first_row, cells in samples:
        for unit, row in find_units(cells).items():
            seen.setdefault(unit, f"{file}, row {first_row + row}")
    if declared != "auto":
        return declared, _contradiction(declared, seen, column)
    if len(seen) == 1:
        return next(iter(seen)), []
    if seen:
        shown = "; ".join(f"{unit} in {where}" for unit, where in seen.items())
        return None, [
            f"--timestamp {column}: the first rows disagree on how times are written ({shown}); say --time-unit"
        ]
    return None, [f"--timestamp {column}: {_unreadable(samples)}"]


def first_type(cells: pa.Array | None, unit: TimeUnit) -> pa.DataType:
    """Return the type as which the parser of CSV may read times like the first ones; text where there is none."""
    if cells is None or len(cells) == 0:
        return pa.string()
    candidates = [pa.timestamp("us"), pa.timestamp("us", tz="UTC")] if unit == "iso" else [pa.int64()]
    if unit in ("s", "ms"):
        # A double holds seconds and milliseconds of these years to the microsecond, and nothing finer.
        candidates.append(pa.float64())
    present = pc.if_else(pc.equal(cells, ""), None, cells)
    for kind in candidates:
        try:
            present.cast(kind)
        except pa.ArrowInvalid:
            continue
        return pa.string() if unit == "ctime" else kind
    return pa.string()


def _contradiction(declared: TimeUnit, seen: dict[TimeUnit, str], column: str) -> list[str]:
    if not seen or declared in seen:
        return []
    unit, where = next(iter(seen.items()))
    return [f"--time-unit {declared}: no time in column {column!r} fits; {where} is {unit}, so pass --time-unit {unit}"]


def _unreadable(samples: list[tuple[str, int, pa.Array]]) -> str:
    for file, first_row, cells in samples:
        valid = np.flatnonzero(np.asarray(cells.is_valid()))
        if len(valid):
            shown = _shape(str(cells[int(valid[0])].as_py())[:40])
            return (
                f"no time from 1971 to 2100 in the first rows of any file; {file}, row {first_row + valid[0]} has "
                f"text like {shown!r}; {_ALLOWED}"
            )
    return f"no time in the first rows of any file; {_ALLOWED}"


def _shape(text: str) -> str:
    """Return a text with 9 for every digit and a for every letter: the column may be one of user ids."""
    return "".join("9" if c.isdigit() else c if c in " +-,./:" else "a" for c in text)


def _floats(cells: pa.Array) -> np.ndarray:
    return pc.fill_null(cells.cast(pa.float64(), safe=False), np.nan).to_numpy(zero_copy_only=False)
