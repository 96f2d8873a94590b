"""Forgetting: the users' windows leave, everything else stays as it was, and what is counted is counted again."""

# Arrow makes its compute functions at import, where a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from behavegpt.data.forget import forget, read_ids, read_pseudonyms
from behavegpt.data.forget.rewrite import search_users
from behavegpt.data.manifest import Manifest, read_manifest
from behavegpt.data.verify import verify_dataset
from behavegpt.data.vocab import read_vocabulary
from behavegpt.errors import DirectoryBusyError, InputError
from behavegpt.lease import lease
from behavegpt.schema import SHARD_SHIFT, SPLIT_SHIFT, SPLITS, VOCABULARIES

from .conftest import NUM_USERS, ONLY_ONE, TEST, VAL, Log, name_of, pseudonym

pytestmark = pytest.mark.usefixtures("without_card")
ReadSplit = Callable[[Path, Manifest, str], list[pa.Table]]


def run(log: Log, *users: int) -> Manifest:
    pseudonyms = np.array([pseudonym(user) for user in users], np.uint64)
    return forget(log.directory, pseudonyms, [f"number {u}" for u in users], on_commit=lambda _: None)[1]


def without_ids(table: pa.Table) -> pa.Table:
    return table.drop_columns("window_id")


def test_the_users_windows_leave_and_the_others_stay_in_their_order(log: Log, read_split: ReadSplit) -> None:
    gone = [3, 41]
    before = {split: read_split(log.directory, log.manifest, split) for split in SPLITS}
    after = run(log, *gone)
    assert verify_dataset(log.directory) == after == read_manifest(log.directory)
    assert after.replaces == (log.manifest.fingerprint,)
    assert after.fingerprint != log.manifest.fingerprint
    users = pa.array([pseudonym(user) for user in gone], pa.uint64())
    for number, split in enumerate(SPLITS):
        now = read_split(log.directory, after, split)
        assert len(now) == len(before[split])
        for index, (old, new) in enumerate(zip(before[split], now, strict=True)):
            expected = old.filter(pc.invert(pc.is_in(old["user"], users)))
            assert without_ids(new).equals(without_ids(expected))
            first = (number << SPLIT_SHIFT) + (index << SHARD_SHIFT)
            assert new["window_id"].to_pylist() == list(range(first, first + len(new)))


def test_shards_without_the_users_keep_their_files(log: Log) -> None:
    user = 3
    holding = {
        shard.path
        for split in log.manifest.splits.values()
        for shard in split.shards
        if pseudonym(user) in pq.read_table(log.directory / shard.path)["user"].to_pylist()
    }
    every = {shard.path for split in log.manifest.splits.values() for shard in split.shards}
    assert 0 < len(holding) < len(every)
    untouched = {path: (log.directory / path).stat() for path in every - holding}
    after = run(log, user)
    now = {shard.path for split in after.splits.values() for shard in split.shards}
    assert now == (every - holding) | {f"r1/{path}" for path in holding}
    assert all((log.directory / path).stat() == stat for path, stat in untouched.items())
    found = {p.relative_to(log.directory).as_posix() for p in log.directory.rglob("*.parquet")}
    assert found == now | {f"r1/vocab/{column}.parquet" for column in VOCABULARIES}


