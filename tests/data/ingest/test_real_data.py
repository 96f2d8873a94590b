"""The real logs: what is known about their files, recounted here with plain Python."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from behavegpt.data.manifest import Manifest
from behavegpt.data.sources.spec import Columns

pytestmark = pytest.mark.real_data


def read_lines(path: Path) -> list[list[str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        _, *lines = file.read().splitlines()
    return [line.split(",") for line in lines]


def num_predictable(lines: list[tuple[str, str, str, str]]) -> int:
    """Return how many rows have a behaviour and an earlier row of their user; ties go by event, as in ingest.

    Args:
        lines: Distinct rows of user, time (that sorts as text), event and behaviour.
    """
    first: dict[str, tuple[str, bytes]] = {}
    for user, time, event, _ in lines:
        first[user] = min(first.get(user, ("~", b"")), (time, event.encode()))
    return sum(bool(kind) and (time, event.encode()) > first[user] for user, time, event, kind in lines)


def test_nyc_checkins(shared_dir: Path, ingest_log: Callable[..., Manifest]) -> None:
    path = shared_dir / "data" / "nyc_checkins.csv.gz"
    columns = Columns(user="user_id", timestamp="timestamp", event="poi_id", behavior="category", location="poi_id")
    manifest = ingest_log(path, columns=columns, timezone="America/New_York", min_users=20, max_dropped=0.0)
    distinct = sorted({tuple(line) for line in read_lines(path)})
    counts = manifest.counts
    assert counts["rows_read"] == 147_938
    assert counts["duplicates"] == 147_938 - len(distinct) == 458
    assert counts["users"] == 1083
    times = sorted(line[1] for line in distinct)
    val, test = times[round(0.7 * len(times))], times[round(0.85 * len(times))]
    assert manifest.cutoffs == {"val": val.replace("Z", ":00Z"), "test": test.replace("Z", ":00Z")}
    targets = num_predictable([(line[0], line[1], line[2], line[3]) for line in distinct])
    assert sum(split.num_targets for split in manifest.splits.values()) == targets
    users_of: dict[str, set[str]] = {}
    for user, time, place, *_ in distinct:
        if time < val:
            users_of.setdefault(place, set()).add(user)
    assert counts["rare_event_values"] == sum(len(users) < 20 for users in users_of.values())
    known = {place for place, users in users_of.items() if len(users) >= 20}
    folding: dict[str, set[str]] = {}
    for user, time, place, category, *_ in distinct:
        if time < val and place not in known and category:
            folding.setdefault(category, set()).add(user)
    assert counts["folded_event_behaviors"] == sum(len(users) >= 20 for users in folding.values())
    assert manifest.vocabulary_sizes["event"] == len(known) + counts["folded_event_behaviors"] + 2


def test_mathoverflow(shared_dir: Path, ingest_log: Callable[..., Manifest]) -> None:
    path = shared_dir / "data" / "mathoverflow_interactions.csv.gz"
    columns = Columns(user="user_id", timestamp="unix_time", event="interaction", location="target_user")
    manifest = ingest_log(path, columns=columns, min_users=20, max_dropped=0.0)
    lines = read_lines(path)
    distinct = sorted({tuple(line) for line in lines})
    events_of: dict[str, int] = {}
    for user, *_ in distinct:
        events_of[user] = events_of.get(user, 0) + 1
    several = sum(count > 1 for count in events_of.values())
    assert manifest.counts["rows_read"] == len(lines) == 506_550
    assert manifest.counts["users"] + manifest.counts["users_with_one_event"] == len(events_of) == 19_774
    assert manifest.counts["users"] == several
    assert manifest.counts["duplicates"] == len(lines) - len(distinct)
    assert manifest.vocabulary_sizes["event"] == 5  # a2q, c2a, c2q, padding and other
    targets = sum(split.num_targets for split in manifest.splits.values())
    assert targets == len(distinct) - len(events_of)  # every event but each user's first
