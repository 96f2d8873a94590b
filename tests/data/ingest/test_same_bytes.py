"""The same rows give the same shards, byte for byte, whatever their order, files, workers, memory and executor."""

import csv
import gzip
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavegpt.data.ingest.executor import local_executor, ray_executor
from behavegpt.data.ingest.ingest import ingest
from behavegpt.data.ingest.options import IngestOptions
from behavegpt.data.ingest.pseudonyms import write_key
from behavegpt.data.manifest import Manifest
from behavegpt.data.sources.spec import Columns, LogSpec

KEY = bytes(range(32))
COLUMNS = Columns(user="user", timestamp="time", event="event", behavior="kind", location="place")
HEADER = ("user", "time", "event", "kind", "place")
Row = tuple[str, int, str, str, str]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Return enough users for several shards, with ties in time and duplicates."""
    rng = np.random.default_rng(7)
    drawn = (rng.integers(0, high, 90_000).tolist() for high in (32_000, 3_000, 50, 9, 200))
    rows = [(f"u{u}", 1_339_437_960 + 600 * t, f"e{e}", f"k{k}", f"p{p}") for u, t, e, k, p in zip(*drawn, strict=True)]
    return rows + rows[:500]


@pytest.fixture(scope="module")
def expected(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """Return the log in one file, in the order of the rows, and its dataset's manifest."""
    root = tmp_path_factory.mktemp("expected")
    with (root / "log.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *rows])
    write_key(root / "user.key", KEY)
    spec = LogSpec(inputs=(str(root / "log.csv"),), columns=COLUMNS)
    manifest = ingest(spec, root / "set", options=IngestOptions(min_users=5), run=local_executor(2))
    assert len(manifest.splits["train"].shards) >= 2
    return root / "log.csv", manifest


def digests(manifest: Manifest) -> list[tuple[str, str]]:
    shards = [(shard.path, shard.sha256) for split in manifest.splits.values() for shard in split.shards]
    return shards + sorted(manifest.vocabulary_sha256.items())


def without_order(manifest: Manifest) -> dict[str, int]:
    return {name: count for name, count in manifest.counts.items() if name != "rows_out_of_order"}


def test_rows_in_any_order_in_seven_files_of_other_kinds(
    rows: list[Row],
    expected: tuple[Path, Manifest],
    write_log: Callable[..., Path],
    ingest_log: Callable[..., Manifest],
    tmp_path: Path,
) -> None:
    shuffled = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
    cuts = [0, 1, 9_000, 9_001, 20_000, 40_000, 55_000, len(rows)]
    parts = [shuffled[start:end] for start, end in pairwise(cuts)]
    paths = [write_log(part, f"parts/{name}.csv") for part, name in zip(parts[:5], "zyabq", strict=True)]
    packed = tmp_path / "parts" / "m.csv.gz"
    with gzip.open(packed, "wt", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *parts[5]])
    table = pa.Table.from_pylist([dict(zip(HEADER, row, strict=True)) for row in parts[6]])
    pq.write_table(table, tmp_path / "parts" / "0.parquet", row_group_size=1000)
    found = ingest_log(*paths, packed, tmp_path / "parts" / "0.parquet", name="found", min_users=5)
    assert digests(found) == digests(expected[1])
    assert without_order(found) == without_order(expected[1])
    assert found.fingerprint == expected[1].fingerprint


@pytest.mark.parametrize("num_workers", [1, 3])
def test_any_number_of_workers_and_any_memory(
    expected: tuple[Path, Manifest], ingest_log: Callable[..., Manifest], num_workers: int
) -> None:
    path, manifest = expected
    found = ingest_log(path, min_users=5, num_workers=num_workers, memory_gb=0.002)
    assert digests(found) == digests(manifest)
    assert found.counts == manifest.counts


def test_another_seed_gives_another_order(expected: tuple[Path, Manifest], ingest_log: Callable[..., Manifest]) -> None:
    path, manifest = expected
    found = ingest_log(path, min_users=5, seed=1)
    assert found.fingerprint != manifest.fingerprint
    assert found.counts == manifest.counts


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_ray_writes_the_same_bytes(
    rows: list[Row],
    write_log: Callable[..., Path],
    ingest_log: Callable[..., Manifest],
    key_file: Path,
    tmp_path: Path,
    ray_cluster: str,
) -> None:
    paths = [write_log(rows[start : start + 2000], f"parts/{start}.csv") for start in (0, 2000)]
    local = ingest_log(*paths, name="local")
    options = IngestOptions(min_users=1, key_file=key_file, memory_gb=0.0005)
    spec = LogSpec(inputs=tuple(map(str, paths)), columns=COLUMNS)
    found = ingest(spec, tmp_path / "ray", options=options, run=ray_executor())
    assert digests(found) == digests(local)
    assert found.counts == local.counts
