"""Time zones: from instants to local half hours, and from local clock times to instants.

In: an IANA name and int64 times. Out: int64 times, or half hours of the week. All of it is arithmetic on a table of the
zone's clock changes, read from `zoneinfo`: Arrow's own conversion forgets daylight saving after 2037.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

import numpy as np

from behavegpt.data.sources.spec import EARLIEST, LATEST
from behavegpt.errors import did_you_mean

MICROS = 1_000_000
DAY = 86_400
HALF_HOUR = 1800
SLOTS_PER_WEEK = 336
_FIRST_SLOT = 144
"""Half hour of the week of 1970-01-01 00:00, a Thursday."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Offsets:
    """The UTC offsets of a zone over a span of time."""

    changes: np.ndarray
    """(K,) int64 seconds since 1970 UTC of the first second under a new offset, ascending."""
    offsets: np.ndarray
    """(K + 1,) int64 seconds to add to UTC: before the first change, and from each change on."""


def find_zone_problems(timezone: str, option: str = "--timezone") -> list[str]:
    """Return the problem with the name of a time zone, if there is one."""
    zones = available_timezones() - {"localtime", "Factory"}
    if timezone in zones:
        return []
    allowed = "an IANA name such as America/New_York, or UTC"
    return [f"{option} {timezone}: not a time zone; allowed is {allowed}.{did_you_mean(timezone, zones)}"]


@lru_cache(maxsize=64)
def zone_offsets(timezone: str) -> Offsets:
    """Return the offsets of a zone over all times that a log may hold."""
    # No offset reaches two days, so the table covers local times too.
    return find_offsets(timezone, EARLIEST - 2 * DAY, LATEST + 2 * DAY)


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


def offsets_at(seconds: np.ndarray, timezone: str) -> np.ndarray:
    """Return the seconds to add to UTC at instants: (R,) int64, or a scalar array where all share one.

    Args:
        seconds: (R,) int64 since 1970 UTC, R at least 1.
    """
    table = _between(zone_offsets(timezone), int(seconds.min()), int(seconds.max()))
    if len(table.changes) == 0:
        return table.offsets[0]
    return table.offsets[np.searchsorted(table.changes, seconds, side="right")]


def week_slots(local_seconds: np.ndarray) -> np.ndarray:
    """Return the half hour of the week, uint16 from 0 on Monday 00:00 to 335, of local clock times in seconds."""
    return ((local_seconds // HALF_HOUR + _FIRST_SLOT) % SLOTS_PER_WEEK).astype(np.uint16)


def local_weekday_and_slot(seconds: np.ndarray, timezone: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the local weekday (1 Monday .. 7 Sunday) and half hour (1 from 00:00 .. 48) of instants.

    Args:
        seconds: (R,) int64 since 1970 UTC, R at least 1.
    """
    weekday, slot = np.divmod(week_slots(seconds + offsets_at(seconds, timezone)), 48)
    return (weekday + 1).astype(np.uint8), (slot + 1).astype(np.uint8)


def local_to_instants(local: np.ndarray, timezone: str) -> tuple[np.ndarray, int, int]:
    """Return the instants of local clock times, and how many of them the clock showed twice and never.

    Of two instants it takes the first; a skipped time counts on from before the change (fold 0 of PEP 495).

    Args:
        local: (R,) int64 seconds of the local clock since its 1970-01-01 00:00.
    """
    if len(local) == 0:
        return local, 0, 0
    table = _between(zone_offsets(timezone), int(local.min()) - 2 * DAY, int(local.max()) + 2 * DAY)
    if len(table.changes) == 0:
        return local - table.offsets[0], 0, 0
    before, after = table.changes + table.offsets[:-1], table.changes + table.offsets[1:]
    upcoming = np.searchsorted(np.maximum(before, after), local, side="right")
    # From here on until the upcoming change is over, the local time is one that the clock shows twice or never.
    odd_from = np.append(np.minimum(before, after), np.iinfo(np.int64).max)
    odd = upcoming[local >= odd_from[upcoming]]
    twice = int((before[odd] > after[odd]).sum())
    return local - table.offsets[upcoming], twice, len(odd) - twice


def _between(table: Offsets, first: int, last: int) -> Offsets:
    """Return the part of a table that covers the instants from `first` to `last`; a short table is a quick one."""
    low, high = np.searchsorted(table.changes, [first, last], side="right")
    return Offsets(changes=table.changes[low:high], offsets=table.offsets[low : high + 1])


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
