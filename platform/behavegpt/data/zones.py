"""Time zones: from instants to local weekdays and slots, and from local clock times to instants.

In: an IANA name and int64 times. Out: int64 times. All of it is arithmetic on a table of the zone's clock changes, read
from `zoneinfo`: Arrow's own conversion forgets daylight saving after 2037.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

import numpy as np

from behavegpt.errors import did_you_mean

DAY = 86_400
HALF_HOUR = 1800


@dataclass(frozen=True, kw_only=True, slots=True)
class Offsets:
    """The UTC offsets of a zone over a span of time."""

    changes: np.ndarray
    """(K,) int64 seconds since 1970 UTC of the first second under a new offset, ascending."""
    offsets: np.ndarray
    """(K + 1,) int64 seconds to add to UTC: before the first change, and from each change on."""


def find_zone_problems(timezone: str) -> list[str]:
    """Return the problem with the name of a time zone, if there is one."""
    zones = available_timezones() - {"localtime", "Factory"}
    if timezone in zones:
        return []
    allowed = "an IANA name such as America/New_York, or UTC"
    return [f"--timezone {timezone}: not a time zone; allowed is {allowed}.{did_you_mean(timezone, zones)}"]


def find_offsets(timezone: str, first: int, last: int) -> Offsets:
    """Return the offsets from `first` to `last`, seconds since 1970 UTC, each clock change found to the second.

    Looks once a day, so that two changes within a day that cancel out would go unseen; no zone has made such.
    """
    zone = ZoneInfo(timezone)
    probes = [*range(first, last, DAY), last]
    offsets = [_offset(zone, probe) for probe in probes]
    changed = [i for i in range(1, len(probes)) if offsets[i] != offsets[i - 1]]
    changes = [_bisect(zone, probes[i - 1], probes[i]) for i in changed]
    return Offsets(
        changes=np.array(changes, np.int64), offsets=np.array([offsets[0], *(offsets[i] for i in changed)], np.int64)
    )


def local_weekday_and_slot(seconds: np.ndarray, timezone: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the local weekday (1 Monday .. 7 Sunday) and half hour (1 from 00:00 .. 48) of instants.

    Args:
        seconds: (R,) int64 since 1970 UTC, R at least 1.
    """
    table = find_offsets(timezone, int(seconds.min()), int(seconds.max()))
    local = seconds + table.offsets[np.searchsorted(table.changes, seconds, side="right")]
    days, second_of_day = np.divmod(local, DAY)
    # 1970-01-01 was a Thursday, weekday 4.
    return ((days + 3) % 7 + 1).astype(np.uint8), (second_of_day // HALF_HOUR + 1).astype(np.uint8)


def local_to_instants(local: np.ndarray, timezone: str) -> tuple[np.ndarray, int, int]:
    """Return the instants of local clock times, and how many of them the clock showed twice and never.

    Of two instants it takes the first; a skipped time counts on from before the change (fold 0 of PEP 495).

    Args:
        local: (R,) int64 seconds of the local clock since its 1970-01-01 00:00.
    """
    if len(local) == 0:
        return local, 0, 0
    # No offset reaches two days, so the table covers the instants.
    table = find_offsets(timezone, int(local.min()) - 2 * DAY, int(local.max()) + 2 * DAY)
    before, after = table.changes + table.offsets[:-1], table.changes + table.offsets[1:]
    instants = local - table.offsets[np.searchsorted(np.maximum(before, after), local, side="right")]
    return instants, _count_within(local, after, before), _count_within(local, before, after)


def _count_within(local: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> int:
    """Return how many times lie in one of the spans start <= time < end; a span that ends before its start is empty."""
    ordered = np.sort(local)
    inside = np.searchsorted(ordered, ends) - np.searchsorted(ordered, starts)
    return int(np.maximum(inside, 0).sum())


def _offset(zone: ZoneInfo, second: int) -> int:
    offset = datetime.fromtimestamp(second, UTC).astimezone(zone).utcoffset()
    assert offset is not None
    return round(offset.total_seconds())


def _bisect(zone: ZoneInfo, low: int, high: int) -> int:
    """Return the first second in (low, high] whose offset is that of `high`, where `low` has another."""
    target = _offset(zone, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _offset(zone, middle) == target else (middle, high)
    return high
