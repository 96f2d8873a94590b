"""Zones: instants become local weekdays and slots, local clock times become instants."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavegpt.data.sources.zones import find_zone_problems, local_to_instants, local_weekday_and_slot, week_slots

NEW_YORK = "America/New_York"
ZONES = [NEW_YORK, "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "Europe/Dublin", "UTC"]


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


def test_slots_of_the_week_begin_on_monday() -> None:
    # 1970-01-05 was the first Monday.
    monday = 4 * 86_400
    assert week_slots(np.array([monday, monday + 1799, monday + 1800, monday - 1])).tolist() == [0, 0, 1, 335]


@settings(deadline=None)  # the machine may be busy
@given(
    st.integers(31_536_000, 4_060_000_000),
    st.lists(st.integers(0, 35_000_000), min_size=1, max_size=5),
    st.sampled_from(ZONES),
)
def test_weekday_and_slot_agree_with_the_standard_library(start: int, later: list[int], timezone: str) -> None:
    instants = [start + seconds for seconds in later]
    local = [datetime.fromtimestamp(instant, ZoneInfo(timezone)) for instant in instants]
    weekday, slot = local_weekday_and_slot(np.array(instants), timezone)
    assert weekday.tolist() == [time.isoweekday() for time in local]
    assert slot.tolist() == [time.hour * 2 + time.minute // 30 + 1 for time in local]


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.datetimes(datetime(1971, 1, 2), datetime(2099, 1, 1)), max_size=5), st.sampled_from(ZONES))
def test_local_times_agree_with_the_standard_library(times: list[datetime], timezone: str) -> None:
    zone = ZoneInfo(timezone)
    local = np.array([time.replace(microsecond=0, tzinfo=UTC).timestamp() for time in times], np.int64)
    instants, twice, never = local_to_instants(local, timezone)
    aware = [time.replace(microsecond=0, tzinfo=zone) for time in times]
    assert instants.tolist() == [int(time.timestamp()) for time in aware]
    # The gap between the two readings of a time is positive where it is shown twice, negative where never.
    gaps = [time.replace(fold=1).timestamp() - time.replace(fold=0).timestamp() for time in aware]
    assert twice == sum(gap > 0 for gap in gaps)
    assert never == sum(gap < 0 for gap in gaps)


def test_unknown_zone_names_the_nearest() -> None:
    assert find_zone_problems(NEW_YORK) == []
    assert "Did you mean 'America/New_York'?" in find_zone_problems("America/NewYork")[0]
    assert find_zone_problems("localtime") != []
