"""Shards: the same bytes whoever cut the windows in what order, and every window in its place."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavegpt.data import shards
from behavegpt.data.manifest import Manifest, read_manifest
from behavegpt.data.shards import finish_dataset, gather_shard, gather_tasks, table_sizes, write_dataset, write_shard
from behavegpt.data.spill import Layout, shuffle_keys, spill_windows
from behavegpt.data.staging import WORK, staged_dataset
from behavegpt.data.verify import verify_dataset
from behavegpt.data.vocab import Vocabulary, read_vocabulary, write_vocabulary
from behavegpt.data.windows import Windows, from_table
from behavegpt.schema import SPLITS, STREAM_COLUMNS, WINDOW_LENGTH, window_schema

VOCABULARIES = {
    "location": Vocabulary((), ()),
    "event": Vocabulary(tuple(f"e{i}" for i in range(300)), tuple(range(300, 0, -1))),
    "behavior": Vocabulary(("K", "L"), (7, 5)),
}
SIZES = table_sizes(VOCABULARIES)
SCHEMA = window_schema(SIZES)


def make_windows(num_windows: int, seed: int = 0) -> Windows:
    rng = np.random.default_rng(seed)
    shape = (num_windows, WINDOW_LENGTH)
    return Windows(
        weekday=rng.integers(1, 8, shape),
        slot=rng.integers(1, 49, shape),
        location=np.zeros(shape, int),
        event=rng.integers(2, 302, shape),
        behavior=rng.integers(0, 4, shape),
        timestamp=rng.integers(10**9, 2 * 10**9, shape),
        length=np.full(num_windows, WINDOW_LENGTH),
        first_target=rng.integers(1, 91, num_windows),
        user=rng.integers(2**63, 2**64, 9, dtype=np.uint64)[np.arange(num_windows) % 9],
        number=np.arange(num_windows, dtype=np.uint32) // 9,
    )


def make_splits(num_windows: int) -> dict[str, Windows]:
    return {split: make_windows(num_windows, seed) for seed, split in enumerate(SPLITS)}


def write(out: Path, num_windows: int = 40, seed: int = 0) -> Manifest:
    return write_dataset(out, make_splits(num_windows), VOCABULARIES, name="toy", source={}, counts={}, seed=seed)


def write_parts(out: Path, parts: list[tuple[str, Windows]], layout: Layout, **spilled) -> Manifest:
    """Write a dataset as several processes would: each part on its own, shards from the last to the first."""
    users = {s: np.unique(np.concatenate([w.user for t, w in parts if t == s])).size for s, _ in parts}
    with staged_dataset(out) as staging:
        for number, (split, windows) in enumerate(parts):
            spill_windows(staging / WORK, f"part-{number}", split, windows, layout)
        tasks = gather_tasks(staging / WORK, staging, layout, SIZES, **spilled)
        made = [gather_shard(task) for task in reversed(tasks)]
        facts = {"name": "toy", "source": {}, "counts": {}, "num_users": users}
        return finish_dataset(staging, layout, made, VOCABULARIES, **facts)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Return a dataset of three small shards a split."""
    layout = Layout(seed=0, num_windows=dict.fromkeys(SPLITS, 40), windows_per_shard=16)
    write_parts(tmp_path / "toy", list(make_splits(40).items()), layout)
    return tmp_path / "toy"


def read_split(directory: Path, manifest: Manifest, split: str) -> pa.Table:
    return pa.concat_tables([pq.read_table(directory / shard.path) for shard in manifest.splits[split].shards])


def test_windows_come_back_as_they_were_in_another_order(dataset: Path) -> None:
    manifest = verify_dataset(dataset)
    val = manifest.splits["val"]
    assert len(val.shards) == 3 and val.num_windows == sum(s.num_windows for s in val.shards) == 40
    assert val.num_users == 9
    table = read_split(dataset, manifest, "val")
    assert table.schema.equals(SCHEMA)
    back, expected = from_table(table), make_windows(40, 1)
    order, expected_order = np.lexsort((back.number, back.user)), np.lexsort((expected.number, expected.user))
    assert order.tolist() != sorted(order.tolist())
    for name in Windows.__dataclass_fields__:
        assert (getattr(back, name)[order] == getattr(expected, name)[expected_order]).all(), name
    counted = sum(
        int(expected.behavior[row, position] > 0)
        for row in range(40)
        for position in range(int(expected.first_target[row]), WINDOW_LENGTH)
    )
    assert val.num_targets == counted == table["num_targets"].to_numpy().sum()


