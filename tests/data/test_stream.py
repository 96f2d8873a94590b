"""The stream delivers exactly the planned windows in order, for any split over ranks and from any step: by window ids.

The dataset has two shards of two blocks each: sizes are not multiples of a block, and the second shard begins at a
position that is not a multiple of 8.
"""

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavegpt.data import stream
from behavegpt.data.batches import cut, keep_targets, to_batch
from behavegpt.data.manifest import Manifest, read_manifest
from behavegpt.data.plan import ReadPlan, plan_reads
from behavegpt.data.shards import write_dataset
from behavegpt.data.stream import local_tables, read_targets, stream_batches
from behavegpt.data.vocab import Vocabulary
from behavegpt.data.windows import Windows
from behavegpt.schema import WINDOW_LENGTH

Dataset = tuple[Path, Manifest]
NUM_WINDOWS = 11_500


def make_windows(num_windows: int, seed: int) -> Windows:
    """Return windows whose events and targets tell them apart, a few of them without a target."""
    rng = np.random.default_rng(seed)
    shape = (num_windows, WINDOW_LENGTH)
    behavior = np.where(rng.random(shape) < 0.01, 0, rng.choice([2, 2, 3], shape)).astype(np.uint8)
    behavior[::500] = 0
    return Windows(
        weekday=rng.integers(1, 8, shape, np.uint8),
        slot=rng.integers(1, 49, shape, np.uint8),
        location=np.ones(shape, np.uint8),
        event=rng.integers(2, 202, shape, np.uint8),
        behavior=behavior,
        timestamp=np.zeros(shape, np.int64),
        length=np.full(num_windows, WINDOW_LENGTH, np.uint8),
        first_target=rng.integers(1, 4, num_windows, np.uint8),
        user=np.arange(num_windows, dtype=np.uint64) // 5,
        number=np.arange(num_windows, dtype=np.uint32) % 5,
    )


def write(out: Path, num_windows: int = NUM_WINDOWS, seed: int = 0) -> Dataset:
    vocabularies = {
        "location": Vocabulary((), ()),
        "event": Vocabulary(tuple(map(str, range(200))), (1,) * 200),
        "behavior": Vocabulary(("a", "b"), (2, 1)),
    }
    splits = {"train": make_windows(num_windows, seed), "val": make_windows(30, 1), "test": make_windows(3, 2)}
    facts = {"name": "toy", "source": {}, "counts": {}, "seed": seed, "windows_per_shard": 6_000}
    write_dataset(out, splits, vocabularies, **facts)
    return out, read_manifest(out)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write(tmp_path_factory.mktemp("data") / "toy")


@pytest.fixture(scope="module")
def stored(dataset: Dataset) -> pa.Table:
    """Return the train windows in the order of the stream, by a plain reader and a sort within each shard."""
    directory, manifest = dataset
    shards = [pq.read_table(directory / s.path).sort_by("window_id") for s in manifest.splits["train"].shards]
    return pa.concat_tables(shards)


def plan(dataset: Dataset, ranges: list[tuple[int, int]], rank: int = 0, world_size: int = 1) -> ReadPlan:
    directory, manifest = dataset
    return plan_reads(directory, manifest, "train", ranges, rank, world_size)


def streamed(dataset: Dataset, ranges: list[tuple[int, int]], rank: int = 0, world_size: int = 1) -> list[int]:
    return [
        i for table in local_tables(plan(dataset, ranges, rank, world_size)) for i in table["window_id"].to_pylist()
    ]


def batch_ids(dataset: Dataset, steps: list[tuple[int, int]], rank: int, world_size: int) -> list[list[int]]:
    reads = plan(dataset, [(steps[0][0], steps[-1][1])], rank, world_size)
    return [batch.window_id.tolist() for batch in stream_batches(reads, local_tables(reads), steps)]


def as_steps(sizes: list[int], first: int = 0) -> list[tuple[int, int]]:
    return list(itertools.pairwise(itertools.accumulate(sizes, initial=first)))


def test_the_dataset_is_as_awkward_as_it_should_be(dataset):
    first, second = dataset[1].splits["train"].shards
    assert first.num_windows % 8 and 4_096 < first.num_windows < 8_192 and second.num_windows % 4_096


def test_windows_arrive_once_and_in_order_across_shards(dataset, stored):
    ids = streamed(dataset, [(0, NUM_WINDOWS)])
    assert ids == stored["window_id"].to_pylist()
    assert len(set(ids)) == NUM_WINDOWS


