"""Splits: the shares are exact, and nothing that is scored lies before its cutoff, nothing learned after it."""

import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavegpt.data.ingest.batches import write_columns
from behavegpt.data.ingest.clean import Cleaned
from behavegpt.data.ingest.cut import gather_windows, place_windows
from behavegpt.data.ingest.executor import local_executor
from behavegpt.data.ingest.split import Bounds, SplitBy, find_bounds, find_split_problems
from behavegpt.data.manifest import Manifest
from behavegpt.data.windows import from_table, target_mask

SHARES = (0.7, 0.15, 0.15)
BY: tuple[SplitBy, ...] = ("events", "days", "time", "users")
Buckets = list[dict[int, list[int]]]
"""User -> times of the events, ascending, of every bucket; users ascend over all buckets."""


def bounds_of(buckets: Buckets, by: SplitBy, timezone: str = "UTC", split: tuple = SHARES) -> Bounds:
    """Write the buckets as cleaning does and return their bounds."""
    with tempfile.TemporaryDirectory() as name:
        cleaned = [_write(Path(name), i, bucket) for i, bucket in enumerate(buckets)]
        return find_bounds(cleaned, Path(name), split=split, by=by, timezone=timezone, run=local_executor(2))


def _write(directory: Path, index: int, bucket: dict[int, list[int]]) -> Cleaned:
    seconds = np.array([time for times in bucket.values() for time in times])
    write_columns(directory / f"{index:06d}.rows", {"seconds": seconds, "event": np.zeros(len(seconds), np.int32)})
    users = {"user": np.array(list(bucket), np.uint64), "num_events": np.array([len(t) for t in bucket.values()])}
    write_columns(directory / f"{index:06d}.users", users)
    hours = seconds // 3600
    return Cleaned(
        index=index,
        counts={},
        first_hour=int(hours.min()),
        events_per_hour=np.bincount(hours - hours.min()),
        first=int(seconds.min()),
        last=int(seconds.max()),
        num_users=len(bucket),
    )


