"""Times: text, numbers and Arrow timestamps become instants, or a reason why there is none."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavegpt.data.sources.spec import LATEST, TimeUnit
from behavegpt.data.sources.times import (
    TIME_BAD_OFFSET,
    TIME_MISSING,
    TIME_OK,
    TIME_OUT_OF_RANGE,
    TIME_UNREADABLE,
    Clock,
    Times,
    classify_numbers,
    read_times,
)
from behavegpt.data.sources.units import choose_unit, first_type

NEW_YORK = "America/New_York"
OK, MISSING, UNREADABLE, OUTSIDE = TIME_OK, TIME_MISSING, TIME_UNREADABLE, TIME_OUT_OF_RANGE


def read(values: pa.Array | list, unit: TimeUnit = "iso", timezone: str = "UTC", offsets: list | None = None) -> Times:
    clock = Clock(unit=unit, timezone=timezone, latest=LATEST)
    minutes = None if offsets is None else np.array(offsets, float)
    return read_times(values if isinstance(values, pa.Array) else pa.array(values), clock, minutes)


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2012-06-11T18:06Z", 1_339_437_960_000_000),
        (" 2012-06-11 18:06:00 ", 1_339_437_960_000_000),
        ("2012-06-11T20:06:00.25+02:00", 1_339_437_960_250_000),
        ("2012-06-11T13:06:00.123456789-0500", 1_339_437_960_123_456),
        ("2012-06-11T18:06:00.123456789", 1_339_437_960_123_456),
        ("2012-06-11T18", 1_339_437_600_000_000),
        ("2012-06-11", 1_339_372_800_000_000),
    ],
)
def test_iso_text_is_read_alone_and_beside_text_that_is_no_time(text: str, micros: int) -> None:
    assert read([text]).micros.tolist() == [micros]
    assert read([text, "?"]).micros.tolist() == [micros, 0]


@pytest.mark.parametrize(
    "text",
    [
        "2012-02-30T10:00Z",
        "2012-13-01",
        "2012-06-11T24:00",
        "2012-06-11 18:06:60",
        "06/11/2012 18:06",
        "1339437960",
        "Tue Apr 03 18:00:09 +0000 2012",
        "2012-06-11T18:06+25:00",
        "2012-06-11T18:06Z\n2012-06-11",
        "\u0662\u0660\u0661\u0662-\u0660\u0666-\u0661\u0661",
        "\0",
        "x",
    ],
)
def test_text_that_is_no_time_is_unreadable_and_its_neighbours_are_not(text: str) -> None:
    times = read(["2012-06-11T18:06Z", text, "2012-06-11"])
    assert times.status.tolist() == [OK, UNREADABLE, OK]


def test_years_that_no_log_has_are_out_of_range() -> None:
    times = read(["1970-12-31T23:59:59Z", "1971-01-01T00:00Z", "0001-01-01", "9999-12-31", "2099-12-31", "2100-01-01"])
    assert times.status.tolist() == [OUTSIDE, OK, OUTSIDE, OUTSIDE, OK, OUTSIDE]
    clock = Clock(unit="s", timezone="UTC", latest=1_600_000_000)
    assert read_times(pa.array([1_599_999_999, 1_600_000_000]), clock).status.tolist() == [OK, OUTSIDE]


@pytest.mark.parametrize(
    ("number", "unit"),
    [
        (1_339_437_960, "s"),
        (1_339_437_960_000, "ms"),
        (1_339_437_960_000_000, "us"),
        (1_339_437_960_000_000_999, "ns"),
        (20120611180600, "yyyymmddhhmmss"),
    ],
)
def test_numbers_are_read_in_their_unit_which_their_size_tells(number: int, unit: TimeUnit) -> None:
    assert read([number], unit=unit).micros.tolist() == [1_339_437_960_000_000]
    assert read([str(number)], unit=unit).micros.tolist() == [1_339_437_960_000_000]
    assert classify_numbers(np.array([5.0, float(number)])) == {unit: 1}


@pytest.mark.parametrize("as_text", [False, True])
def test_numbers_of_any_size_are_out_of_range_and_never_wrap_around(as_text: bool) -> None:
    numbers = [-(2**63), 2**63 - 1, 0, -1, 4_291_747_200, 10**12, 1_339_437_960]
    values = pa.array(numbers).cast(pa.string()) if as_text else pa.array(numbers)
    # As text, -2**63 has more digits than a time may.
    first = UNREADABLE if as_text else OUTSIDE
    assert read(values, unit="s").status.tolist() == [first, UNREADABLE if as_text else OUTSIDE, *[OUTSIDE] * 4, OK]
    assert read(pa.array([2**64 - 1], pa.uint64()), unit="ms").status.tolist() == [OUTSIDE]


def test_fractions_blanks_and_words_among_numbers() -> None:
    times = read(["1339437960.5", "", "soon", "1339437960", None, "1e9"], unit="s")
    assert times.micros.tolist()[0] == 1_339_437_960_500_000
    assert times.status.tolist() == [OK, MISSING, UNREADABLE, OK, MISSING, UNREADABLE]
    floats = read(pa.array([1.5e9, float("nan"), float("inf"), None]), unit="s")
    assert floats.status.tolist() == [OK, MISSING, OUTSIDE, MISSING]


@pytest.mark.parametrize(
    "number",
    [20160231093015, 20161301000000, 20160420240000, 20160420006000, 20160420000060, 20160420, 0, 99999999999999],
)
def test_digits_that_are_no_date_are_unreadable(number: int) -> None:
    assert read([20160229093015, number], unit="yyyymmddhhmmss").status.tolist() == [OK, UNREADABLE]


def test_ctime_is_read_by_its_own_offset() -> None:
    values = [
        "Tue Apr 03 18:00:09 +0000 2012",
        "Tue Apr 03 20:00:09 +0200 2012",
        "Fri Feb 30 18:00:09 +0000 2012",
        "",
        "x",
    ]
    times = read(values, unit="ctime", timezone=NEW_YORK)
    assert times.micros.tolist()[:2] == [1_333_476_009_000_000] * 2
    assert times.status.tolist() == [OK, OK, UNREADABLE, MISSING, UNREADABLE]
    # 14:00:09 EDT on a Tuesday.
    assert times.week_slot[0] == 48 + 28


def test_parquet_times_keep_their_instant_and_naive_ones_are_local() -> None:
    aware = pa.array([datetime(2012, 6, 11, 18, 6, tzinfo=UTC)], pa.timestamp("ns", tz=NEW_YORK))
    naive = pa.array([datetime(2012, 6, 11, 14, 6)], pa.timestamp("ms"))
    assert read(aware, timezone="Asia/Tokyo").micros.tolist() == [1_339_437_960_000_000]
    assert read(naive, timezone=NEW_YORK).micros.tolist() == [1_339_437_960_000_000]
    assert read(pa.array([date(2012, 6, 11)])).micros.tolist() == [1_339_372_800_000_000]
    assert read(pa.array([2**62, -(2**62), None], pa.timestamp("s"))).status.tolist() == [OUTSIDE, OUTSIDE, MISSING]


def test_text_without_offset_is_local_and_the_odd_hours_are_counted() -> None:
    values = ["2012-06-11T14:06", "2012-11-04T01:30", "2012-03-11T02:30", "2012-11-04T01:30Z", "", None]
    times = read(values, timezone=NEW_YORK)
    expected = ["2012-06-11T18:06", "2012-11-04T05:30", "2012-03-11T07:30", "2012-11-04T01:30"]
    assert (times.micros[:4] // 1_000_000).tolist() == [seconds(f"{text}+00:00") for text in expected]
    assert times.status.tolist() == [OK, OK, OK, OK, MISSING, MISSING]
    counts = {"times_without_offset": 3, "times_shown_twice": 1, "times_never_shown": 1, "unusable_offsets": 0}
    assert times.counts == counts


def test_offset_of_the_row_beats_the_zone() -> None:
    values = ["2012-04-03T18:00:00Z", "2012-04-03T14:00:00", "2012-04-03T18:00:00Z"]
    times = read(values, timezone="Asia/Tokyo", offsets=[-240, -240, np.nan])
    assert times.micros.tolist() == [1_333_476_000_000_000, 1_333_476_000_000_000, 0]
    # Both are 14:00 on a Tuesday there.
    assert times.week_slot.tolist() == [76, 76, 0]
    assert times.status.tolist() == [OK, OK, TIME_BAD_OFFSET]
    assert times.counts["unusable_offsets"] == 1


@settings(deadline=None)  # the machine may be busy
@given(st.datetimes(datetime(1971, 1, 2), datetime(2099, 1, 1)), st.sampled_from([NEW_YORK, "Australia/Lord_Howe"]))
def test_local_text_agrees_with_the_standard_library(local: datetime, timezone: str) -> None:
    # Text does not say which of two equal times it means, or on which side of a gap it stands: the first is taken.
    expected = local.replace(tzinfo=ZoneInfo(timezone), fold=0) - datetime(1970, 1, 1, tzinfo=UTC)
    micros = (expected.days * 86_400 + expected.seconds) * 1_000_000 + expected.microseconds
    assert read([local.isoformat()], timezone=timezone).micros.tolist() == [micros]
    there = datetime.fromtimestamp(micros // 1_000_000, ZoneInfo(timezone))
    slot = there.weekday() * 48 + there.hour * 2 + there.minute // 30
    assert read([local.isoformat()], timezone=timezone).week_slot.tolist() == [slot]


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.text(max_size=30) | st.datetimes().map(str) | st.integers().map(str), max_size=5))
def test_any_text_gets_a_status(values: list[str]) -> None:
    for unit in ("iso", "ctime", "s", "ns", "yyyymmddhhmmss"):
        assert len(read(pa.array(values, pa.string()), unit=unit).status) == len(values)


def test_first_rows_tell_the_unit_and_may_not_disagree() -> None:
    seconds_, millis = pa.array(["1339437960", "", "?"]), pa.array([1_339_437_960_000])
    assert choose_unit("auto", [("a", 2, seconds_), ("b", 2, pa.array([""]))], "t") == ("s", [])
    assert choose_unit("auto", [("a", 2, pa.array(["2012-06-11"]))], "t") == ("iso", [])
    (problem,) = choose_unit("auto", [("a", 2, seconds_), ("b", 2, millis)], "t")[1]
    assert "s in a, row 2; ms in b, row 2" in problem and "--time-unit" in problem
    (problem,) = choose_unit("ms", [("a", 2, pa.array(["", "1339437960"]))], "t")[1]
    assert "a, row 3 is s, so pass --time-unit s" in problem
    (problem,) = choose_unit("auto", [("a", 2, pa.array(["yesterday"]))], "t")[1]
    assert "a, row 2 has text like 'aaaaaaaaa'" in problem
    (problem,) = choose_unit("s", [("a", 1, pa.array([0], pa.timestamp("s")))], "t")[1]
    assert "pass --time-unit iso" in problem


def test_csv_reads_times_as_what_the_first_ones_are() -> None:
    assert first_type(pa.array(["1339437960", ""]), "s") == pa.int64()
    assert first_type(pa.array(["1339437960.5"]), "s") == pa.float64()
    assert first_type(pa.array(["1339437960000000.5"]), "us") == pa.string()
    assert first_type(pa.array(["2012-06-11 18:06"]), "iso") == pa.timestamp("us")
    assert first_type(pa.array(["2012-06-11T18:06Z"]), "iso") == pa.timestamp("us", tz="UTC")
    assert first_type(pa.array(["2012-06-11T18:06Z", "2012-06-11"]), "iso") == pa.string()