def test_counts_are_those_of_the_users_who_stay(log: Log) -> None:
    gone = {3, 41}
    after = run(log, *gone)
    events = log.events_of(gone)
    side = {at: SPLITS[(time >= VAL) + (time >= TEST)] for at, (time, _) in events.items()}
    less = {
        "users": 2,
        "events_kept": len(events),
        "missing_behavior": sum(not e["behavior"] for _, e in events.values()),
    }
    for split in SPLITS:
        less[f"events_{split}"] = sum(s == split for s in side.values())
        less[f"users_{split}"] = len({w[1] for w in log.windows if w[0] == split and w[1] in gone})
        for column in VOCABULARIES:
            less[f"other_{column}_{split}"] = sum(
                side[at] == split and ids[column] == 1 for at, (_, ids) in events.items()
            )
        kept = [w for w in log.windows if w[0] == split and w[1] not in gone]
        content = after.splits[split]
        assert content.num_windows == len(kept) == sum(s.num_windows for s in content.shards)
        assert content.num_users == len({w[1] for w in kept})
        assert content.num_targets == sum(
            bool(log.histories[w[1]][i][1]["behavior"]) for w in kept for i in w[3][w[4] :]
        )
    assert len({side[at] for at in events}) == 3
    assert min(less.values()) > 0
    assert after.counts == {name: count - less.get(name, 0) for name, count in log.manifest.counts.items()} | {
        "forgotten_users": 2,
        "forgotten_events": len(events),
    }


def test_vocabularies_lose_the_users_training_events_and_a_value_of_theirs_alone_its_text(log: Log) -> None:
    after = run(log, ONLY_ONE)
    training = [ids for time, ids in log.events_of({ONLY_ONE}).values() if time < VAL]
    for column, before in log.vocabularies.items():
        now = read_vocabulary(log.directory / after.vocabulary_path(column))
        expected = [
            count - sum(ids[column] == 2 + index for ids in training) for index, count in enumerate(before.counts)
        ]
        assert list(now.counts) == expected
        assert now.values == tuple(value if count else "" for value, count in zip(before.values, expected, strict=True))
    assert read_vocabulary(log.directory / after.vocabulary_path("behavior")).values == ("K", "L", "M", "")
    assert after.vocabulary_sizes == log.manifest.vocabulary_sizes


def test_forgetting_again_and_a_shard_without_windows(log: Log, read_split: ReadSplit) -> None:
    first = log.manifest.splits["test"].shards[0]
    of_shard = set(pq.read_table(log.directory / first.path)["user"].to_pylist())
    leaving = [user for user in range(NUM_USERS) if pseudonym(user) in of_shard]
    half = len(leaving) // 2
    between = run(log, *leaving[:half])
    after = run(log, *leaving[half:])
    assert verify_dataset(log.directory) == after
    assert after.replaces == (log.manifest.fingerprint, between.fingerprint)
    assert after.counts["forgotten_users"] == len(leaving)
    empty, *others = read_split(log.directory, after, "test")
    assert len(empty) == 0
    assert sum(len(table) for table in others) == after.splits["test"].num_windows > 0
    assert after.splits["test"].shards[0].path.startswith("r2/test/")
    remaining = set().union(*(t["user"].to_pylist() for s in SPLITS for t in read_split(log.directory, after, s)))
    assert remaining == {pseudonym(user) for user in range(NUM_USERS)} - {pseudonym(user) for user in leaving}


def test_an_unknown_user_is_named_by_place_and_nothing_changes(log: Log) -> None:
    before = {path: path.stat().st_mtime_ns for path in log.directory.rglob("*")}
    users = np.array([pseudonym(3), pseudonym(1_000)], np.uint64)
    with pytest.raises(InputError) as error:
        forget(log.directory, users, ["--user, number 1", "--user, number 2"], on_commit=lambda _: None)
    assert error.value.problems == ("--user, number 2: no window has that user",)
    assert {path: path.stat().st_mtime_ns for path in log.directory.rglob("*")} == before


def test_a_split_that_would_be_empty_is_refused(log: Log) -> None:
    everyone = [user for user in range(NUM_USERS) if any(w[1] == user and w[0] == "test" for w in log.windows)]
    with pytest.raises(InputError, match="test would have no window left"):
        run(log, *everyone)
    assert verify_dataset(log.directory) == log.manifest


