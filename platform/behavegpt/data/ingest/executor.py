"""Run one pass: the same function over many independent items, results in the items' order.

`local_executor` uses threads of this process: numpy and Arrow release the interpreter while they work, so a one-file
ingest starts no process and imports no Ray. `ray_executor` runs the items as a Ray Data pipeline on a cluster; what
tasks exchange lies in the staging directory, which all nodes then share. Either way the bytes written are the same.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np

from behavegpt.data.ingest.progress import Progress
from behavegpt.errors import InputError

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    """Runs `task` on every item and yields the results in order; `label` names the pass in its progress."""

    def __call__(self, task: Callable[[T], R], items: Sequence[T], label: str) -> Iterator[R]: ...


def local_executor(num_workers: int) -> Executor:
    """Return an executor of `num_workers` threads, with at most twice as many results held at a time."""

    def run(task: Callable[[T], R], items: Sequence[T], label: str) -> Iterator[R]:
        with ThreadPoolExecutor(num_workers, thread_name_prefix=label) as pool:
            yield from _with_progress(in_order(pool, task, items, num_workers), len(items), label)

    return run


def in_order(pool: ThreadPoolExecutor, task: Callable[[T], R], items: Iterable[T], num_workers: int) -> Iterator[R]:
    """Yield the results in the order of the items, of which at most 2 * num_workers are taken ahead."""
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(task, item))
            if len(waiting) >= 2 * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def ray_executor() -> Executor:
    """Return an executor of Ray tasks, one CPU each, on the cluster that Ray finds."""

    def run(task: Callable[[T], R], items: Sequence[T], label: str) -> Iterator[R]:
        return _with_progress(_on_ray(task, items), len(items), label)

    return run


def _on_ray(task: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    import ray.data

    if not items:
        return
    dataset = ray.data.range(len(items), override_num_blocks=len(items)).map_batches(
        partial(_run_one, task, items), batch_size=1, batch_format="numpy", num_cpus=1
    )
    dataset.context.execution_options.preserve_order = True
    dataset.context.enable_progress_bars = False
    for row in dataset.iter_rows():
        if row["outcome"].problems:
            raise InputError(*row["outcome"].problems)
        yield row["outcome"].result


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a task gave; a user's error is a value too, since Ray would wrap the exception."""

    result: Any
    problems: tuple[str, ...] = ()


def _run_one(task: Callable[[Any], Any], items: Sequence[Any], batch: Any) -> dict[str, np.ndarray]:
    [index] = batch["id"]
    try:
        outcome = _Outcome(task(items[index]))
    except InputError as error:
        outcome = _Outcome(None, error.problems)
    # An array of one object: numpy would otherwise look into it.
    column = np.empty(1, object)
    column[0] = outcome
    return {"outcome": column}


def _with_progress(results: Iterator[R], total: int, label: str) -> Iterator[R]:
    progress = Progress(label)
    for done, result in enumerate(results, start=1):
        yield result
        progress.say(f"{done:,} of {total:,} done")