def test_every_column_arrives_with_its_window(dataset, stored):
    for rank, world_size in ((0, 1), (3, 4), (2, 3)):
        got = pa.concat_tables(local_tables(plan(dataset, [(0, NUM_WINDOWS)], rank, world_size)))
        expected = stored.take(pa.array(np.arange(rank, NUM_WINDOWS, world_size))).select(got.column_names)
        assert got.combine_chunks().equals(expected.combine_chunks())


def test_a_branch_and_the_trunk_read_the_same_windows_again(dataset, stored):
    ranges = [(0, 5_500), (5_500, 5_501), (5_000, 9_000), (5, 5), (7, 8), (7, 8), (5, 6)]
    expected = [i for first, last in ranges for i in stored["window_id"].to_pylist()[first:last]]
    assert streamed(dataset, ranges) == expected


@given(
    ranges=st.lists(st.tuples(st.integers(0, NUM_WINDOWS), st.integers(0, NUM_WINDOWS)).map(sorted), max_size=4),
    world_size=st.integers(1, 9),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_any_ranges_for_any_rank_are_its_positions_in_order(dataset, stored, ranges, world_size, data):
    rank = data.draw(st.integers(0, world_size - 1))
    ids = stored["window_id"].to_pylist()
    expected = [ids[p] for first, last in ranges for p in range(first, last) if p % world_size == rank]
    assert streamed(dataset, ranges, rank, world_size) == expected


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 8])
def test_a_global_batch_holds_the_same_windows_for_any_number_of_ranks(dataset, stored, world_size):
    sizes = [1, 2, 1, 8, 509, 790, *np.random.default_rng(world_size).integers(1, 900, 30).tolist()]
    steps = [s for s in as_steps(sizes) if s[1] <= NUM_WINDOWS]
    per_rank = [batch_ids(dataset, steps, rank, world_size) for rank in range(world_size)]
    ids = stored["window_id"].to_pylist()
    for step, (first, last) in enumerate(steps):
        got = [per_rank[rank][step] for rank in range(world_size)]
        assert sorted(itertools.chain(*got)) == ids[first:last]
        # Every rank's share is in order, and no rank has more than one window above another's.
        assert all(share == sorted(share) for share in got)
        assert max(map(len, got)) - min(map(len, got)) <= 1


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_resumed_at_20_random_steps_the_ids_are_those_of_an_undisturbed_run(dataset, world_size):
    rng = np.random.default_rng(7)
    steps = as_steps(rng.integers(1, 700, 45).tolist())
    steps = [s for s in steps if s[1] <= NUM_WINDOWS]
    whole = [batch_ids(dataset, steps, rank, world_size) for rank in range(world_size)]
    for step in rng.choice(len(steps), 20, replace=False):
        for rank in range(world_size):
            assert batch_ids(dataset, steps[step : step + 5], rank, world_size) == whole[rank][step : step + 5]


