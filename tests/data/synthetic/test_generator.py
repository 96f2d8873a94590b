"""The generator: a log whose entropy floor is known exactly."""

import json
from collections import Counter
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from behavegpt.data.ingest.executor import local_executor
from behavegpt.data.shards import write_dataset
from behavegpt.data.synthetic import generator
from behavegpt.data.synthetic.config import GeneratorConfig
from behavegpt.data.synthetic.domains import demo
from behavegpt.data.synthetic.generator import Generated, generate, write_generated
from behavegpt.data.synthetic.oracle import floor_of
from behavegpt.data.synthetic.world import make_world
from behavegpt.data.verify import verify_dataset
from behavegpt.data.vocab import read_vocabulary
from behavegpt.data.windows import Windows, from_table

SMALL = GeneratorConfig(num_users=40, num_train_events=90 * 170, num_val_windows=50, num_test_windows=7)


@pytest.fixture(scope="module")
def small() -> Generated:
    return generate(SMALL)


@pytest.fixture(scope="module")
def large() -> Generated:
    """Return the demo study's log: big enough to count rare values in."""
    return generate(demo())


def test_equal_configurations_give_equal_bytes_and_other_seeds_do_not(tmp_path: Path) -> None:
    first = write_generated(tmp_path / "a", SMALL, "a")
    again = write_generated(tmp_path / "b", SMALL, "a")
    assert (tmp_path / "a/manifest.json").read_bytes() == (tmp_path / "b/manifest.json").read_bytes()
    assert first.fingerprint == again.fingerprint
    for change in ({"seed": 1}, {"world_seed": 1}):
        other = write_generated(tmp_path / str(change), replace(SMALL, **change), "a")
        assert other.fingerprint != first.fingerprint


def test_validation_does_not_depend_on_the_training_size(small: Generated) -> None:
    fewer = generate(replace(SMALL, num_train_events=90 * 100))
    for split in ("val", "test"):
        for column in ("weekday", "slot", "location", "event", "behavior", "timestamp", "user", "number"):
            np.testing.assert_array_equal(
                getattr(fewer.values[split], column), getattr(small.values[split], column), err_msg=column
            )
    assert len(fewer.values["train"]) == 100
    assert len(small.values["train"]) == 170


def test_dataset_directory_is_intact_and_holds_what_was_generated(tmp_path: Path, small: Generated) -> None:
    out = tmp_path / "log"
    write_generated(out, SMALL, "small")
    manifest = verify_dataset(out)
    assert manifest.floor == small.floor
    assert manifest.source["config"] == json.loads(json.dumps(_config_dict()))
    assert manifest.source["floors"] == {"val": asdict(small.floor)}
    assert [manifest.splits[s].num_targets for s in ("train", "val", "test")] == [15_300, 4_500, 630]
    assert [manifest.splits[s].num_users for s in ("train", "val", "test")] == [40, 40, 7]
    assert manifest.counts == small.counts
    assert manifest.vocabulary_sizes["behavior"] == small.vocabularies["behavior"].size
    assert read_vocabulary(out / "vocab/location.parquet") == small.vocabularies["location"]
    stored, drawn = _by_user(_read(out, "val")), _by_user(small.splits["val"])
    for column in ("weekday", "slot", "location", "event", "behavior", "timestamp", "user", "number", "length"):
        np.testing.assert_array_equal(getattr(stored, column), getattr(drawn, column), err_msg=column)


def _by_user(windows: Windows) -> Windows:
    return windows.take(np.lexsort((windows.number, windows.user)))


def test_the_streamed_dataset_is_the_one_in_memory(tmp_path: Path, small: Generated) -> None:
    streamed = write_generated(tmp_path / "streamed", SMALL, "small")
    whole = write_dataset(
        tmp_path / "whole",
        small.splits,
        small.vocabularies,
        name="small",
        source=streamed.source,
        counts=small.counts,
        cutoffs=small.cutoffs,
        floor=small.floor,
        seed=SMALL.seed,
    )
    assert streamed == whole


def _backwards(task, items, label):
    """Run the last item first, as a busy pool may, and give the results in order."""
    return iter([task(item) for item in reversed(items)][::-1])


def test_bytes_depend_neither_on_workers_nor_on_what_a_task_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(SMALL, num_users=700, num_train_events=90 * 1500, num_val_windows=600)
    expected = _bytes(tmp_path / "a", config)
    assert _bytes(tmp_path / "b", config, run=local_executor(3)) == expected
    assert _bytes(tmp_path / "c", config, run=_backwards) == expected
    monkeypatch.setattr(generator, "group_chunks", lambda chunks: [(chunk,) for chunk in chunks])
    assert _bytes(tmp_path / "d", config, run=local_executor(2)) == expected


def _bytes(out: Path, config: GeneratorConfig, **given) -> dict[str, bytes]:
    write_generated(out, config, "same", **given)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_the_floor_of_any_split_is_known_on_request(tmp_path: Path, small: Generated) -> None:
    manifest = write_generated(tmp_path / "log", SMALL, "small", floors=("train", "test"))
    assert manifest.floor == small.floor
    names = [v.removeprefix("behavior-") for v in small.vocabularies["behavior"].values]
    ids = np.ones(39, dtype=int)
    ids[[int(name) for name in names]] = np.arange(2, len(names) + 2)
    assert list(manifest.source["floors"]) == ["train", "val", "test"]
    for split, found in manifest.source["floors"].items():
        floor = floor_of(small.world, small.values[split], ids)
        assert found == pytest.approx(asdict(floor))
        assert floor.num_targets == 90 * len(small.values[split])
        assert abs(floor.sampled_nats - floor.entropy_nats) < 4 * floor.sampled_stderr


def _config_dict() -> dict[str, float]:
    return {name: getattr(SMALL, name) for name in SMALL.__dataclass_fields__}


