"""Ray Data streams the windows that the plan names, in the plan's order, to one worker.

In: ranges of windows in stream order (shards in manifest order, rows in file order) and the rank's share of them.
Out: an iterator over `Windows` chunks. Ray Data has no resumable iterator, so the plan of row groups is ours and is
arithmetic on window indices; Ray Data reads ahead what the plan says, in its order, in bounded memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from behavegpt.data.manifest import Manifest
from behavegpt.data.shards import WINDOWS_PER_ROW_GROUP
from behavegpt.data.vocab import read_vocabulary
from behavegpt.schema import FIRST_KNOWN_ID

STREAM_COLUMNS = ["weekday", "slot", "location", "event", "behavior", "first_target", "window_id"]
READ_CPUS = 0.25
"""Logical CPUs of one read task: decoding is light beside training."""
READS_PER_TASK = 8
"""Row groups decoded by one Ray task, so that its overhead (some ms) stays below its work."""


@dataclass(frozen=True, slots=True)
class Read:
    """Some rows of one row group."""

    path: str
    row_group: int
    rows: np.ndarray
    """Row numbers within the row group, rising."""


def read_targets(directory: Path, manifest: Manifest, num_targets: int) -> np.ndarray:
    """Return the scored targets of the train windows in stream order, as far as needed to reach `num_targets`."""
    parts, total = [], 0
    for shard in manifest.splits["train"].shards:
        table = pq.read_table(directory / shard.path, columns=["num_targets"], page_checksum_verification=True)
        parts.append(table["num_targets"].to_numpy())
        total += shard.num_targets
        if total >= num_targets:
            break
    return np.concatenate(parts)


def plan_reads(directory: Path, manifest: Manifest, windows: np.ndarray) -> list[Read]:
    """Return the reads that give the train windows at the stream indices `windows`, in that order.

    `windows` rises but for jumps (a branch and the trunk read the same windows); a jump back starts a new read.
    """
    shards = manifest.splits["train"].shards
    shard_start = np.concatenate([[0], np.cumsum([s.num_windows for s in shards])])
    shard = np.searchsorted(shard_start, windows, side="right") - 1
    row = windows - shard_start[shard]
    group = row // WINDOWS_PER_ROW_GROUP
    new = (np.diff(shard) != 0) | (np.diff(group) != 0) | (np.diff(row) <= 0)
    pieces = np.split(np.arange(len(windows)), np.flatnonzero(new) + 1) if len(windows) else []
    return [
        Read(str(directory / shards[shard[p[0]]].path), int(group[p[0]]), row[p] - group[p[0]] * WINDOWS_PER_ROW_GROUP)
        for p in pieces
    ]


def read_rows(read: Read) -> pa.Table:
    """Return the rows of one read, with page checksums verified.

    Raises:
        OSError: The shard is missing or its content is damaged; the message names it.
    """
    try:
        file = pq.ParquetFile(read.path, page_checksum_verification=True)
        return file.read_row_group(read.row_group, columns=STREAM_COLUMNS).take(pa.array(read.rows))
    except (OSError, pa.ArrowException) as error:
        raise OSError(f"{read.path}: row group {read.row_group} cannot be read: {error}") from error


def ray_tables(reads: list[Read]) -> Iterator[pa.Table]:
    """Yield the tables of `reads` in order, read ahead by Ray Data tasks on the cluster."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    items = [{"path": r.path, "row_group": r.row_group, "rows": r.rows.astype(np.uint16).tobytes()} for r in reads]
    dataset = ray.data.from_items(items, override_num_blocks=-(-len(items) // READS_PER_TASK)).map_batches(
        _read_batch, batch_format="pyarrow", batch_size=None, num_cpus=READ_CPUS
    )
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)


def local_tables(reads: list[Read]) -> Iterator[pa.Table]:
    """Yield the same tables without a cluster."""
    yield from map(read_rows, reads)


TableSource = Callable[[list[Read]], Iterator[pa.Table]]


def _read_batch(batch: pa.Table) -> pa.Table:
    reads = (Read(r["path"], r["row_group"], np.frombuffer(r["rows"], np.uint16)) for r in batch.to_pylist())
    return pa.concat_tables([read_rows(read) for read in reads])


def class_frequencies(directory: Path) -> list[float]:
    """Return the share of each class (behaviour id - 1) among the training split's events; `other` has none."""
    counts = read_vocabulary(directory / "vocab" / "behavior.parquet").counts
    padded = [0] * (FIRST_KNOWN_ID - 1) + list(counts)
    return [count / sum(counts) for count in padded]
