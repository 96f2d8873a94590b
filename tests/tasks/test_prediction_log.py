"""Histories of a raw log against a plain loop over its rows: order, ties, ids, zones, users without a usable row."""

import hmac
import random
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from behavegpt.data.ingest.executor import local_executor
from behavegpt.data.ingest.options import IngestOptions
from behavegpt.data.sources.spec import Columns, LogSpec
from behavegpt.errors import InputError
from behavegpt.tasks.prediction import log as module
from behavegpt.tasks.prediction.histories import read_slices
from behavegpt.tasks.prediction.log import LogSource, read_log

COLUMNS = Columns(user="user", timestamp="time", event="event", behavior="kind", location="place")
ZONE = "America/New_York"
VALUES = {"event": ["e3", "e0", "e1"], "location": ["p1", "p0"], "behavior": ["k"]}
"""e3 has id 2, e0 3, e1 4; p1 2, p0 3; whatever else there is, is unknown."""
Row = tuple[str, str, str, str, str]
Read = Callable[..., tuple[LogSource, dict[str, int]]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Return a reader of files of rows."""

    def read(*files: list[Row], key: bytes | None = None, memory_gb: float = 0.5, **columns: str | None):
        for index, rows in enumerate(files):
            lines = ["user,time,event,kind,place", *map(",".join, rows)]
            (tmp_path / f"{index}.csv").write_text("\n".join(lines) + "\n")
        work = tmp_path / f"work-{len(list(tmp_path.iterdir()))}"
        (work / "scattered").parent.mkdir()
        spec = LogSpec(inputs=(str(tmp_path / "*.csv"),), columns=COLUMNS, timezone=ZONE)
        options = IngestOptions(max_dropped=1.0, memory_gb=memory_gb, num_workers=2)
        return read_log(spec, VALUES, work, key=key, options=options, run=local_executor(2))

    return read


def iso(seconds: int) -> str:
    return datetime.fromtimestamp(1_700_000_000 + seconds, ZoneInfo("UTC")).strftime("%Y-%m-%dT%H:%M:%SZ")


def random_rows(num_rows: int, num_users: int) -> list[Row]:
    """Return rows in no order, with equal times, duplicates, missing places, and rows that cannot be used."""
    rng = random.Random(0)
    rows = []
    for _ in range(num_rows):
        user = f"user {int(num_users * rng.random() ** 2)}"
        place = rng.choice(["p0", "p1", "p2", ""])
        time = iso(1800 * rng.randrange(400)) if rng.random() < 0.95 else "soon"
        rows.append((user, time, f"e{rng.randrange(5)}", rng.choice(["k", "l", ""]), place))
    return [*rows, *rows[:50], ("nobody", "never", "e1", "k", "p1"), ("no one", iso(0), "", "k", "p1")]


def expected(rows: list[Row]) -> dict[str, dict[str, list[int]]]:
    """Return the last 90 events of each user in ids, by first usable row, from a loop over the rows."""
    events: dict[str, set] = {}
    for user, time, event, kind, place in rows:
        if time.endswith("Z") and event:
            events.setdefault(user, set()).add((time, event, kind, place))
    found = {}
    for user, own in events.items():
        last = sorted(own)[-90:]
        local = [datetime.fromisoformat(time).astimezone(ZoneInfo(ZONE)) for time, *_ in last]
        found[user] = {
            "weekday": [t.isoweekday() for t in local],
            "slot": [2 * t.hour + t.minute // 30 + 1 for t in local],
            "event": [{"e3": 2, "e0": 3, "e1": 4}.get(event, 1) for _, event, _, _ in last],
            "location": [{"p1": 2, "p0": 3, "": 0}.get(place, 1) for *_, place in last],
        }
    return found


def words(source: LogSource) -> dict[str, dict[str, list[int]]]:
    found = {}
    for row in pa.concat_tables(read_slices(source, 5)).to_pylist():
        user, length = row.pop("user"), row.pop("length")
        assert user not in found
        assert not any(any(ids[length:]) for ids in row.values())
        found[user] = {name: ids[:length] for name, ids in row.items()}
    return found


@pytest.mark.parametrize("memory_gb", [0.5, 2e-4])
def test_histories_are_those_of_a_plain_loop(read: Read, monkeypatch: pytest.MonkeyPatch, memory_gb: float):
    monkeypatch.setattr(module, "USERS_PER_READ", 7)
    rows = random_rows(4_000, 40)
    source, counts = read(rows[:1_500], rows[1_500:1_501], rows[1_501:], memory_gb=memory_gb)
    found, wanted = words(source), expected(rows)
    assert (len(source.buckets) > 8) == (memory_gb < 0.1)
    assert (source.num_users, source.num_reads) == (len(wanted), -(-len(wanted) // 7))
    assert found == wanted
    assert list(found) == list(wanted)
    assert counts["users"] == len(wanted)
    assert counts["users_without_usable_event"] == 2
    assert counts["rows_read"] == len(rows)
    assert (counts["missing_event"], counts["unreadable_time"]) == (1, sum(row[1] in ("soon", "never") for row in rows))


def test_a_user_appears_with_the_first_usable_row(read: Read):
    late, early = ("late", "soon", "e0", "k", "p0"), ("early", iso(1), "e0", "k", "p0")
    source, _ = read([late, early], [("late", iso(0), "e1", "k", "p1"), ("one", iso(0), "e1", "", "")])
    assert list(words(source)) == ["early", "late", "one"]
    assert words(source)["one"]["event"] == [4]


def test_with_a_key_users_are_pseudonyms_and_no_id_is_written(read: Read, tmp_path: Path):
    rows = [("canary-77", iso(0), "e0", "k", "p0")]
    source, _ = read(rows, key=bytes(range(32)))
    assert list(words(source)) == [int.from_bytes(hmac.digest(bytes(range(32)), b"canary-77", "sha256")[:8], "big")]
    scratch = [path for path in source.directory.parent.rglob("*") if path.is_file()]
    assert scratch and not any(b"canary" in path.read_bytes() for path in scratch)


def test_a_log_without_usable_rows_is_refused(read: Read):
    with pytest.raises(InputError, match="no user has a usable event"):
        read([("a", "soon", "e0", "k", "p0"), ("", iso(0), "e0", "k", "p0")])