def test_a_smaller_data_size_is_a_prefix_of_a_larger_one(dataset):
    whole = streamed(dataset, [(0, NUM_WINDOWS)])
    for size in (1, 4_097, 8_000):
        assert streamed(dataset, [(0, size)]) == whole[:size]


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_a_worker_reads_its_share_of_the_row_groups(dataset, world_size, monkeypatch):
    """Counts the row groups and the bytes that each rank asks for: together every row group once, and 1/W each."""
    directory, manifest = dataset
    read, real = [], stream.read_row_groups

    def note(path, shard, groups, columns):
        read.append((path, groups))
        return real(path, shard, groups, columns)

    monkeypatch.setattr(stream, "read_row_groups", note)
    every, most = Counter(), 0
    for rank in range(world_size):
        read.clear()
        # Steps of odd sizes, and a start in the midst of a block, do not make a rank change its lanes.
        list(local_tables(plan(dataset, [(0, 4_501), (4_501, NUM_WINDOWS)], rank, world_size)))
        groups = Counter((path.name, group) for path, groups in read for group in groups)
        every += groups
        most = max(most, len(groups))
    sizes = [s.num_windows for s in manifest.splits["train"].shards]
    total = sum(8 * -(-size // 4_096) for size in sizes)
    assert len(every) == total and most == total / world_size
    # The block that two ranges share is read for each of them.
    assert sorted(Counter(every.values()).items()) == [(1, total - 8), (2, 8)]
    with pq.ParquetFile(directory / "train" / "part-00000.parquet") as file:
        lengths = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert max(lengths) == 512


def test_a_plan_is_small_and_made_at_once_whatever_it_plans():
    from behavegpt.data.manifest import Shard, Split

    shard = Shard(path="train/x", num_windows=16_384, num_targets=1, num_bytes=1, sha256="", crc32="")
    shards = (shard,) * 100_000
    split = Split(num_windows=16_384 * len(shards), num_targets=0, num_users=0, shards=shards)
    manifest = Manifest(name="", vocabulary_sizes={}, splits={"train": split}, source={}, counts={})
    # 1.6 billion windows, 147 billion events; in two ranges that begin within a block.
    ranges = [(0, 1_000_000_001), (1_000_000_001, 1_638_400_000)]
    reads = plan_reads(Path("x"), manifest, "train", ranges, 1, 4)
    assert len(reads) == 4 * 100_000 + 1
    assert sum(getattr(reads, name).nbytes for name in ("first_row", "first_block", "first_read", "ranges")) < 2e6
    # 1,000,000,001 = 61,035 x 16,384 + 2,561: the last read of the first range is block 0 of shard 61,035.
    shard_index, rows = reads.rows(4 * 61_035)
    assert shard_index == 61_035 and rows.tolist() == list(range(1, 2_561, 4))
    assert reads.rows(4 * 61_035 + 1)[1][[0, -1]].tolist() == [2_561, 4_093]
    assert reads.window_ids(np.array([1_638_399_999])).tolist() == [(99_999 << 24) + 16_383]


def test_targets_come_in_the_order_of_the_stream_and_only_as_far_as_needed(dataset, stored):
    directory, manifest = dataset
    behavior = stored["behavior"].combine_chunks().flatten().to_numpy().reshape(-1, WINDOW_LENGTH)
    expected = [int((b[f:] > 0).sum()) for b, f in zip(behavior, stored["first_target"].to_pylist(), strict=True)]
    assert 0 in expected and 90 in expected
    targets = read_targets(directory, manifest, sum(expected))
    assert targets.dtype == np.uint8 and targets.tolist() == expected
    first = manifest.splits["train"].shards[0]
    assert len(read_targets(directory, manifest, first.num_targets)) == first.num_windows
    assert len(read_targets(directory, manifest, first.num_targets + 1)) == NUM_WINDOWS


def test_targets_are_the_next_behaviours_class_and_unscored_ones_are_minus_one(stored):
    table = stored.slice(1, 4)
    behavior = np.full((4, WINDOW_LENGTH), 3, np.uint8)
    behavior[:, ::3] = 2
    behavior[1, 5] = 0
    columns = {n: table[n] for n in table.column_names if n not in ("behavior", "first_target")}
    behaviors = pa.FixedSizeListArray.from_arrays(pa.array(behavior.reshape(-1)), 91)
    changed = pa.table({**columns, "behavior": behaviors, "first_target": pa.array([1, 1, 7, 1], pa.uint8())})
    batch = to_batch(changed)
    assert batch.targets.shape == (4, 90)
    assert batch.targets[0].tolist() == [2, 2, 1] * 30
    assert batch.targets[1, 4] == -1
    assert batch.targets[2, :6].tolist() == [-1] * 6
    assert batch.targets[2, 6] == 2
    kept = keep_targets(batch, np.array([90, 4, 3, 0]))
    assert (kept.targets >= 0).sum(axis=1).tolist() == [90, 4, 3, 0]
    assert kept.targets[2, 6:9].tolist() == batch.targets[2, 6:9].tolist()


@pytest.mark.parametrize("tables", [[50], [7, 0, 1, 1, 41], [1] * 50, [0, 13, 37]])
def test_a_step_that_takes_from_several_tables_keeps_every_column_with_its_window(stored, tables):
    source = [stored.slice(first, last - first) for first, last in as_steps(tables, 5_990)]
    batches = list(cut(source, [3, 0, 9, 20, 1, 17]))
    empty = batches.pop(1)
    assert len(empty.window_id) == 0 and (empty.targets == -1).all()
    assert [len(batch.window_id) for batch in batches] == [3, 9, 20, 1, 17]
    rows = stored.slice(5_990, 50).to_pylist()
    assert np.concatenate([b.window_id for b in batches]).tolist() == [row["window_id"] for row in rows]
    for name in ("weekday", "slot", "location", "event"):
        ids = np.concatenate([batch.features[name] for batch in batches])
        assert ids.dtype == np.int64 and ids.tolist() == [row[name][:90] for row in rows]
    targets = [
        [b - 1 if b and i >= row["first_target"] else -1 for i, b in enumerate(row["behavior"])][1:] for row in rows
    ]
    assert np.concatenate([batch.targets for batch in batches]).tolist() == targets


def test_a_stream_that_ends_early_is_an_error(dataset):
    reads = plan(dataset, [(0, 100)])
    with pytest.raises(RuntimeError, match="ended 4 windows short of a step's 10"):
        list(stream_batches(reads, (t.slice(0, 96) for t in local_tables(reads)), as_steps([10] * 10)))
