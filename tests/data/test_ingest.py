"""Ingest from end to end: a raw log becomes a dataset that says what it holds."""

import csv
import gzip
import hashlib
from collections import Counter
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavegpt.data.ingest import find_split_problems, ingest
from behavegpt.data.logs import Columns
from behavegpt.data.manifest import Manifest
from behavegpt.data.shards import from_table, verify_dataset
from behavegpt.data.vocab import read_vocabulary
from behavegpt.data.windows import target_mask
from behavegpt.errors import InputError

COLUMNS = Columns(user="user", timestamp="time", event="event", behavior="kind", location="event")
NEW_YORK = "America/New_York"
START = 1_339_437_960
Row = tuple[str, int, str, str]


def make_rows(num_users: int = 6, num_events: int = 120) -> list[Row]:
    rng = np.random.default_rng(5)
    kinds = np.array(["Food", "Travel", "", "🙂 שלום"])
    return [
        (f"canary-{user}-raw", START + int(rng.integers(10**7)), f"e{rng.integers(40)}", str(rng.choice(kinds)))
        for user in range(num_users)
        for _ in range(num_events)
    ]


def write_csv(path: Path, rows: list[Row]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("user", "time", "event", "kind"), *rows])
    return path


def shard_digests(manifest: Manifest) -> list[str]:
    return [shard.sha256 for split in manifest.splits.values() for shard in split.shards]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return make_rows()


