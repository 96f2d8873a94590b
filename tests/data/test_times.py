"""Times: text, epoch numbers and Arrow timestamps become instants; instants become local weekdays and slots."""

from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavegpt.data.logs import Log
from behavegpt.data.times import Times, TimeUnit, read_times
from behavegpt.data.zones import find_zone_problems, local_weekday_and_slot
from behavegpt.errors import InputError

NEW_YORK = "America/New_York"


def read(values: pa.Array | list, unit: TimeUnit = "auto", timezone: str = "UTC") -> Times:
    table = pa.table({"when": values})
    return read_times(Log(path=Path("log.csv"), table=table, first_row=2), "when", unit=unit, timezone=timezone)


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


@pytest.mark.parametrize(
    ("instant", "weekday", "slot"),
    [
        ("2012-03-11T06:59:59+00:00", 7, 4),  # 01:59:59 EST, the last second before the clock goes to 03:00
        ("2012-03-11T07:00:00+00:00", 7, 7),  # 03:00:00 EDT
        ("2012-11-04T03:59:59+00:00", 6, 48),  # Saturday 23:59:59 EDT
        ("2012-11-04T04:00:00+00:00", 7, 1),  # Sunday 00:00 EDT
        ("2012-11-04T05:30:00+00:00", 7, 4),  # 01:30 EDT, for the first time
        ("2012-11-04T06:30:00+00:00", 7, 4),  # 01:30 EST, for the second time
        ("2012-11-04T07:00:00+00:00", 7, 5),  # 02:00 EST
        ("2012-11-05T05:00:00+00:00", 1, 1),  # Monday 00:00 EST
        ("2012-07-04T16:29:59+00:00", 3, 25),  # Wednesday 12:29:59 EDT
    ],
)
def test_weekday_and_slot_in_new_york_around_the_clock_changes(instant: str, weekday: int, slot: int) -> None:
    got = local_weekday_and_slot(np.array([seconds(instant)]), NEW_YORK)
    assert [int(column[0]) for column in got] == [weekday, slot]


