"""Damage under a running study, after its start verified the shards: it is named before a loss is computed from it."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavegpt.data.manifest import Manifest, Shard, read_manifest
from behavegpt.data.plan import ReadPlan, plan_reads
from behavegpt.data.shards import write_dataset
from behavegpt.data.stream import local_tables, read_targets, stream_batches
from behavegpt.data.verify import verify_dataset
from behavegpt.data.vocab import Vocabulary
from behavegpt.data.windows import Windows
from behavegpt.schema import STREAM_COLUMNS, WINDOW_LENGTH

NUM_WINDOWS = 16_000
SPLITS = {"train": NUM_WINDOWS, "val": 40, "test": 2}


def write(out: Path, seed: int, sizes: dict[str, int] = SPLITS) -> Path:
    rng = np.random.default_rng(seed)
    vocabulary = Vocabulary(("a", "b", "c"), (3, 2, 1))
    splits = {}
    for split, num in sizes.items():
        ids = {n: rng.integers(2, 5, (num, WINDOW_LENGTH), np.uint8) for n in ("weekday", "slot", "event", "behavior")}
        splits[split] = Windows(
            **ids,
            location=ids["event"],
            timestamp=rng.integers(0, 2**40, (num, WINDOW_LENGTH)),
            length=np.full(num, WINDOW_LENGTH, np.uint8),
            first_target=rng.integers(1, 90, num, np.uint8),
            user=np.arange(num, dtype=np.uint64),
            number=np.zeros(num, np.uint32),
        )
    names: tuple[str, ...] = ("location", "event", "behavior")
    write_dataset(
        out,
        splits,
        dict.fromkeys(names, vocabulary),
        name="toy",
        source={},
        counts={},
        seed=seed,
        windows_per_shard=8_500,
    )
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset of two train shards."""
    return write(tmp_path_factory.mktemp("whole") / "toy", seed=0)


@pytest.fixture
def dataset(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "toy")


def plan(directory: Path, manifest: Manifest, split: str = "train") -> ReadPlan:
    return plan_reads(directory, manifest, split, [(0, manifest.splits[split].num_windows)], 0, 1)


def batches(reads: ReadPlan) -> Iterator:
    last = int(reads.ranges[-1, 1])
    yield from stream_batches(reads, local_tables(reads), [(i, min(i + 64, last)) for i in range(0, last, 64)])


def assert_named(directory: Path, manifest: Manifest, path: Path, split: str = "train") -> None:
    with pytest.raises(OSError) as caught:
        list(batches(plan(directory, manifest, split)))
    assert str(caught.value).startswith(f"{path}: ")


def small(dataset: Path, num_windows: int = 300) -> tuple[Path, Path, Manifest, pa.Table]:
    """Return a dataset with one small train shard, that shard, its manifest and what its stream gives."""
    out = write(dataset.parent / "small", 3, {"train": num_windows, "val": 3, "test": 2})
    manifest = verify_dataset(out)
    path = out / manifest.splits["train"].shards[0].path
    return out, path, manifest, pa.concat_tables(local_tables(plan(out, manifest)))