def test_a_window_id_is_split_shard_and_row_of_the_stream(dataset: Path) -> None:
    manifest = verify_dataset(dataset)
    for index, shard in enumerate(manifest.splits["test"].shards):
        ids = pq.read_table(dataset / shard.path)["window_id"].to_pylist()
        assert sorted(ids) == [(2 << 56) + (index << 24) + row for row in range(shard.num_windows)]


def test_the_stream_is_sorted_by_a_key_of_seed_split_user_and_number(dataset: Path) -> None:
    manifest = verify_dataset(dataset)
    table = read_split(dataset, manifest, "train").sort_by("window_id")
    keys = shuffle_keys(0, "train", table["user"].to_numpy(), table["number"].to_numpy())
    assert (np.diff(keys.astype(object)) > 0).all()
    assert set(keys.tolist()).isdisjoint(shuffle_keys(0, "val", table["user"].to_numpy(), table["number"].to_numpy()))


def test_keys_are_spread_evenly_whatever_users_and_numbers_look_like() -> None:
    # 64 bins of mean 1,000; chi-square with 63 degrees of freedom exceeds 118 once in 30,000 times.
    for user, number in (
        (np.zeros(64_000, int), np.arange(64_000)),
        (np.arange(64_000), np.zeros(64_000, int)),
        (np.arange(64_000) << 40, np.arange(64_000) % 7),
    ):
        counts = np.bincount(shuffle_keys(3, "train", user, number) >> np.uint64(58), minlength=64)
        assert ((counts - 1_000) ** 2 / 1_000).sum() < 118
    keys = shuffle_keys(3, "train", np.repeat(np.arange(300), 300), np.tile(np.arange(300), 300))
    assert len(np.unique(keys)) == 90_000


@pytest.mark.parametrize("num_parts", [1, 7])
def test_shards_do_not_depend_on_who_cut_which_window_in_what_order(dataset: Path, tmp_path: Path, num_parts) -> None:
    layout = Layout(seed=0, num_windows=dict.fromkeys(SPLITS, 40), windows_per_shard=16)
    rng = np.random.default_rng(num_parts)
    splits = {split: windows.take(rng.permutation(40)) for split, windows in make_splits(40).items()}
    parts = [(s, w.take(rows)) for s, w in splits.items() for rows in np.array_split(np.arange(40), num_parts)]
    order = rng.permutation(len(parts))
    assert write_parts(tmp_path / "again", [parts[i] for i in order], layout) == read_manifest(dataset)


def test_a_part_that_is_spilled_twice_counts_once(dataset: Path, tmp_path: Path) -> None:
    layout = Layout(seed=0, num_windows=dict.fromkeys(SPLITS, 40), windows_per_shard=16)
    for split, windows in make_splits(40).items():
        for _ in range(2):  # a task that was retried
            spill_windows(tmp_path / "work", "0", split, windows, layout)
    (tmp_path / "out").mkdir()
    made = [gather_shard(t) for t in gather_tasks(tmp_path / "work", tmp_path / "out", layout, SIZES)]
    assert made == [s for split in read_manifest(dataset).splits.values() for s in split.shards]


def test_values_become_ids_while_the_shards_are_written(dataset: Path, tmp_path: Path) -> None:
    layout = Layout(seed=0, num_windows=dict.fromkeys(SPLITS, 40), windows_per_shard=16)
    event_ids = np.random.default_rng(0).permutation(302)
    value_of = np.argsort(event_ids)
    parts = []
    for split, windows in make_splits(40).items():
        columns = {n: getattr(windows, n) for n in Windows.__dataclass_fields__} | {"event": value_of[windows.event]}
        parts.append((split, Windows(**columns)))
    assert write_parts(tmp_path / "again", parts, layout, id_maps={"event": event_ids}) == read_manifest(dataset)


