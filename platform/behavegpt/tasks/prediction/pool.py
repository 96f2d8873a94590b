"""Where the predictor runs: on threads of this process, or in a pool of actors of Ray Data, each with its own model.

In: a source of histories. Out: tables of predictions, in the order of the users. Either way each batch is computed by
one thread, so the numbers are the same to the last bit.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pyarrow as pa

from behavegpt.data.ingest.executor import in_order
from behavegpt.tasks.prediction.histories import Source, read_slices
from behavegpt.tasks.prediction.predictor import Predictor
from behavegpt.train.process import settle

USERS_AT_ONCE = 4096
"""Among which rows are sorted by length; 2 MB of histories."""
READ_CPUS = 0.25
"""Logical CPUs of one read task: reading is light beside the model."""
BYTES_PER_BLOCK = 256 << 10
"""Of histories, some 500 users: what a read task hands over and an actor takes at a time. Small beside what an actor
computes from it, so that the last actor does not keep the others waiting."""

Pool = Callable[[Source, Predictor], Iterator[pa.Table]]


def threads(num_workers: int) -> Pool:
    """Return a pool of threads of this process, which share the model."""

    def run(source: Source, predictor: Predictor) -> Iterator[pa.Table]:
        # Each sets itself up: whether tiny numbers are taken for 0 is a matter of the thread.
        with ThreadPoolExecutor(num_workers, "predict", settle, (1,)) as pool:
            yield from in_order(pool, predictor, read_slices(source, USERS_AT_ONCE), num_workers)

    return run


def actors(num_actors: int) -> Pool:
    """Return a pool of at most so many actors, one CPU each, on the cluster that Ray is connected to."""

    def run(source: Source, predictor: Predictor) -> Iterator[pa.Table]:
        import ray.data

        shared = ray.put(predictor)
        # Before the first operator, which keeps what it finds.
        context = ray.data.DataContext.get_current().copy()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        context.target_max_block_size = BYTES_PER_BLOCK
        with ray.data.DataContext.current(context):
            dataset = ray.data.range(source.num_reads, override_num_blocks=source.num_reads)
            dataset = dataset.map_batches(
                partial(_read, source), batch_size=1, batch_format="numpy", num_cpus=READ_CPUS
            )
            dataset = dataset.map_batches(
                PooledPredictor,
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=1,
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=num_actors),
                fn_constructor_args=(shared,),
            )
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")

    return run


def _read(source: Source, batch: Any) -> pa.Table:
    [index] = batch["id"]
    return source.read(int(index))


class PooledPredictor:
    """A predictor in an actor."""

    def __init__(self, predictor: Any) -> None:
        """Take the reference of a predictor, of which each actor makes its own copy."""
        import ray

        settle(1)
        self._predictor: Predictor = ray.get(predictor)

    def __call__(self, histories: pa.Table) -> pa.Table:
        return self._predictor(histories)
