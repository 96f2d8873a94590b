"""Which trunks share a worker group, and how many workers a trunk gets: pure rules of their estimated times.

In: the jobs that have cells missing, with seconds on one group of the execution's own size. Out: packs, each trained by
one worker group from its first trunk to its last. Starting a group costs some 10 CPU-seconds, whatever it then trains.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from behavegpt.data.stream import READ_CPUS
from behavegpt.errors import InputError
from behavegpt.train.config import ExecutionConfig, TrunkJob
from behavegpt.train.record import windows_per_batch

PACK_S = 1_200.0
"""Packs are cut to about this length where there are more trunks than the cluster trains at once: then the start of
a group is a hundredth of its work, and Tune evens out what the estimates got wrong."""
READERS_PER_TRUNK = 2
"""Ray Data tasks whose CPUs must exist besides the workers', or nothing ever starts; several workers share them."""
WORTH_SHARING_S = 600.0
"""A trunk shorter than this gets no further workers: what they exchange at each step would cost more than they save."""


def fits(execution: ExecutionConfig, cluster: dict[str, float]) -> int:
    """Return how many worker groups of the execution the cluster's resources hold side by side."""
    groups = int(cluster.get("CPU", 0) // _cpus(execution))
    if execution.use_gpu:
        groups = min(groups, int(cluster.get("GPU", 0) // execution.num_workers))
    return groups


def _cpus(execution: ExecutionConfig) -> float:
    return execution.num_workers * execution.cpus_per_worker + READERS_PER_TRUNK * READ_CPUS


def max_concurrent(execution: ExecutionConfig, cluster: dict[str, float]) -> int:
    """Return how many trunks the cluster's resources train side by side.

    Raises:
        InputError: Not even one fits; without this check Ray would wait for ever.
    """
    if (groups := fits(execution, cluster)) < 1:
        gpus = f" and {execution.num_workers} GPUs" if execution.use_gpu else ""
        raise InputError(
            f"one trunk needs {_cpus(execution):g} CPUs{gpus} ({execution.num_workers} workers and their readers); "
            f"the cluster has {cluster.get('CPU', 0):g} CPUs and {cluster.get('GPU', 0):g} GPUs"
        )
    return groups


@dataclass(frozen=True, slots=True)
class Pack:
    """Trunks that one worker group trains one after the other, all with the same number of workers."""

    jobs: tuple[TrunkJob, ...]
    seconds: float
    """Estimated."""

    @property
    def name(self) -> str:
        """The first trunk's id: unique within a sweep."""
        return self.jobs[0].trunk_id


def share_workers(
    jobs: Sequence[TrunkJob], seconds: Sequence[float], max_workers: int, slots: int, fits: Callable[[TrunkJob], bool]
) -> list[TrunkJob]:
    """Return the jobs with the workers that they get.

    The rule: a trunk that takes longer than a fair share of all (their sum over the groups side by side), and longer
    than WORTH_SHARING_S, gets twice, four or eight times its workers: the fewest that end the one or the other. Never
    more than `max_workers`, than the windows of its largest batch, or than the cluster holds.

    Args:
        slots: Groups of the execution's own size that the cluster trains side by side.
        fits: Whether the cluster holds the job's workers.
    """
    enough = max(sum(seconds) / slots, WORTH_SHARING_S)
    return [_with_workers(job, s, enough, max_workers, fits) for job, s in zip(jobs, seconds, strict=True)]


def _with_workers(
    job: TrunkJob, seconds: float, enough: float, max_workers: int, fits: Callable[[TrunkJob], bool]
) -> TrunkJob:
    own, windows = job.execution.num_workers, windows_per_batch(job.train.batch_ramp, job.cells[-1].num_events)
    for factor in (2, 4, 8):
        shared = replace(job, execution=replace(job.execution, num_workers=factor * own))
        taken = seconds * own / job.execution.num_workers
        if taken <= enough or factor * own > min(max_workers, windows) or not fits(shared):
            break
        job = shared
    return job


def pack(jobs: Sequence[TrunkJob], seconds: Sequence[float], concurrent: int) -> list[Pack]:
    """Return the packs, longest first: each trunk, from the longest on, joins the pack that has least to do.

    Within a pack the shortest trunk comes first, so that models of several sizes have losses early.
    """
    num_packs = min(len(jobs), max(concurrent, math.ceil(sum(seconds) / PACK_S)))
    order = sorted(range(len(jobs)), key=lambda i: (-seconds[i], jobs[i].trunk_id))
    heap = [(0.0, index) for index in range(num_packs)]
    members: list[list[int]] = [[] for _ in range(num_packs)]
    for job in order:
        load, index = heapq.heappop(heap)
        members[index].append(job)
        heapq.heappush(heap, (load + seconds[job], index))
    packs = [Pack(tuple(jobs[i] for i in reversed(chosen)), sum(seconds[i] for i in chosen)) for chosen in members]
    return sorted(packs, key=lambda one: -one.seconds)