def _read(directory: Path, split: str) -> Windows:
    return from_table(pq.read_table(directory / split / "part-00000.parquet"))


def test_time_is_real_and_agrees_with_weekday_and_slot(small: Generated) -> None:
    for windows in small.splits.values():
        assert (np.diff(windows.timestamp, axis=1) >= 1).all()
        for row, position in [(0, 0), (1, 45), (len(windows) - 1, 90)]:
            instant = datetime.fromtimestamp(int(windows.timestamp[row, position]), UTC)
            assert windows.weekday[row, position] == instant.isoweekday()
            assert windows.slot[row, position] == 1 + 2 * instant.hour + instant.minute // 30


def test_splits_are_drawn_independently(small: Generated) -> None:
    train, val, test = (small.values[s].take(np.arange(7)) for s in ("train", "val", "test"))
    for one, other in [(train, val), (train, test), (val, test)]:
        assert (one.event != other.event).mean() > 0.5
        assert (np.diff(one.timestamp) != np.diff(other.timestamp)).mean() > 0.9


def test_splits_follow_one_another_in_time(small: Generated) -> None:
    cutoffs = {split: datetime.fromisoformat(c).timestamp() for split, c in small.cutoffs.items()}
    train, val, test = (small.splits[s].timestamp for s in ("train", "val", "test"))
    week = 7 * 24 * 3600
    assert small.cutoffs["val"] == "2024-01-01T00:00:00Z"
    assert cutoffs["val"] - week <= train.max() < cutoffs["val"] <= val.min()
    assert val.max() < cutoffs["test"] <= test.min()
    users = [set(small.splits[s].user.tolist()) for s in ("train", "val", "test")]
    assert users[2] <= users[1] <= users[0] == set(range(40))


def test_windows_of_a_user_share_one_event_and_every_event_is_a_target_once(small: Generated) -> None:
    windows = small.splits["train"]
    assert (windows.length == 91).all()
    assert (windows.first_target == 1).all()
    assert len(set(zip(windows.user.tolist(), windows.number.tolist(), strict=True))) == 170
    per_user = Counter(windows.user.tolist())
    assert Counter(per_user.values()) == {5: 10, 4: 30}  # 170 windows over 40 users
    for user in (0, 39):
        own = windows.take(windows.user == user)
        own = own.take(np.argsort(own.number))
        for column in ("timestamp", "location", "event", "behavior"):
            values = getattr(own, column)
            np.testing.assert_array_equal(values[1:, 0], values[:-1, -1])
        assert len(np.unique(own.timestamp[:, 1:])) == own.num_targets().sum()


def test_ids_follow_the_frequency_in_training_and_unseen_values_become_other(small: Generated) -> None:
    values, ids = small.values["train"], small.splits["train"]
    seen = {}
    for row in range(len(values)):
        for position in range(91):
            seen[int(values.user[row]), int(values.timestamp[row, position])] = int(values.location[row, position])
    count = Counter(seen.values())
    vocabulary = small.vocabularies["location"]
    ranked = sorted(count.items(), key=lambda item: (-item[1], item[0]))
    assert vocabulary.values == tuple(f"location-{place:04d}" for place, _ in ranked)
    assert vocabulary.counts == tuple(number for _, number in ranked)
    id_of = {place: rank + 2 for rank, (place, _) in enumerate(ranked)}
    for split in ("train", "val", "test"):
        expected = [id_of.get(place, 1) for place in small.values[split].location.ravel().tolist()]
        assert small.splits[split].location.ravel().tolist() == expected
    assert 1 not in ids.location
    assert 1 in small.splits["val"].location


def test_targets_that_other_touches_are_counted(small: Generated) -> None:
    val = small.splits["val"]
    touched = 0
    for row in range(len(val)):
        for now in range(90):
            hidden = val.location[row, now] == 1 or val.event[row, now] == 1
            touched += hidden or (now > 0 and val.event[row, now - 1] == 1)
    assert touched > 0
    assert small.counts["val_targets_after_other"] == touched
    for column in ("location", "event", "behavior"):
        shown = {
            (int(val.user[row]), int(val.timestamp[row, now])) for row, now in np.argwhere(getattr(val, column) == 1)
        }
        assert small.counts[f"other_{column}_val"] == len(shown)
    # 50 windows over 40 users: 10 users have two, which share an event
    assert [small.counts[f"events_{s}"] for s in ("train", "val")] == [170 * 90 + 40, 50 * 90 + 40]


def test_an_event_type_has_one_behaviour(large: Generated) -> None:
    windows = large.splits["train"]
    pairs = set(zip(windows.event.ravel().tolist(), windows.behavior.ravel().tolist(), strict=True))
    assert len(pairs) == len({event for event, _ in pairs}) == 114


def test_the_demo_study_has_the_data_that_it_needs(large: Generated) -> None:
    assert large.splits["train"].num_targets().sum() >= 820_000
    assert large.splits["val"].num_targets().sum() == large.floor.num_targets == 54_000
    assert large.vocabularies["behavior"].size == 41
    assert large.counts["other_behavior_val"] == 0
    assert large.counts["val_targets_after_other"] < 54
    # Of the first version of this world, which drew event by event in one loop.
    assert large.floor.entropy_nats == pytest.approx(1.683978, abs=1e-6)


def test_another_world_has_other_habits_and_the_same_world_keeps_them() -> None:
    first, again, other = (
        make_world(SMALL),
        make_world(replace(SMALL, seed=5)),
        make_world(replace(SMALL, world_seed=5)),
    )
    np.testing.assert_array_equal(first.place_habit, again.place_habit)
    assert (first.place_habit != other.place_habit).any()
    assert first.num_types.sum() == other.num_types.sum() == 114
