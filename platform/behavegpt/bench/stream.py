"""The stream inside a Ray Train worker, against a bare pyarrow read of the same shards in the same worker.

In: a dataset directory. Out: figures. Both read the same columns of the same row groups from the page cache: some 250
bytes a window as stored, 560 as decoded; zstd and Parquet decoding bound the bare read. Beyond it the stream compares a
CRC-32 of every byte, a checksum of every page and the id of every window, hands the tables from Ray's tasks to the
worker through the object store (one copy in, none out), puts the lanes in order, and makes the batches that training
takes: 3.6 KB a window of 64-bit ids. The two sides take turns; the stream's clock starts with its first batch.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq

from behavegpt.bench.alone import run_alone
from behavegpt.bench.figures import Figure
from behavegpt.data.manifest import Manifest, read_manifest
from behavegpt.data.plan import plan_reads
from behavegpt.data.stream import ray_tables, stream_batches
from behavegpt.schema import STREAM_COLUMNS

BATCH_WINDOWS = 256
RATES = "rates.json"


def compare_stream(work: Path, dataset: Path, num_windows: int, repeats: int) -> list[Figure]:
    """Return the stream's rate against that of a bare read, the medians of `repeats` each.

    Args:
        num_windows: To read each time, at least; the train split is read again until they are reached. What Ray Data
            has read ahead when the first batch arrives, some 60,000 windows, must be a small part of them.
    """
    worker = "behavegpt.bench.stream:measure_in_worker"
    found = run_alone(worker, dataset=dataset, storage=work / "ray", num_windows=num_windows, repeats=repeats).value
    streamed, bare = median(found["stream"]), median(found["bare"])
    size, start = f"{found['windows']:,} windows", f"first batch after {found['start']:.1f} s"
    return [
        Figure(
            name=f"stream in a Ray Train worker, {size}, {start}",
            ours=f"{streamed:,.0f} windows/s",
            other=f"bare pyarrow {bare:,.0f} windows/s",
            value=streamed / bare,
            wanted=">= 0.4",
        )
    ]


def measure_in_worker(dataset: Path, storage: Path, num_windows: int, repeats: int) -> dict[str, Any]:
    """Return windows/s of both sides, measured in a worker group of one, on the cluster that Ray finds or starts."""
    import ray.train
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from behavegpt.study.tuner import connect

    connect()
    storage.mkdir()
    trainer = TorchTrainer(
        _work,
        train_loop_config={
            "dataset": str(dataset),
            "rates": str(storage / RATES),
            "windows": num_windows,
            "repeats": repeats,
        },
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(name="benchmark-stream", storage_path=str(storage)),
    )
    trainer.fit()
    ray.shutdown()
    return json.loads((storage / RATES).read_text())


def _work(config: dict[str, Any]) -> None:
    directory = Path(config["dataset"])
    manifest = read_manifest(directory)
    found: dict[str, list[float]] = {"bare": [], "stream": []}
    starts, passes = [], -(-config["windows"] // manifest.splits["train"].num_windows)
    for _ in range(config["repeats"]):
        begin = time.perf_counter()
        num_windows = sum(read_bare(directory, manifest) for _ in range(passes))
        found["bare"].append(num_windows / (time.perf_counter() - begin))
        begin, sizes = time.perf_counter(), read_stream(directory, manifest, passes)
        num_windows -= next(sizes)
        first = time.perf_counter()
        starts.append(first - begin)
        assert sum(sizes) == num_windows, "both sides read every window once"
        found["stream"].append(num_windows / (time.perf_counter() - first))
    windows = passes * manifest.splits["train"].num_windows
    # Ray Train forgets metrics that come without a checkpoint.
    Path(config["rates"]).write_text(json.dumps({**found, "windows": windows, "start": median(starts)}))


def read_bare(directory: Path, manifest: Manifest) -> int:
    """Read the train split shard by shard, as pyarrow does it when told nothing else; return its windows."""
    columns = list(STREAM_COLUMNS)
    shards = manifest.splits["train"].shards
    return sum(pq.read_table(directory / shard.path, columns=columns).num_rows for shard in shards)


def read_stream(directory: Path, manifest: Manifest, passes: int) -> Iterator[int]:
    """Yield the windows of each batch of the train split, as the training loop takes them."""
    num_windows = manifest.splits["train"].num_windows
    plan = plan_reads(directory, manifest, "train", [(0, num_windows)] * passes, 0, 1)
    starts = range(0, num_windows, BATCH_WINDOWS)
    steps = [(start, min(start + BATCH_WINDOWS, num_windows)) for start in starts] * passes
    for batch in stream_batches(plan, ray_tables(plan), steps):
        yield len(batch.window_id)
