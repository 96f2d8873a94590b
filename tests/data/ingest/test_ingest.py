"""Ingest from end to end: a raw log becomes a dataset that says what it holds."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow.parquet as pq
import pytest

from behavegpt.data.ingest.pseudonyms import key_id
from behavegpt.data.manifest import Manifest
from behavegpt.data.sources.spec import Columns
from behavegpt.data.verify import verify_dataset
from behavegpt.data.vocab import read_vocabulary
from behavegpt.errors import InputError

NEW_YORK = "America/New_York"
START = 1_339_437_960
Row = tuple[str, int, str, str | None, str]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    rng = np.random.default_rng(5)
    kinds = ["Food", "Travel", None, "🙂 שלום"]
    return [
        (
            f"canary-{user}-raw",
            START + int(rng.integers(10**7)),
            f"e{rng.integers(40)}",
            kinds[rng.integers(4)],
            f"p{i % 9}",
        )
        for user in range(6)
        for i in range(120)
    ]


def ordered(rows: list[Row], pseudonym: Callable[[str], int]) -> list[tuple]:
    """Return the distinct rows with pseudonyms, by user and time, ties by the texts."""
    distinct = [(pseudonym(user), time, event, kind or "", place) for user, time, event, kind, place in set(rows)]
    return sorted(distinct, key=lambda row: (row[0], row[1], *(text.encode() for text in row[2:])))


def test_scored_targets_are_those_of_a_plain_loop_over_the_rows(
    rows: list[Row],
    write_log: Callable[..., Path],
    ingest_log: Callable[..., Manifest],
    read_targets: Callable[..., list],
    pseudonym: Callable[[str], int],
) -> None:
    ingest_log(write_log(rows), timezone=NEW_YORK)
    events = ordered(rows, pseudonym)
    times = sorted(row[1] for row in events)
    cutoffs = [times[round(len(events) * 0.7)], times[round(len(events) * 0.85)]]
    known = {row[2] for row in events if row[1] < cutoffs[0]}
    expected: dict[str, list] = {"train": [], "val": [], "test": []}
    for previous, (user, time, event, kind, place) in pairwise(events):
        if previous[0] == user and kind:
            local = datetime.fromtimestamp(time, ZoneInfo(NEW_YORK))
            slot = local.hour * 2 + local.minute // 30 + 1
            split = "train" if time < cutoffs[0] else "val" if time < cutoffs[1] else "test"
            named = event if event in known else "other"
            expected[split].append((user, time, named, kind, place, local.isoweekday(), slot))
    for split, targets in expected.items():
        assert Counter(read_targets(split)) == Counter(targets)


def test_manifest_counts_what_it_holds(
    rows: list[Row],
    write_log: Callable[..., Path],
    ingest_log: Callable[..., Manifest],
    read_targets: Callable[..., list],
    tmp_path: Path,
) -> None:
    ingest_log(write_log(rows), split_by="days", seed=3)
    manifest = verify_dataset(tmp_path / "set")
    distinct = set(rows)
    counts = manifest.counts
    assert counts["rows_read"] == len(rows)
    assert counts["duplicates"] == len(rows) - len(distinct)
    assert counts["missing_behavior"] == sum(row[3] is None for row in distinct)
    assert counts["events_kept"] == sum(counts[f"events_{split}"] for split in manifest.splits) == len(distinct)
    assert counts["users"] == 6
    for split, content in manifest.splits.items():
        assert content.num_targets == len(read_targets(split))
        assert content.num_users == counts[f"users_{split}"] == 6
    source = manifest.source
    assert (source["split"], source["split_by"], source["seed"]) == ([0.7, 0.15, 0.15], "days", 3)
    assert source["key_id"] == key_id(bytes(range(32)))
    moments = [datetime.fromisoformat(source[name]).timestamp() for name in ("first_event", "last_event")]
    assert moments == [min(row[1] for row in rows), max(row[1] for row in rows)]


def test_no_byte_of_the_dataset_names_a_user_or_the_key(
    rows: list[Row], write_log: Callable[..., Path], ingest_log: Callable[..., Manifest], tmp_path: Path
) -> None:
    ingest_log(write_log(rows))
    contents = {path: path.read_bytes() for path in (tmp_path / "set").rglob("*") if path.is_file()}
    assert len(contents) >= 7
    # Compressed pages could hide a name, so that the decoded columns are searched too.
    decoded = {path: str(pq.read_table(path).to_pydict()).encode() for path in contents if path.suffix == ".parquet"}
    secrets = (b"canary", bytes(range(32)), bytes(range(32)).hex().encode())
    for found in (contents, decoded):
        assert not [path for path, data in found.items() for secret in secrets if secret in data]
    assert any("🙂".encode() in data for data in decoded.values())


def test_unseen_values_are_counted_by_column_and_split(
    write_log: Callable[..., Path], ingest_log: Callable[..., Manifest], tmp_path: Path
) -> None:
    # 20 events at times 0 .. 19: val begins at event 14, test at event 17.
    values = ["new" if i in (14, 18, 19) else "only in val" if i == 15 else "old" for i in range(20)]
    rows = [(f"u{i % 2}", START + i, value, "K", value) for i, value in enumerate(values)]
    counts = ingest_log(write_log(rows)).counts
    unseen = {name: count for name, count in counts.items() if name.startswith("other_")}
    assert {name: count for name, count in unseen.items() if count} == {
        "other_location_val": 2,
        "other_location_test": 2,
        "other_event_val": 2,
        "other_event_test": 2,
    }
    assert len(unseen) == 9
    assert read_vocabulary(tmp_path / "set/vocab/event.parquet").values == ("old",)


def rows_of_many(num_common: int) -> list[Row]:
    """Return 25 users; `num_common` of them have the event and the place `common` once, each one their own twice."""
    rows: list[Row] = []
    for user in range(25):
        rows += [(f"u{user}", START + 100 * i + user, "e0", "K", "p0") for i in range(20)]
        rows += [(f"u{user}", START + i, f"own {user}", f"kind {user}", f"home {user}") for i in (1, 2)]
        rows += [(f"u{user}", START + 3, "common", "K", "common")] if user < num_common else []
    return rows


@pytest.mark.parametrize(("num_common", "known"), [(19, False), (20, True)])
def test_values_of_fewer_than_twenty_users_are_not_stored(
    write_log: Callable[..., Path],
    ingest_log: Callable[..., Manifest],
    tmp_path: Path,
    num_common: int,
    known: bool,
) -> None:
    counts = ingest_log(write_log(rows_of_many(num_common)), min_users=20).counts
    for column, usual in (("event", "e0"), ("location", "p0")):
        values = read_vocabulary(tmp_path / "set" / "vocab" / f"{column}.parquet").values
        assert values == ((usual, "common") if known else (usual,))
        assert counts[f"rare_{column}_values"] == 25 + (not known)
        assert counts[f"rare_{column}_events"] == counts[f"other_{column}_train"] == 50 + (not known) * num_common
    # Behaviours of their own column are classes that the user chose; none is folded.
    behaviors = read_vocabulary(tmp_path / "set" / "vocab" / "behavior.parquet").values
    assert len(behaviors) == 26
    assert counts["rare_behavior_values"] == 0


def test_an_event_of_few_users_keeps_its_behaviour(
    write_log: Callable[..., Path],
    ingest_log: Callable[..., Manifest],
    read_targets: Callable[..., list],
    tmp_path: Path,
) -> None:
    # Each of 4 users has an own event of Food, one has an own event of Travel and one has no kind.
    rows = [
        (f"u{u}", START + 100 * i + u, *(("e0", "K") if i % 3 else (f"own {u}", "Food")), "p")
        for u in range(4)
        for i in range(20)
    ]
    rows += [("u0", START + 7, "trip", "Travel", "p"), ("u1", START + 8, "blank", None, "p")]
    rows += [("u2", START + 1990, "never seen", "Food", "p"), ("u3", START + 1991, "never seen", "Opera", "p")]
    counts = ingest_log(write_log(rows), min_users=4).counts
    assert read_vocabulary(tmp_path / "set/vocab/event.parquet").values == ("e0", "other: Food")
    shown = Counter(
        (event, kind) for split in ("train", "val", "test") for *_, event, kind, _, _, _ in read_targets(split)
    )
    assert shown == {("e0", "K"): 52, ("other: Food", "Food"): 25, ("other", "Travel"): 1, ("other", "other"): 1}
    assert counts["rare_event_values"] == 6
    assert [counts[f"other_event_{split}"] for split in ("train", "val", "test")] == [2, 0, 1]
    assert counts["folded_event_behaviors"] == 1


def test_behaviours_that_are_the_events_fold_as_the_events_do(
    write_log: Callable[..., Path], ingest_log: Callable[..., Manifest], tmp_path: Path
) -> None:
    for name, behavior in (("without", None), ("same", "event")):
        columns = Columns(user="user", timestamp="time", event="event", behavior=behavior)
        counts = ingest_log(write_log(rows_of_many(20)), name=name, columns=columns, min_users=20).counts
        for column in ("event", "behavior"):
            assert read_vocabulary(tmp_path / name / f"vocab/{column}.parquet").values == ("e0", "common")
        assert counts["other_behavior_train"] == counts["other_event_train"] == 50
        assert counts["rare_location_values"] == 0


def test_no_event_of_enough_users_is_refused(
    write_log: Callable[..., Path], ingest_log: Callable[..., Manifest]
) -> None:
    with pytest.raises(InputError, match="--min-users 26: no event is seen by so many users"):
        ingest_log(write_log(rows_of_many(20)), min_users=26)


def test_held_out_behaviours_are_neither_input_nor_target(
    rows: list[Row],
    write_log: Callable[..., Path],
    ingest_log: Callable[..., Manifest],
    read_targets: Callable[..., list],
    tmp_path: Path,
) -> None:
    held_out = {"Food", "🙂 שלום"}
    counts = ingest_log(write_log(rows), hold_out_behaviors=tuple(held_out)).counts
    ingest_log(write_log([row for row in rows if row[3] not in held_out], "rest.csv"), name="rest")
    assert counts["held_out_behavior"] == sum(row[3] in held_out for row in rows)
    for split in ("train", "val", "test"):
        assert Counter(read_targets(split)) == Counter(read_targets(split, "rest"))
    assert read_vocabulary(tmp_path / "set/vocab/behavior.parquet").values == ("Travel",)


def test_every_wrong_argument_is_named_at_once_and_nothing_is_left(
    rows: list[Row], write_log: Callable[..., Path], ingest_log: Callable[..., Manifest], tmp_path: Path
) -> None:
    path = write_log(rows)
    before = sorted(tmp_path.rglob("*"))
    columns = Columns(user="usr", timestamp="time", event="evnt")
    wrong = {"split": (70, 15, 15), "seed": -1, "min_users": 0, "max_dropped": 5.0, "memory_gb": 0, "num_workers": 0}
    with pytest.raises(InputError) as error:
        ingest_log(path, name="log.csv", columns=columns, timezone="Europe/Pariss", **wrong, key_file=path)
    flags = [problem.split(":")[0].split()[0] for problem in error.value.problems]
    options = ["--split", "--min-users", "--max-dropped", "--memory-gb", "--num-workers", "--seed", "--key-file"]
    assert flags[0] == "--out"
    assert sorted(flags[1:4]) == ["--event", "--timezone", "--user"]
    assert flags[4:] == options
    assert sorted(tmp_path.rglob("*")) == before


def test_split_without_a_target_is_named_and_nothing_is_left(
    write_log: Callable[..., Path], ingest_log: Callable[..., Manifest], tmp_path: Path
) -> None:
    # All events at two instants: train and val cannot lie between them.
    rows = [("a", START, "x", "K", "p"), ("b", START, "y", "K", "p"), ("b", START + 9, "x", "K", "p")]
    path = write_log([*rows, *[("a", START + 9, f"z{i}", "K", "p") for i in range(8)]])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as error:
        ingest_log(path, name="deep/set")
    assert [problem.split(" has")[0] for problem in error.value.problems] == [
        "--split 0.7 0.15 0.15: train",
        "--split 0.7 0.15 0.15: val",
    ]
    assert sorted(tmp_path.rglob("*")) == before


def test_key_is_made_beside_the_dataset_once_and_used_again(
    rows: list[Row], write_log: Callable[..., Path], ingest_log: Callable[..., Manifest], tmp_path: Path
) -> None:
    path = write_log(rows)
    key = tmp_path / "user.key"
    first = ingest_log(path, name="first", key_file=None)
    assert key.stat().st_mode & 0o777 == 0o600
    second = ingest_log(path, name="second", key_file=None)
    other = ingest_log(path, name="other", key_file=tmp_path / "other.key")
    assert first.fingerprint == second.fingerprint != other.fingerprint