@settings(deadline=None)  # the machine may be busy
@given(
    st.integers(31_536_000, 4_060_000_000),
    st.lists(st.integers(0, 35_000_000), min_size=1, max_size=5),
    st.sampled_from([NEW_YORK, "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "Europe/Dublin", "UTC"]),
)
def test_weekday_and_slot_agree_with_the_standard_library(start: int, later: list[int], timezone: str) -> None:
    instants = [start + seconds for seconds in later]
    local = [datetime.fromtimestamp(instant, ZoneInfo(timezone)) for instant in instants]
    weekday, slot = local_weekday_and_slot(np.array(instants), timezone)
    assert weekday.tolist() == [time.isoweekday() for time in local]
    assert slot.tolist() == [time.hour * 2 + time.minute // 30 + 1 for time in local]


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2012-06-11T18:06Z", 1_339_437_960_000_000),
        (" 2012-06-11 18:06:00 ", 1_339_437_960_000_000),
        ("2012-06-11T20:06:00.25+02:00", 1_339_437_960_250_000),
        ("2012-06-11T13:06:00.123456789-0500", 1_339_437_960_123_456),
        ("2012-06-11", 1_339_372_800_000_000),
        ("1339437960", 1_339_437_960_000_000),
        ("1339437960.5", 1_339_437_960_500_000),
    ],
)
def test_text_is_read_as_iso_8601_or_epoch_seconds(text: str, micros: int) -> None:
    assert read([text]).micros.tolist() == [micros]


@pytest.mark.parametrize(
    ("number", "unit"),
    [
        (1_339_437_960, "s"),
        (1_339_437_960_000, "ms"),
        (1_339_437_960_000_000, "us"),
        (1_339_437_960_000_000_999, "ns"),
    ],
)
def test_numbers_are_read_in_the_unit_given(number: int, unit: TimeUnit) -> None:
    assert read([number], unit=unit).micros.tolist() == [1_339_437_960_000_000]
    assert read([str(number)], unit=unit).micros.tolist() == [1_339_437_960_000_000]


def test_parquet_times_keep_their_instant_and_naive_ones_are_local() -> None:
    aware = pa.array([datetime(2012, 6, 11, 18, 6, tzinfo=UTC)], pa.timestamp("ns", tz=NEW_YORK))
    naive = pa.array([datetime(2012, 6, 11, 14, 6)], pa.timestamp("ms"))
    assert read(aware, timezone="Asia/Tokyo").micros.tolist() == [1_339_437_960_000_000]
    assert read(naive, timezone=NEW_YORK).micros.tolist() == [1_339_437_960_000_000]
    assert read(pa.array([date(2012, 6, 11)])).micros.tolist() == [1_339_372_800_000_000]
    assert read(pa.array([1.5e9, float("nan")])).missing.tolist() == [False, True]


def test_text_without_offset_is_local_and_the_odd_hours_are_counted() -> None:
    times = read(
        ["2012-06-11T14:06", "2012-11-04T01:30", "2012-03-11T02:30", "2012-11-04T01:30Z", "", None], timezone=NEW_YORK
    )
    expected = ["2012-06-11T18:06", "2012-11-04T05:30", "2012-03-11T07:30", "2012-11-04T01:30"]
    assert (times.micros[:4] // 1_000_000).tolist() == [seconds(f"{text}+00:00") for text in expected]
    assert times.missing.tolist() == [False, False, False, False, True, True]
    assert times.counts == {"times_without_offset": 3, "times_shown_twice": 1, "times_never_shown": 1}


@settings(deadline=None)  # the machine may be busy
@given(st.datetimes(datetime(1971, 1, 2), datetime(2099, 1, 1)), st.sampled_from([NEW_YORK, "Australia/Lord_Howe"]))
def test_local_text_agrees_with_the_standard_library(local: datetime, timezone: str) -> None:
    expected = local.replace(tzinfo=ZoneInfo(timezone)) - datetime(1970, 1, 1, tzinfo=UTC)
    micros = (expected.days * 86_400 + expected.seconds) * 1_000_000 + expected.microseconds
    assert read([local.isoformat()], timezone=timezone).micros.tolist() == [micros]


@pytest.mark.parametrize(
    ("values", "unit", "year", "remedy"),
    [
        ([1_339_437_960_000], "auto", "44415", "pass --time-unit ms"),
        (["1339437960000"], "s", "44415", "pass --time-unit ms"),
        ([1_339_437_960], "ms", "1970", "pass --time-unit s"),
        ([1_339_437_960_000_000], "ms", "44415", "pass --time-unit us"),
        ([1_339_437_960_000_000_000], "us", "44415", "pass --time-unit ns"),
        ([1_339_437_960, 20_120_611], "s", "1971", "no unit fits all rows"),
        ([1_339_437_960.0, float("inf")], "s", "inf", "no unit fits all rows"),
    ],
)
def test_wrong_unit_names_the_value_its_meaning_and_the_unit_that_fits(values, unit, year, remedy) -> None:
    with pytest.raises(InputError) as error:
        read(values, unit=unit)
    message = str(error.value)
    assert message.startswith(f"log.csv: column 'when', row {len(values) + 1}: {values[-1]} read as ")
    assert f"would be in the year {year}," in message
    assert remedy in message


@pytest.mark.parametrize(
    ("values", "row", "shown"),
    [
        (["2012-06-11T18:06Z"] * 5 + ["2012-02-30T10:00Z"] + ["2012-06-11T18:06Z"] * 4, 7, "2012-02-30T10:00Z"),
        (["2012-06-11T18:06", "Tue Apr 03 18:00:09 +0000 2012"], 3, "Tue Apr 03 18:00:09 +0000 2012"),
        (["06/11/2012 18:06"], 2, "06/11/2012 18:06"),
        (["1339437960", "", "2012-06-11T18:06Z"], 4, "2012-06-11T18:06Z"),
        (["2012-06-11T18:06Z", "1339437960"], 3, "1339437960"),
    ],
)
def test_unreadable_time_names_row_and_value(values: list[str], row: int, shown: str) -> None:
    with pytest.raises(InputError, match=f"column 'when', row {row}: ") as error:
        read(values)
    assert repr(shown) in str(error.value)


@pytest.mark.parametrize("text", ["1970-01-01T00:00Z", "0001-01-01", "9999-12-31T23:59"])
def test_text_outside_the_years_is_refused_with_its_row(text: str) -> None:
    with pytest.raises(InputError, match=f"row 3: the year {text[:4]} is outside 1971 to 2100"):
        read(["2012-06-11T18:06Z", text])


@pytest.mark.parametrize("values", [["2012-06-11T18:06Z"], pa.array([0], pa.timestamp("s"))])
def test_unit_with_a_column_that_holds_no_numbers_is_refused(values) -> None:
    with pytest.raises(InputError, match=r"--time-unit ms: column 'when' of log\.csv holds"):
        read(values, unit="ms")


def test_column_that_cannot_hold_a_time_is_refused() -> None:
    with pytest.raises(InputError, match="has type bool"):
        read([True])


def test_unknown_zone_names_the_nearest() -> None:
    assert find_zone_problems(NEW_YORK) == []
    assert "Did you mean 'America/New_York'?" in find_zone_problems("America/NewYork")[0]
    assert find_zone_problems("localtime") != []