@st.composite
def bucket_lists(draw: st.DrawFn) -> Buckets:
    """Draw up to 12 users in up to 3 buckets, with ties in time."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    span = draw(st.sampled_from([3, 5_000, 40 * 86_400]))
    users = np.unique(rng.integers(0, 2**64, 12, np.uint64)).tolist()
    users = users[: draw(st.integers(2, 12))]
    histories = {u: np.sort(rng.integers(0, span, rng.integers(2, 120)) + 1_339_437_960).tolist() for u in users}
    cuts = sorted(rng.integers(0, len(users) + 1, 2).tolist())
    parts = [users[: cuts[0]], users[cuts[0] : cuts[1]], users[cuts[1] :]]
    return [{user: histories[user] for user in part} for part in parts if part]


def ranks(total: int) -> tuple[int, int]:
    """Return where 70 % and 85 % of `total` end; where that leaves a split empty, the nearest that leaves it one."""
    val, test = (min(round(total * share), total - 1) for share in (0.7, 0.85))
    if total < 3:
        return val, test
    best = min(
        ((v, t) for v in range(1, total) for t in range(v + 1, total)),
        key=lambda vt: abs(vt[0] - val) + abs(vt[1] - test),
    )
    return best


@settings(deadline=None)  # the machine may be busy
@given(bucket_lists(), st.sampled_from(BY))
def test_no_target_precedes_its_cutoff_and_no_training_event_follows_it(buckets: Buckets, by: SplitBy) -> None:
    bounds = bounds_of(buckets, by)
    histories = {user: times for bucket in buckets for user, times in bucket.items()}
    users, num_events = np.array(list(histories), np.uint64), np.array([len(times) for times in histories.values()])
    seconds = np.concatenate(list(histories.values()))
    placed, _ = place_windows(num_events, bounds.split_of(seconds, users, num_events), np.ones(len(seconds), bool))
    ids = dict.fromkeys(("weekday", "slot", "location", "event", "behavior"), np.ones(len(seconds), np.uint8))
    train, val, test = (gather_windows({**ids, "timestamp": seconds}, users, part) for part in placed)
    if by == "users":
        parts = [set(part.user.tolist()) for part in (train, val, test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == len(users)
        assert sum(int(part.num_targets().sum()) for part in (train, val, test)) == len(seconds) - len(users)
        return
    filled = [part.behavior > 0 for part in (train, val, test)]
    scored = [target_mask(part.behavior, part.first_target) for part in (train, val, test)]
    assert (train.timestamp[filled[0]] < bounds.val).all()
    assert (val.timestamp[filled[1]] < bounds.test).all()
    assert (val.timestamp[scored[1]] >= bounds.val).all()
    assert (test.timestamp[scored[2]] >= bounds.test).all()
    assert sum(int(mask.sum()) for mask in scored) == len(seconds) - len(users)


@settings(deadline=None)  # the machine may be busy
@given(bucket_lists())
def test_cutoffs_by_events_are_those_of_all_times_sorted(buckets: Buckets) -> None:
    ordered = sorted(time for bucket in buckets for times in bucket.values() for time in times)
    found = bounds_of(buckets, "events")
    expected = [ordered[rank] for rank in ranks(len(ordered))]
    assert [found.val, found.test] == expected


@settings(deadline=None)  # the machine may be busy
@given(bucket_lists())
def test_bounds_by_users_are_those_of_all_pseudonyms_sorted(buckets: Buckets) -> None:
    ordered = sorted(user for bucket in buckets for user in bucket)
    found = bounds_of(buckets, "users")
    expected = [ordered[rank] for rank in ranks(len(ordered))]
    assert [found.val, found.test] == expected
    assert found.cutoffs() == {}


def test_events_of_one_instant_go_to_the_later_side() -> None:
    # 70 % of 10 events is event 7, at time 5; 85 % is event 8 (8.5 rounds to even), at time 8.
    found = bounds_of([{1: [0, 1, 2, 3, 4, 5, 5, 5, 8, 9]}], "events")
    assert (found.val, found.test) == (5, 8)
    split = found.split_of(np.array([4, 5, 7, 8, 9]), np.array([1], np.uint64), np.array([5]))
    assert split.tolist() == [0, 1, 1, 2, 2]


def test_by_time_the_shares_are_of_the_span() -> None:
    # 60/10/30 of the 1,000 seconds from 100 to 1,100, wherever the events lie.
    found = bounds_of([{1: [100, 101, 102]}, {2: [103, 1100]}], "time", split=(0.6, 0.1, 0.3))
    assert (found.val, found.test) == (700, 800)


def test_by_days_the_splits_begin_at_local_midnights() -> None:
    zone = ZoneInfo("America/New_York")

    def at(day: int, hour: int) -> int:
        return int(datetime(2012, 3, day, hour, tzinfo=zone).timestamp())

    # 20 local days, 2 to 21 March: 14 train, 3 val, 3 test. Clocks change on the 11th; in UTC, 23:00 is the next day.
    found = bounds_of([{1: [at(2, 0), at(10, 12), at(21, 23)]}], "days", timezone="America/New_York")
    assert (found.val, found.test) == (at(16, 0), at(19, 0))
    assert found.cutoffs() == {"val": "2012-03-16T04:00:00Z", "test": "2012-03-19T04:00:00Z"}


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ((0.7, 0.2, 0.2), "add up to 1, not 1.1."),
        ((1.0, 0.0, 0.0), "three shares above 0"),
        ((0.5, 0.7, -0.2), "three shares above 0"),
        ((float("nan"), 0.5, 0.5), "not nan"),
        ((70, 15, 15), "Did you mean 0.7 0.15 0.15?"),
    ],
)
def test_wrong_shares_are_refused(split: tuple[float, float, float], said: str) -> None:
    assert said in find_split_problems(split)[0]


@pytest.mark.parametrize("by", BY)
def test_shards_keep_what_the_split_promises(
    write_log: Callable[..., Path], ingest_log: Callable[..., Manifest], tmp_path: Path, by: SplitBy
) -> None:
    rng = np.random.default_rng(1)
    rows = [
        (f"u{rng.integers(30)}", 1_339_437_960 + int(rng.integers(40 * 86_400)), f"e{rng.integers(9)}", "K", "p")
        for _ in range(6000)
    ]
    manifest = ingest_log(write_log(rows), split_by=by, split=(0.6, 0.1, 0.3))
    parts = {name: from_table(pq.read_table(tmp_path / "set" / name)) for name in ("train", "val", "test")}
    users = {name: set(part.user.tolist()) for name, part in parts.items()}
    assert {name: len(found) for name, found in users.items()} == {n: s.num_users for n, s in manifest.splits.items()}
    if by == "users":
        assert [len(found) for found in users.values()] == [18, 3, 9]
        assert len(set.union(*users.values())) == 30
        assert manifest.cutoffs == {}
        return
    begins = {name: datetime.fromisoformat(text).timestamp() for name, text in manifest.cutoffs.items()}
    assert parts["train"].timestamp.max() < begins["val"]
    assert parts["val"].timestamp.max() < begins["test"]
    for name in ("val", "test"):
        scored = target_mask(parts[name].behavior, parts[name].first_target)
        assert parts[name].timestamp[scored].min() >= begins[name]
        assert (parts[name].first_target > 1).any()  # the windows look back