def test_a_damaged_shard_gets_no_new_checksum(log: Log) -> None:
    user, shard = 3, log.manifest.splits["train"].shards[0]
    table = pq.read_table(log.directory / shard.path)
    user = next(u for u in range(NUM_USERS) if pseudonym(u) in table["user"].to_pylist())
    content = bytearray((log.directory / shard.path).read_bytes())
    at = len(content) // 3  # among the stream's columns, which the search does not read
    content[at] ^= 1
    (log.directory / shard.path).write_bytes(content)
    with pytest.raises(InputError, match=r"train/part-00000\.parquet"):
        run(log, user)
    assert read_manifest(log.directory) == log.manifest
    assert not (log.directory / "r1").exists()


def test_a_shard_that_is_a_link_is_refused(log: Log, tmp_path: Path) -> None:
    path = log.directory / log.manifest.splits["val"].shards[0].path
    path.rename(tmp_path / "elsewhere.parquet")
    path.symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(InputError, match="is a link"):
        run(log, 3)


def test_one_at_a_time(log: Log) -> None:
    with (
        lease(log.directory, lock=log.directory.parent / f".{log.directory.name}.lock"),
        pytest.raises(DirectoryBusyError, match=str(log.directory)),
    ):
        run(log, 3)


def test_a_file_that_is_not_ours_stays_and_is_named(log: Log) -> None:
    foreign = log.directory / "train" / "part-00999.parquet"
    foreign.write_bytes(b"somebody's")
    run(log, 3)
    with pytest.raises(InputError) as error:
        verify_dataset(log.directory)
    assert [problem.split(":")[0] for problem in error.value.problems] == [str(foreign)]


def test_files_keep_their_modes(log: Log) -> None:
    for path in [log.directory, *log.directory.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
    run(log, 3)
    modes = {path.stat().st_mode & 0o777 for path in (log.directory / "r1").rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert (log.directory / "r1").stat().st_mode & 0o777 == 0o700


def test_ids_come_from_both_places_once_and_exactly(tmp_path: Path) -> None:
    path = tmp_path / "leaving.txt"
    path.write_bytes("a\r\n\n 00012 \nü\u2028x\n🐤".encode())
    ids = read_ids(["b", "a"], path)
    assert ids == {
        "b": "--user, number 1",
        "a": "--user, number 2",
        " 00012 ": f"--users-file {path}, line 3",
        "ü\u2028x": f"--users-file {path}, line 4",
        "🐤": f"--users-file {path}, line 5",
    }


@pytest.mark.parametrize("content", [None, b"", b"\n \n", b"canary\xff\n"])
def test_ids_that_cannot_be_read_are_refused_unrepeated(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "leaving.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_ids([], path)
    assert "canary" not in str(error.value)
    with pytest.raises(InputError, match="number 1: is not UTF-8") as error:
        read_ids(["canary\udcff"], None)
    assert "canary" not in str(error.value)


def test_users_are_found_under_the_key_of_the_dataset_alone(log: Log, key_file: Path, tmp_path: Path) -> None:
    ids = [name_of(3), name_of(4)]
    found = read_pseudonyms(ids, key_file, log.directory, log.manifest)
    assert found.tolist() == [pseudonym(3), pseudonym(4)]
    assert search_users(log.directory, log.manifest, found).found.tolist() == [True, True]
    other = tmp_path / "other.key"
    other.touch(mode=0o600)
    other.write_text("ab" * 32)
    inside = log.directory / "user.key"
    inside.touch(mode=0o600)
    inside.write_text(key_file.read_text())
    garbled, shown, missing = tmp_path / "garbled.key", tmp_path / "shown.key", tmp_path / "missing.key"
    garbled.touch(mode=0o600)
    garbled.write_text("xyz")
    shown.write_text(key_file.read_text())
    shown.chmod(0o644)
    said = {
        other: "is key",
        inside: "lies inside",
        garbled: "not a key",
        shown: "others may read it",
        missing: "does not exist",
        tmp_path: "is not a file",
    }
    for path, words in said.items():
        with pytest.raises(InputError, match=words) as error:
            read_pseudonyms(ids, path, log.directory, log.manifest)
        assert not any(secret in str(error.value) for secret in ("canary", "ab" * 32, key_file.read_text().strip()))
