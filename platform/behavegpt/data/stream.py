"""The windows that a plan names, in its order: read by Ray Data tasks ahead of training, or by a plain loop.

In: a `ReadPlan`, and the stream positions of each step. Out: the rank's batch of each step. Ray Data has no resumable
iterator, so order and position are the plan's; Ray Data reads ahead what the plan says, in bounded memory, with one
start for all the legs of a trial. Every window's id is compared with the plan before a loss is computed from it.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import tee
from pathlib import Path

import numpy as np
import pyarrow as pa

from behavegpt.data.batches import Batch, cut
from behavegpt.data.lanes import DIGITS, read_row_groups, stored_order
from behavegpt.data.manifest import Manifest, Shard
from behavegpt.data.plan import ReadPlan, rank_windows, starts
from behavegpt.schema import LANES, STREAM_COLUMNS, WINDOWS_PER_BLOCK, WINDOWS_PER_ROW_GROUP

READ_CPUS = 0.25
"""Logical CPUs of one read task: decoding is light beside training."""
READERS = 2
"""Read tasks of one worker at a time: the second goes on where the first ends."""
READS_PER_TASK = 16
"""So that a task's start (some 10 ms) stays below its work; more where the plan has more than MAX_TASKS of them."""
MAX_TASKS = 4_096
"""Bounds what Ray Data holds of the plan, however long the run."""
BYTES_PER_BLOCK = 4 << 20
"""About one read: a task hands over what it has read long before it ends."""


def read_tables(plan: ReadPlan, first: int, last: int) -> Iterator[pa.Table]:
    """Yield the rank's rows of the reads first .. last (exclusive), in the order of the stream.

    Raises:
        OSError: A shard is missing, damaged or another one; the message names it.
    """
    for read in range(first, last):
        index, rows = plan.rows(read)
        if not len(rows):
            continue
        shard = plan.shards[index]
        begin = rows[0] // WINDOWS_PER_BLOCK * WINDOWS_PER_BLOCK
        lanes, lane_of = np.unique(rows % LANES, return_inverse=True)
        row_groups = begin // WINDOWS_PER_ROW_GROUP + lanes
        sizes = -(-(min(WINDOWS_PER_BLOCK, shard.num_windows - begin) - lanes) // LANES)
        table = read_row_groups(plan.directory / shard.path, shard, row_groups.tolist(), STREAM_COLUMNS)
        yield table.take(pa.array(starts(sizes)[lane_of] + (rows - begin) // LANES))


def local_tables(plan: ReadPlan) -> Iterator[pa.Table]:
    """Yield the tables of the plan in order, without a cluster."""
    return read_tables(plan, 0, len(plan))


def ray_tables(plan: ReadPlan) -> Iterator[pa.Table]:
    """Yield the rows of `local_tables`, in tables of another size, read ahead by Ray Data tasks on the cluster."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.target_max_block_size = BYTES_PER_BLOCK
    reads_per_task = max(READS_PER_TASK, -(-len(plan) // MAX_TASKS))
    num_tasks = -(-len(plan) // reads_per_task)

    def read(batch: pa.Table) -> Iterator[pa.Table]:
        for task in batch["id"].to_pylist():
            yield from read_tables(plan, task * reads_per_task, min((task + 1) * reads_per_task, len(plan)))

    dataset = ray.data.range(num_tasks, override_num_blocks=num_tasks).map_batches(
        read, batch_format="pyarrow", batch_size=None, num_cpus=READ_CPUS, concurrency=READERS
    )
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)


TableSource = Callable[[ReadPlan], Iterator[pa.Table]]


def stream_batches(plan: ReadPlan, tables: Iterable[pa.Table], steps: Iterable[tuple[int, int]]) -> Iterator[Batch]:
    """Yield the rank's batch of each step.

    Args:
        tables: What a `TableSource` gives for the plan.
        steps: First and last (exclusive) stream position of each step's windows, over all ranks.

    Raises:
        OSError: A window is not the one that the plan names: a shard was swapped, or the stream lost its order.
    """
    mine, sizes = tee(rank_windows(first, last, plan.rank, plan.world_size) for first, last in steps)
    for positions, batch in zip(mine, cut(tables, map(len, sizes)), strict=True):
        expected = plan.window_ids(positions)
        if not np.array_equal(batch.window_id, expected):
            first = int(np.flatnonzero(batch.window_id != expected)[0])
            raise OSError(
                f"{plan.path_of(positions[first])}: gave window {batch.window_id[first]} where the plan has "
                f"{expected[first]}; verify the dataset"
            )
        yield batch


def read_targets(directory: Path, manifest: Manifest, num_targets: int) -> np.ndarray:
    """Return (W,) uint8 the scored targets of the train windows in stream order, as far as needed for `num_targets`.

    Raises:
        OSError: A shard is missing, damaged or another one; the message names it.
    """
    parts, total = [], 0
    for shard in manifest.splits["train"].shards:
        parts.append(_read_shard_targets(directory / shard.path, shard))
        total += shard.num_targets
        if total >= num_targets:
            break
    return np.concatenate([np.zeros(0, np.uint8), *parts])


def _read_shard_targets(path: Path, shard: Shard) -> np.ndarray:
    num_row_groups = len(shard.crc32) // DIGITS - 1
    stored = read_row_groups(path, shard, range(num_row_groups), ["num_targets"])["num_targets"].to_numpy()
    if len(stored) != shard.num_windows or stored.sum(dtype=np.int64) != shard.num_targets:
        raise OSError(f"{path}: its num_targets do not add up to the manifest's; verify the dataset")
    targets = np.empty_like(stored)
    targets[stored_order(shard.num_windows)] = stored
    return targets
