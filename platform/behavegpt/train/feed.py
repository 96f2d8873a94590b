"""The batches of a trunk's legs on this rank, in order: the stream's windows, cut to steps and to each branch's D.

In: a job, its plan and its legs, and a source of tables. Out: one `Batch` a step.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from behavegpt.data.batches import Batch, empty_batch, keep_targets, take_rows
from behavegpt.data.manifest import Manifest
from behavegpt.data.plan import plan_reads, rank_windows
from behavegpt.data.stream import TableSource, stream_batches
from behavegpt.train.config import TrunkJob
from behavegpt.train.distributed import rank, world_size
from behavegpt.train.schedule import Leg, StepPlan


def batches_of(
    job: TrunkJob, manifest: Manifest, plan: StepPlan, legs: list[Leg], tables: TableSource
) -> Iterator[Batch]:
    """Yield this rank's batch of every step of every leg, in order."""
    ranges = [(int(plan.first_window[leg.start]), _last_window(plan, leg)) for leg in legs]
    reads = plan_reads(job.dataset, manifest, "train", ranges, rank(), world_size())
    batches = stream_batches(reads, tables(reads), (span for leg in legs for span in _step_windows(plan, leg)))
    for leg in legs:
        for step, (first, last) in enumerate(_step_windows(plan, leg), leg.start):
            batch = next(batches)
            events_after = plan.events_after(step)[: last - first]
            mine = rank_windows(first, last, rank(), world_size()) - first
            if len(mine) and events_after[-1] > leg.num_events:
                batch = keep_targets(batch, leg.num_events - (events_after - plan.window_targets[first:last])[mine])
            yield batch


def slices_of(batch: Batch, num_windows: int, most: int | None) -> list[Batch]:
    """Return the rank's batch in micro-batches of at most `most` windows: as many of them on every rank.

    Args:
        num_windows: Of the global batch.
        most: None leaves the batch whole.
    """
    count = 1 if most is None else math.ceil(math.ceil(num_windows / world_size()) / most)
    if count == 1:
        return [batch]
    edges = np.linspace(0, len(batch.window_id), count + 1).astype(int)
    return [take_rows(batch, first, last) if first < last else empty_batch() for first, last in pairwise(edges)]


def _step_windows(plan: StepPlan, leg: Leg) -> Iterator[tuple[int, int]]:
    """Yield the stream positions, first and last (exclusive), of each step of the leg."""
    end = _last_window(plan, leg)
    for step in range(leg.start, leg.stop):
        yield int(plan.first_window[step]), min(int(plan.first_window[step + 1]), end)


def _last_window(plan: StepPlan, leg: Leg) -> int:
    """Return where the leg ends: the last step of a branch stops at the window that completes D."""
    return min(int(plan.first_window[leg.stop]), plan.windows_of(leg.num_events))