def test_400_random_flips_are_named_or_do_not_touch_what_is_trained_on(dataset):
    out, path, manifest, expected = small(dataset)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    named = 0
    for _ in range(400):
        flipped = bytearray(data)
        flipped[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            got = pa.concat_tables(local_tables(plan(out, manifest)))
        except OSError as error:
            assert str(error).startswith(f"{path}: ")
            named += 1
        else:
            assert got.equals(expected)
    # The rest fell on timestamps and users, which training does not read.
    assert named > 50


def test_flips_in_the_footer_and_in_the_headers_of_pages_are_named(dataset):
    """Page checksums cover neither: every tenth byte of the footer, and the head of each page of a row group."""
    out, path, manifest, _ = small(dataset, 40)
    data = path.read_bytes()
    metadata = pq.read_metadata(path)
    chunks = [metadata.row_group(0).column(i) for i in range(len(STREAM_COLUMNS))]
    pages = [page for c in chunks for page in (c.dictionary_page_offset, c.data_page_offset) if page]
    offsets = [offset for page in pages for offset in range(page, page + 30)]
    footer = range(len(data) - metadata.serialized_size - 8, len(data), 10)
    for offset in {*offsets, *footer}:
        flipped = bytearray(data)
        flipped[offset] ^= 1 << (offset % 8)
        path.write_bytes(flipped)
        assert_named(out, manifest, path)


@pytest.mark.parametrize("bytes_left", [0, 3, 7, 100, 0.5, 0.999])
def test_a_shard_that_is_truncated_meanwhile_is_named(dataset, bytes_left):
    manifest = verify_dataset(dataset)
    path = dataset / "train" / "part-00001.parquet"
    data = path.read_bytes()
    path.write_bytes(data[: bytes_left if isinstance(bytes_left, int) else int(len(data) * bytes_left)])
    assert_named(dataset, manifest, path)


def test_a_shard_that_is_removed_meanwhile_is_named(dataset):
    manifest = verify_dataset(dataset)
    path = dataset / "train" / "part-00001.parquet"
    path.unlink()
    assert_named(dataset, manifest, path)


def test_swapped_shards_are_named(dataset):
    manifest = verify_dataset(dataset)
    first, second = (dataset / "train" / f"part-0000{i}.parquet" for i in range(2))
    first.rename(dataset / "x")
    second.rename(first)
    (dataset / "x").rename(second)
    assert_named(dataset, manifest, first)


def test_a_shard_of_another_dataset_with_the_same_window_ids_is_named(dataset, tmp_path):
    manifest = verify_dataset(dataset)
    other = write(tmp_path / "other", seed=1)
    path = dataset / "val" / "part-00000.parquet"
    ids = [pq.read_table(d / "val" / path.name)["window_id"] for d in (dataset, other)]
    sizes = [(d / "val" / path.name).stat().st_size for d in (dataset, other)]
    assert ids[0].equals(ids[1])
    shutil.copy(other / "val" / path.name, path)
    assert_named(dataset, manifest, path, "val")
    # Even where it happens to have as many bytes.
    shard = replace(manifest.splits["val"].shards[0], num_bytes=sizes[1])
    assert_named(dataset, with_shards(manifest, "val", shard), path, "val")


def with_shards(manifest: Manifest, split: str, *shards: Shard) -> Manifest:
    changed = replace(manifest.splits[split], shards=shards)
    return replace(manifest, splits=manifest.splits | {split: changed})


def test_a_window_in_another_place_than_planned_is_named(dataset):
    """What no checksum can tell: the bytes are right, and it is the plan or the stream that has lost its order."""
    manifest = read_manifest(dataset)
    first, second = manifest.splits["train"].shards
    exchanged = with_shards(manifest, "train", second, first)
    with pytest.raises(OSError, match=rf"^{dataset / second.path}: gave window {1 << 24} where the plan has 0; verify"):
        list(batches(plan(dataset, exchanged)))
    reads = plan(dataset, manifest)
    tables = list(local_tables(reads))
    with pytest.raises(OSError, match=rf"{first.path}: gave window {1 << 24} where the plan has 4096; verify"):
        list(stream_batches(reads, [tables[0], tables[2], tables[1]], [(0, 4_000), (4_000, 4_200)]))


def test_batches_before_the_damage_are_delivered_and_none_after_it(dataset):
    manifest = verify_dataset(dataset)
    path = dataset / "train" / "part-00001.parquet"
    data = bytearray(path.read_bytes())
    data[pq.read_metadata(path).row_group(9).column(1).data_page_offset + 100] ^= 4
    path.write_bytes(data)
    first = manifest.splits["train"].shards[0].num_windows
    got = 0
    with pytest.raises(OSError, match=r"part-00001\.parquet: damaged or not this dataset's: row group 9 "):
        for batch in batches(plan(dataset, manifest)):
            got += len(batch.window_id)
    assert got == (first + 4_096) // 64 * 64


def test_damaged_counts_of_targets_are_named_before_steps_are_planned(dataset):
    manifest = verify_dataset(dataset)
    path = dataset / "train" / "part-00001.parquet"
    data = path.read_bytes()
    expected = read_targets(dataset, manifest, NUM_WINDOWS * 90).tolist()
    column = pq.read_metadata(path).row_group(4).column(pq.read_schema(path).get_field_index("num_targets"))
    for offset in range(column.data_page_offset, column.data_page_offset + column.total_compressed_size, 9):
        flipped = bytearray(data)
        flipped[offset] ^= 1
        path.write_bytes(flipped)
        try:
            targets = read_targets(dataset, manifest, NUM_WINDOWS * 90)
        except OSError as error:
            assert str(error).startswith(f"{path}: ")
        else:
            assert targets.tolist() == expected