def test_a_window_that_was_lost_on_the_way_is_found_out(tmp_path: Path) -> None:
    layout = Layout(seed=0, num_windows=dict.fromkeys(SPLITS, 40), windows_per_shard=16)
    parts = [(s, w if s != "val" else w.take(np.arange(39))) for s, w in make_splits(40).items()]
    with pytest.raises(RuntimeError, match="val has 39 windows in 3 shards; 40"):
        write_parts(tmp_path / "toy", parts, layout)
    assert list(tmp_path.iterdir()) == []


def test_an_id_beyond_its_vocabulary_s_type_is_an_error(tmp_path: Path) -> None:
    windows = make_windows(3)
    windows.behavior[1, 1] = 256
    with pytest.raises(pa.ArrowInvalid):
        (tmp_path / "train").mkdir()
        write_shard(tmp_path, "train", 0, windows, SCHEMA)


@pytest.mark.parametrize("num_windows", [0, 1, 7, 8, 511, 4_096, 4_097, 4_700])
def test_row_i_of_the_stream_lies_in_lane_i_mod_8(tmp_path: Path, num_windows: int) -> None:
    (tmp_path / "val").mkdir()
    shard = write_shard(tmp_path, "val", 5, make_windows(num_windows), SCHEMA)
    assert shard.path == "val/part-00005.parquet" and shard.num_windows == num_windows
    with pq.ParquetFile(tmp_path / shard.path) as file:
        groups = [file.read_row_group(i)["window_id"].to_numpy() for i in range(file.num_row_groups)]
    rows = [(group - ((1 << 56) + (5 << 24))).tolist() for group in groups]
    blocks = [range(b, min(b + 4_096, num_windows)) for b in range(0, num_windows, 4_096)]
    assert rows == [[i for i in block if i % 8 == lane] for block in blocks for lane in range(min(8, len(block)))]


def test_pages_have_checksums_and_the_stream_s_columns_lie_together(dataset: Path) -> None:
    shard = read_manifest(dataset).splits["train"].shards[0]
    with pq.ParquetFile(dataset / shard.path) as file:
        names = [file.metadata.row_group(0).column(i).path_in_schema.split(".")[0] for i in range(7)]
    assert names == list(STREAM_COLUMNS)
    data = bytearray((dataset / shard.path).read_bytes())
    # Deep inside the pages of timestamps, which no other checksum of the stream covers.
    data[len(data) // 2] ^= 1
    (dataset / shard.path).write_bytes(data)
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(dataset / shard.path, page_checksum_verification=True)


def test_a_split_without_windows_has_no_shards(tmp_path: Path) -> None:
    splits = make_splits(5) | {"test": make_windows(0)}
    write_dataset(tmp_path / "toy", splits, VOCABULARIES, name="toy", source={}, counts={}, seed=0)
    test = verify_dataset(tmp_path / "toy").splits["test"]
    assert (test.num_windows, test.num_users, test.shards) == (0, 0, ())


def test_same_windows_and_seed_give_the_same_bytes(tmp_path: Path) -> None:
    manifests = [write(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert manifests[0] == manifests[1]
    assert manifests[0].fingerprint != manifests[2].fingerprint


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("failing", ["spill_windows", "to_table", "write_vocabulary"])
def test_nothing_is_left_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(shards, failing, fail)
    (tmp_path / "kept").mkdir()
    with pytest.raises(type(error)):
        write(tmp_path / "kept" / "new" / "newer" / "toy")
    assert [path.name for path in tmp_path.rglob("*")] == ["kept"]


def test_vocabularies_come_back(tmp_path: Path) -> None:
    for vocabulary in (Vocabulary(("b", "\U0001f600", ""), (2, 2, 1)), Vocabulary((), ())):
        write_vocabulary(tmp_path / "v.parquet", vocabulary)
        assert read_vocabulary(tmp_path / "v.parquet") == vocabulary