@pytest.fixture(scope="module")
def dataset(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ingest")
    ingest(write_csv(root / "log.csv", rows), root / "set", columns=COLUMNS, timezone=NEW_YORK)
    return root / "set"


def read_scored(directory: Path, split: str) -> list[tuple[int, int, str, str, int, int]]:
    """Return the scored targets of a split as (user, time, event, behaviour, weekday, slot), in words."""
    windows = from_table(pq.read_table(directory / split))
    rows, positions = np.nonzero(target_mask(windows.behavior, windows.first_target))
    words = {c: ["", "other", *read_vocabulary(directory / f"vocab/{c}.parquet").values] for c in ("event", "behavior")}
    at = (rows, positions)
    columns = [windows.user[rows], windows.timestamp[at]]
    columns += [np.array(words[c], object)[getattr(windows, c)[at]] for c in words]
    columns += [windows.weekday[at], windows.slot[at]]
    return list(zip(*columns, strict=True))


def test_scored_targets_are_those_of_a_plain_loop_over_the_rows(rows: list[Row], dataset: Path) -> None:
    ordered = sorted(set(rows), key=lambda row: (row[0], row[1], row[2].encode(), row[3].encode()))
    times = sorted(row[1] for row in ordered)
    cutoffs = [times[round(len(ordered) * 0.7)], times[round(len(ordered) * 0.85)]]
    known = {row[2] for row in ordered if row[1] < cutoffs[0]}
    expected: dict[str, list] = {"train": [], "val": [], "test": []}
    for previous, (user, time, event, kind) in pairwise(ordered):
        if previous[0] == user and kind:
            local = datetime.fromtimestamp(time, ZoneInfo(NEW_YORK))
            slot = local.hour * 2 + local.minute // 30 + 1
            split = "train" if time < cutoffs[0] else "val" if time < cutoffs[1] else "test"
            expected[split].append((time, event if event in known else "other", kind, local.isoweekday(), slot))
    for split, targets in expected.items():
        assert Counter(target[1:] for target in read_scored(dataset, split)) == Counter(targets)


def test_manifest_counts_what_it_holds(rows: list[Row], dataset: Path) -> None:
    manifest = verify_dataset(dataset)
    distinct = set(rows)
    assert manifest.counts["rows_read"] == len(rows)
    assert manifest.counts["duplicates"] == len(rows) - len(distinct)
    assert manifest.counts["missing_behavior"] == sum(row[3] == "" for row in distinct)
    assert sum(manifest.counts[f"events_{split}"] for split in manifest.splits) == len(distinct)
    for split, content in manifest.splits.items():
        assert content.num_targets == len(read_scored(dataset, split))
    assert manifest.source["split"] == [0.7, 0.15, 0.15]
    assert manifest.source["sha256"] == hashlib.sha256((dataset.parent / "log.csv").read_bytes()).hexdigest()


def test_order_of_the_rows_and_the_kind_of_file_leave_no_trace(rows: list[Row], dataset: Path, tmp_path: Path) -> None:
    expected = verify_dataset(dataset)
    shuffled = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
    table = pa.Table.from_pylist([dict(zip(("user", "time", "event", "kind"), row, strict=True)) for row in rows])
    pq.write_table(table, tmp_path / "log.parquet", row_group_size=100)
    for path in (write_csv(tmp_path / "shuffled.csv", shuffled), tmp_path / "log.parquet"):
        manifest = ingest(path, tmp_path / path.stem, columns=COLUMNS, timezone=NEW_YORK)
        assert shard_digests(manifest) == shard_digests(expected)
        assert (manifest.fingerprint, manifest.counts) == (expected.fingerprint, expected.counts)
        assert manifest.vocabulary_sha256 == expected.vocabulary_sha256


def test_another_seed_gives_another_order(rows: list[Row], dataset: Path, tmp_path: Path) -> None:
    manifest = ingest(dataset.parent / "log.csv", tmp_path / "set", columns=COLUMNS, timezone=NEW_YORK, seed=1)
    assert manifest.fingerprint != verify_dataset(dataset).fingerprint


def test_no_byte_of_the_dataset_names_a_user(dataset: Path, tmp_path: Path) -> None:
    contents = {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    assert len(contents) >= 7
    # Compressed pages could hide a name, so that the decoded columns are searched too.
    decoded = {path: str(pq.read_table(path).to_pydict()).encode() for path in contents if path.suffix == ".parquet"}
    assert not [path for found in (contents, decoded) for path, data in found.items() if b"canary" in data]
    assert any("🙂".encode() in data for data in decoded.values())


def test_unseen_values_are_counted_by_column_and_split(tmp_path: Path) -> None:
    # 20 events at times 0 .. 19: val begins at event 14, test at event 17.
    rows = [(f"u{i % 2}", START + i, "new" if i in (14, 18, 19) else "old", "K") for i in range(20)]
    rows[15] = (*rows[15][:3], "only in val")
    counts = ingest(write_csv(tmp_path / "log.csv", rows), tmp_path / "set", columns=COLUMNS).counts
    unseen = {name: count for name, count in counts.items() if name.startswith("other_")}
    assert unseen == {
        "other_location_val": 1,
        "other_location_test": 2,
        "other_event_val": 1,
        "other_event_test": 2,
        "other_behavior_val": 1,
        "other_behavior_test": 0,
    }
    assert read_vocabulary(tmp_path / "set/vocab/event.parquet").values == ("old",)


def test_every_wrong_argument_is_named_at_once_and_nothing_is_left(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "log.csv", make_rows(2, 5))
    columns = Columns(user="usr", timestamp="time", event="evnt")
    with pytest.raises(InputError) as error:
        ingest(path, path, columns=columns, timezone="Europe/Pariss", split=(70, 15, 15), seed=-1)
    assert [problem.split(":")[0] for problem in error.value.problems] == [
        f"--out {path}",
        "--user usr",
        "--event evnt",
        "--timezone Europe/Pariss",
        "--split 70 15 15",
        "--seed -1",
    ]
    assert list(tmp_path.iterdir()) == [path]


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


def test_split_without_a_target_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    # Four events of one instant: val cannot begin and end within it.
    rows = [("a", START, "x", "K"), ("b", START, "y", "K"), *[("a", START + 9, f"z{i}", "K") for i in range(8)]]
    rows += [("b", START + 9, "x", "K")]
    path = write_csv(tmp_path / "log.csv", rows)
    with pytest.raises(InputError) as error:
        ingest(path, tmp_path / "deep" / "set", columns=COLUMNS)
    assert [problem.split(" has")[0] for problem in error.value.problems] == [
        "--split 0.7 0.15 0.15: train",
        "--split 0.7 0.15 0.15: val",
    ]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.real_data
def test_nyc_checkins(shared_dir: Path, tmp_path: Path) -> None:
    path = shared_dir / "data" / "nyc_checkins.csv.gz"
    columns = Columns(user="user_id", timestamp="timestamp", event="poi_id", behavior="category", location="poi_id")
    manifest = ingest(path, tmp_path / "nyc", columns=columns, timezone=NEW_YORK)
    with gzip.open(path, "rt") as file:
        header, *lines = file.read().splitlines()
    distinct = [line.split(",") for line in set(lines)]
    assert header.startswith("user_id,timestamp,poi_id,category,")
    assert manifest.counts["rows_read"] == 147_938
    assert manifest.counts["duplicates"] == 147_938 - len(distinct) == 458
    assert manifest.counts["users"] == 1083
    times = sorted(line[1] for line in distinct)
    val, test = times[round(0.7 * len(times))], times[round(0.85 * len(times))]
    assert manifest.cutoffs == {"val": val.replace("Z", ":00Z"), "test": test.replace("Z", ":00Z")}
    assert sum(split.num_targets for split in manifest.splits.values()) == num_predictable(distinct)


def num_predictable(lines: list[list[str]]) -> int:
    """Return how many rows have a behaviour and an earlier row of their user; ties go by place, as in ingest."""
    first: dict[str, tuple[str, bytes]] = {}
    for user, time, place, *_ in lines:
        first[user] = min(first.get(user, ("~", b"")), (time, place.encode()))
    return sum(bool(kind) and (time, place.encode()) > first[user] for user, time, place, kind, *_ in lines)
