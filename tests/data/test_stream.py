"""The plan of reads delivers exactly the named windows in order, for any split over ranks; proved on window ids."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavegpt.data import shards
from behavegpt.data.batches import cut, keep_targets, rank_windows, to_batch
from behavegpt.data.generator import GeneratorConfig, write_generated
from behavegpt.data.manifest import Manifest, read_manifest
from behavegpt.data.stream import class_frequencies, local_tables, plan_reads, read_targets


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """Return a dataset of several shards with several row groups each, the last of each short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "WINDOWS_PER_SHARD", 1_300)
        out = tmp_path_factory.mktemp("data") / "tiny"
        config = GeneratorConfig(num_users=50, num_train_events=90 * 3_000, num_val_windows=10, num_test_windows=5)
        write_generated(out, config, "tiny")
    return out, read_manifest(out)


def stored_ids(directory: Path, manifest: Manifest) -> np.ndarray:
    paths = [directory / s.path for s in manifest.splits["train"].shards]
    return pa.concat_tables([pq.read_table(p, columns=["window_id"]) for p in paths])["window_id"].to_numpy()


def streamed_ids(directory: Path, manifest: Manifest, windows: np.ndarray) -> np.ndarray:
    tables = local_tables(plan_reads(directory, manifest, windows))
    return np.concatenate([t["window_id"].to_numpy() for t in tables])


def test_windows_arrive_once_and_in_order_across_shards(dataset):
    directory, manifest = dataset
    expected = stored_ids(directory, manifest)
    assert len(manifest.splits["train"].shards) == 3
    assert streamed_ids(directory, manifest, np.arange(3_000)).tolist() == expected.tolist()
    assert len(set(expected.tolist())) == 3_000


def test_a_branch_and_the_trunk_read_the_same_windows_again(dataset):
    directory, manifest = dataset
    windows = np.concatenate([np.arange(0, 1_250), np.arange(1_250, 1_400), np.arange(1_250, 2_700), [7, 7, 5]])
    expected = stored_ids(directory, manifest)[windows]
    assert streamed_ids(directory, manifest, windows).tolist() == expected.tolist()


@pytest.mark.parametrize("world", [1, 2, 4])
def test_a_global_batch_holds_the_same_windows_for_any_number_of_ranks(dataset, world):
    directory, manifest = dataset
    expected = stored_ids(directory, manifest)
    bounds = [(0, 1), (1, 3), (3, 11), (11, 520), (520, 1_310)]
    per_rank = []
    for rank in range(world):
        windows = [rank_windows(first, last, rank, world) for first, last in bounds]
        reads = plan_reads(directory, manifest, np.concatenate(windows))
        per_rank.append([b.window_id for b in cut(local_tables(reads), map(len, windows))])
    for step, (first, last) in enumerate(bounds):
        got = np.concatenate([ids[step] for ids in per_rank])
        assert sorted(got.tolist()) == sorted(expected[first:last].tolist())


def test_targets_are_read_only_as_far_as_needed(dataset):
    directory, manifest = dataset
    assert read_targets(directory, manifest, 90 * 1_300).tolist() == [90] * 1_300
    assert len(read_targets(directory, manifest, 90 * 1_300 + 1)) == 2_600


def test_class_frequencies_are_those_of_the_training_events(dataset):
    directory, manifest = dataset
    table = pa.concat_tables([pq.read_table(directory / s.path) for s in manifest.splits["train"].shards])
    ids = table["behavior"].combine_chunks().flatten().to_numpy()
    counts = np.bincount(ids, minlength=manifest.vocabulary_sizes["behavior"])[1:]
    # Windows of one user share an event, so the shards hold some events twice: equal within a percent of a share.
    assert np.abs(np.array(class_frequencies(directory)) - counts / counts.sum()).max() < 0.01


def test_targets_are_the_next_behaviours_class_and_unscored_ones_are_minus_one(dataset):
    directory, manifest = dataset
    table = pq.read_table(directory / manifest.splits["train"].shards[0].path).slice(0, 4)
    behavior = np.array(table["behavior"].to_pylist())
    behavior[1, 5] = 0
    columns = {n: table[n] for n in table.column_names if n not in ("behavior", "first_target")}
    behaviors = pa.FixedSizeListArray.from_arrays(pa.array(behavior.reshape(-1)), 91)
    changed = pa.table({**columns, "behavior": behaviors, "first_target": pa.array([1, 1, 7, 1], pa.uint8())})
    batch = to_batch(changed)
    assert batch.targets.shape == (4, 90)
    assert batch.targets[0].tolist() == (behavior[0, 1:] - 1).tolist()
    assert batch.targets[1, 4] == -1
    assert batch.targets[2, :6].tolist() == [-1] * 6
    assert batch.targets[2, 6] == behavior[2, 7] - 1
    kept = keep_targets(batch, np.array([90, 4, 3, 0]))
    assert (kept.targets >= 0).sum(axis=1).tolist() == [90, 4, 3, 0]
    assert kept.targets[2, 6:9].tolist() == batch.targets[2, 6:9].tolist()


def test_a_damaged_shard_is_named(dataset, tmp_path):
    directory, manifest = dataset
    [first, *_] = plan_reads(directory, manifest, np.arange(10))
    bad = tmp_path / "part-00000.parquet"
    data = bytearray(Path(first.path).read_bytes())
    for offset in range(200, len(data) - 20_000, 997):  # so often that every column of every row group is hit
        data[offset] ^= 0xFF
    bad.write_bytes(data)
    reads = plan_reads(tmp_path / "x", manifest, np.arange(1_300))
    moved = [type(r)(str(bad), r.row_group, r.rows) for r in reads]
    with pytest.raises(OSError, match=r"part-00000\.parquet"):
        list(local_tables(moved))
