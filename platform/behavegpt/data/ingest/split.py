"""Pass 3: where train, val and test begin, so that what a model learns from lies before what it is scored on.

In: what cleaning found in every bucket. Out: two bounds; an event belongs to the split of the number of bounds that it
does not precede. The bounds are instants, or for a split by users pseudonyms: all of a user's history on one side.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np

from behavegpt.data.ingest.batches import read_part
from behavegpt.data.ingest.clean import HOUR_S, Cleaned
from behavegpt.data.ingest.executor import Executor

Shares = tuple[float, float, float]
SplitBy = Literal["events", "days", "time", "users"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Where val and test begin."""

    by_user: bool
    val: int
    """Seconds since 1970 UTC, or a pseudonym."""
    test: int

    def split_of(self, seconds: np.ndarray, users: np.ndarray, num_events: np.ndarray) -> np.ndarray:
        """Return (R,) the index into SPLITS of each event.

        Args:
            seconds: (R,) times, in the order of the users.
            users: (U,) uint64 pseudonyms.
            num_events: (U,) of each user.
        """
        if self.by_user:
            of_user = (users >= np.uint64(self.val)).astype(np.uint8) + (users >= np.uint64(self.test))
            return np.repeat(of_user, num_events)
        return (seconds >= self.val).astype(np.uint8) + (seconds >= self.test)

    def cutoffs(self) -> dict[str, str]:
        """Return the instants as the manifest has them; a split by users has none."""
        return {} if self.by_user else {"val": iso(self.val), "test": iso(self.test)}

    def said(self) -> str:
        """Return where the splits begin, for a message."""
        if self.by_user:
            return "the split is by users"
        return f"val begins at {iso(self.val)}, test at {iso(self.test)}"


def find_split_problems(split: Shares) -> list[str]:
    """Return the problem with the shares of train, val and test, if there is one."""
    if all(share > 0 for share in split) and math.isclose(sum(split), 1, abs_tol=1e-6):
        return []
    shown = " ".join(f"{share:g}" for share in split)
    hint = " Did you mean 0.7 0.15 0.15?" if math.isclose(sum(split), 100, abs_tol=1e-3) else ""
    return [f"--split {shown}: must be three shares above 0 that add up to 1, not {sum(split):g}.{hint}"]


def find_bounds(
    cleaned: Sequence[Cleaned], directory: Path, *, split: Shares, by: SplitBy, timezone: str, run: Executor
) -> Bounds:
    """Return where val and test begin.

    Args:
        cleaned: Of every bucket, in the order of the buckets, which is that of the pseudonyms.
        directory: Where the clean buckets lie.
        by: What the shares are shares of: the events in order of time, the local calendar days or the span of time
            between the first and the last event, or the users in order of their pseudonyms. Events of one instant all
            go to the later side.
        timezone: In which days begin.
    """
    shares = (split[0], split[0] + split[1])
    present = [bucket for bucket in cleaned if bucket.num_users]
    first, last = min(c.first for c in present), max(c.last for c in present)
    if by == "events":
        val, test = _at_ranks(present, directory, shares, run)
    elif by == "users":
        val, test = _users_at_ranks(present, directory, shares)
    elif by == "time":
        val, test = (first + round((last - first) * share) for share in shares)
    else:
        val, test = _days_at(first, last, shares, timezone)
    return Bounds(by_user=by == "users", val=val, test=test)


def _ranks(total: int, shares: tuple[float, float]) -> list[int]:
    """Return where val and test begin among `total` things in order; of three or more, each split gets one."""
    val = min(max(round(total * shares[0]), 1), max(total - 2, 1), total - 1)
    return [val, min(max(round(total * shares[1]), val + 1), total - 1)]


def _at_ranks(cleaned: Sequence[Cleaned], directory: Path, shares: tuple[float, float], run: Executor) -> list[int]:
    """Return the times of the events at the shares' ranks: exact, from the hours that hold them."""
    start = min(bucket.first_hour for bucket in cleaned)
    num_hours = max(bucket.first_hour + len(bucket.events_per_hour) for bucket in cleaned) - start
    events_per_hour = np.zeros(num_hours, np.int64)
    for bucket in cleaned:
        offset = bucket.first_hour - start
        events_per_hour[offset : offset + len(bucket.events_per_hour)] += bucket.events_per_hour
    up_to = np.cumsum(events_per_hour)
    ranks = _ranks(int(up_to[-1]), shares)
    hours = np.searchsorted(up_to, ranks, side="right")
    task: Callable[[int], np.ndarray] = partial(_count_seconds, directory, (hours + start).tolist())
    per_second = sum(run(task, [bucket.index for bucket in cleaned], "find the cutoffs"), np.zeros((2, HOUR_S), int))
    found = []
    for rank, hour, counts in zip(ranks, hours.tolist(), per_second, strict=True):
        within = rank - int(up_to[hour] - events_per_hour[hour])
        found.append((hour + start) * HOUR_S + int(np.searchsorted(np.cumsum(counts), within, side="right")))
    return found


def _count_seconds(directory: Path, hours: list[int], index: int) -> np.ndarray:
    """Return (2, 3600) the number of a bucket's events in each second of the two hours."""
    seconds = read_part(directory / f"{index:06d}.rows", columns=["seconds"])["seconds"]
    offsets = (seconds - hour * HOUR_S for hour in hours)
    return np.stack([np.bincount(o[(o >= 0) & (o < HOUR_S)], minlength=HOUR_S) for o in offsets])


def _users_at_ranks(cleaned: Sequence[Cleaned], directory: Path, shares: tuple[float, float]) -> list[int]:
    up_to = np.cumsum([bucket.num_users for bucket in cleaned])
    found = []
    for rank in _ranks(int(up_to[-1]), shares):
        bucket = int(np.searchsorted(up_to, rank, side="right"))
        users = read_part(directory / f"{cleaned[bucket].index:06d}.users")["user"]
        found.append(int(users[rank - int(up_to[bucket]) + len(users)]))
    return found


def _days_at(first: int, last: int, shares: tuple[float, float], timezone: str) -> list[int]:
    zone = ZoneInfo(timezone)
    first_day, last_day = (datetime.fromtimestamp(instant, zone).date() for instant in (first, last))
    num_days = (last_day - first_day).days + 1
    return [_midnight(first_day + timedelta(days=day), zone) for day in _ranks(num_days, shares)]


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def iso(seconds: int) -> str:
    """Return an instant as ISO 8601 UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
