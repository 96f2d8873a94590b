"""Read times as text without stopping at the first that is none.

In: text columns. Out: Arrow timestamps, null where the text is not a time.
"""

# Arrow makes its compute functions at import, where a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NUMBER = r"^-?[0-8]?\d{1,18}(\.\d+)?$"
"""Of a size that int64 holds."""
OFFSET = r":\d{2}.*(Z|[+-]\d{2}(:?\d{2})?)$"
"""The end of an ISO 8601 text that says how far it is from UTC."""
_ISO = (
    r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"([ T]([01]\d|2[0-3])(:[0-5]\d(:[0-5]\d(\.\d+)?)?)?)?$"
)
_ZONE = r"^(.*:\d{2}.*?)(Z|[+-]\d{2}(:?\d{2})?)$"
_ZONE_IN_RANGE = r"(Z|[+-]([01]\d|2[0-3])(:?[0-5]\d)?)$"
_CTIME = r"^[A-Z][a-z]{2} +([A-Z][a-z]{2}) +(\d{1,2}) +(\d{2}:\d{2}:\d{2}) +([+-]\d{4}) +(\d{4})$"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


_AWARE, _NAIVE = pa.timestamp("us", tz="UTC"), pa.timestamp("us")
_STRIDE = 1 << 16
"""Rows cast in one go; only where that fails are they looked at one by one."""


def parse_iso(values: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return ISO 8601 texts as instants and as local times, in microseconds; each row is in one of the two at most."""
    parts = [_parse_stride(values[i : i + _STRIDE]) for i in range(0, len(values), _STRIDE)]
    aware = pa.chunked_array([aware for aware, _ in parts], _AWARE)
    naive = pa.chunked_array([naive for _, naive in parts], _NAIVE)
    return aware.combine_chunks(), naive.combine_chunks()


def _parse_stride(values: pa.Array) -> tuple[pa.Array, pa.Array]:
    try:
        return pa.nulls(len(values), _AWARE), values.cast(_NAIVE)
    except pa.ArrowInvalid:
        pass
    try:
        return values.cast(_AWARE), pa.nulls(len(values), _NAIVE)
    except pa.ArrowInvalid:
        return _parse_rows(values)


def _parse_rows(values: pa.Array) -> tuple[pa.Array, pa.Array]:
    values = pc.replace_substring_regex(values, r"(\.\d{6})\d+", r"\1")
    with_offset = pc.match_substring_regex(values, OFFSET)
    body = pc.if_else(with_offset, pc.replace_substring_regex(values, _ZONE, r"\1"), values)
    good = pc.and_(pc.match_substring_regex(body, _ISO), _day_exists(body))
    aware = pc.and_(pc.and_(good, with_offset), pc.match_substring_regex(values, _ZONE_IN_RANGE))
    naive = pc.and_not(good, with_offset)
    return (
        pc.if_else(aware, values, None).cast(_AWARE),
        pc.if_else(naive, values, None).cast(_NAIVE),
    )


def rewrite_ctime(values: pa.Array) -> pa.Array:
    """Return texts such as `Tue Apr 03 18:00:09 +0000 2012` in ISO 8601; others become ''-like text that is no time."""
    good = pc.match_substring_regex(values, _CTIME)
    parts = [pc.replace_substring_regex(pc.if_else(good, values, None), _CTIME, rf"\{i}") for i in range(1, 6)]
    month_name, day, clock, offset, year = parts
    numbers = pa.array([f"{i:02d}" for i in range(1, 13)])
    month = numbers.take(pc.index_in(month_name, pa.array(_MONTHS)))
    date = pc.binary_join_element_wise(year, month, pc.utf8_lpad(day, 2, "0"), "-")
    text = pc.binary_join_element_wise(pc.binary_join_element_wise(date, clock, "T"), offset, "")
    return pc.if_else(pc.is_valid(values), pc.fill_null(text, "not a time"), None)


def _day_exists(body: pa.Array) -> pa.Array:
    """Return whether the month of a text that begins as a date has that day; 30 February has not."""
    dates = pc.if_else(pc.match_substring_regex(body, r"^\d{4}-\d{2}-\d{2}"), body, None)
    year, month, day = (
        pc.fill_null(pc.utf8_slice_codeunits(dates, start, stop).cast(pa.int64()), 1).to_numpy(zero_copy_only=False)
        for start, stop in ((0, 4), (5, 7), (8, 10))
    )
    start = (year - 1970).astype("M8[Y]").astype("M8[M]") + (month - 1).clip(0, 11)
    length = ((start + 1).astype("M8[D]") - start.astype("M8[D]")).astype(np.int64)
    return pa.array(day <= length)
