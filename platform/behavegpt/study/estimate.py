"""What a study will cost, before anything runs: FLOPs and memory by arithmetic, time by one short measurement.

In: a Plan. Out: the lines of the table that `--plan` prints and every run prints first.
"""

import math
import os
import time

import numpy as np

from behavegpt.data.manifest import Manifest
from behavegpt.errors import InputError
from behavegpt.model.sizing import count_params, flops_per_window
from behavegpt.study.grid import Cost, Plan
from behavegpt.study.packs import pack
from behavegpt.train.config import TrunkJob
from behavegpt.train.memory import estimate_memory, micro_windows, share_of, worker_bytes

STEP_OVERHEAD_S = 0.006
"""Seconds of a step that do not shrink with the model (Python, kernel launches, AdamW's many small tensors)."""
UTILISATION = 0.35
"""Training FLOP/s of small models over the same core's rate of a large fp32 matrix product."""
GPU_FLOPS_PER_S = 5e13
"""Training FLOP/s of one GPU: a twentieth of what an H100 can do in bf16. Not measured; a CPU's rate is."""
TRUNK_START_S = 2.0
"""Seconds of a trunk before its first batch and besides its steps: engine, stream, checkpoints."""
GROUP_START_S = 20.0
"""Seconds from a sweep's start to its first batch on a small machine: Tune, then a worker group and its imports."""


def check_memory(plan: Plan) -> None:
    """Refuse a plan whose workers would run out of memory, as far as it is known here: where memory_gb is set, or for
    workers on the CPUs of this machine.

    Raises:
        InputError: One sentence for each trunk that does not fit, with what would.
    """
    problems = []
    for job in plan.jobs:
        if job.execution.memory_gb is not None or not job.execution.use_gpu:
            try:
                micro_windows(job, worker_bytes(job.execution))
            except InputError as error:
                problems += error.problems
    if problems:
        raise InputError(*problems)


def memory_bytes(job: TrunkJob) -> float:
    """Return a worker's memory at its largest batch or micro-batch."""
    micro = job.execution.micro_windows
    return estimate_memory(job, None if micro is None else min(micro, share_of(job))).total


def matmul_flops_per_core() -> float:
    """Return this machine's fp32 matrix-product rate on one core: the best of some short samples.

    The products are too small for a library to spread them over threads, and the time is the thread's own: what else
    runs on the machine does not count.
    """
    a = np.ones((400, 64, 64), np.float32)
    best = math.inf
    for _ in range(20):
        begin = time.thread_time()
        np.matmul(a, a)
        best = min(best, time.thread_time() - begin)
    return 2 * 64**3 * len(a) / best


def trunk_seconds(job: TrunkJob, cost: Cost, manifest: Manifest, rate: float) -> float:
    """Return the estimated wall time of one trunk with its branches and validations in a group that runs.

    Args:
        rate: FLOP/s of one core, see `matmul_flops_per_core`.
    """
    per_window = flops_per_window(job.model)
    val = manifest.splits["val"].num_windows
    val = val if job.train.num_val_windows is None else min(val, job.train.num_val_windows)
    flops = per_window.training * cost.windows + per_window.forward * val * len(job.cells)
    execution = job.execution
    worker_rate = GPU_FLOPS_PER_S if execution.use_gpu else rate * UTILISATION * execution.cpus_per_worker
    return TRUNK_START_S + cost.steps * STEP_OVERHEAD_S + flops / (worker_rate * execution.num_workers)


def estimate_seconds(plan: Plan, manifest: Manifest) -> float:
    """Return the estimated wall time of the sweep on this machine's cores."""
    if not plan.jobs:
        return 0.0
    cores = os.cpu_count() or 1
    rate = matmul_flops_per_core()
    execution = plan.jobs[0].execution
    side_by_side = max(1, cores // (execution.num_workers * execution.cpus_per_worker))
    seconds = [trunk_seconds(job, cost, manifest, rate) for job, cost in zip(plan.jobs, plan.costs, strict=True)]
    places = [0.0] * side_by_side
    for one in pack(plan.jobs, seconds, side_by_side):
        places[int(np.argmin(places))] += GROUP_START_S + one.seconds
    return max(places)


def plan_lines(plan: Plan, manifest: Manifest, seconds: float | None) -> list[str]:
    """Return the plan as aligned text: a line per trunk, then the totals.

    Args:
        seconds: What is missing takes so long here; None where that is not known.
    """
    head = ("N", 13), ("total params", 13), ("cells", 5), ("events to train", 16), ("FLOPs", 9), ("memory", 9)
    wide = max(24, *(len(job.trunk_id) for job in plan.jobs))
    lines = [
        f"study {plan.jobs[0].study} on {manifest.name} ({manifest.fingerprint[:12]})",
        f"  {'trunk':{wide}} " + " ".join(f"{name:>{width}}" for name, width in head),
    ]
    total = 0.0
    for job, cost in zip(plan.jobs, plan.costs, strict=True):
        counts = count_params(job.model)
        flops = flops_per_window(job.model).training * cost.windows
        total += flops
        lines.append(
            f"  {job.trunk_id:{wide}} {counts.non_embedding:>13,} {counts.total:>13,} {len(job.cells):>5} "
            f"{cost.events:>16,} {flops:>9.2e} {memory_bytes(job) / 1e9:>6.1f} GB"
        )
    lines += _size_lines(plan)
    variants = list(dict.fromkeys(job.variant for job in plan.jobs))
    events = sum(cost.events for cost in plan.costs)
    lines += [f"  variants, each with a law of its own: {', '.join(variants)}"] if len(variants) > 1 else []
    lines += [
        f"  in all {len(plan.jobs)} trunks, {plan.num_cells} cells, {events:,} events to train, {total:.2e} FLOPs",
        f"  {plan.cost_ratio:.2f} of the events that one run per cell would train",
        *(f"  {note}" for note in plan.notes),
    ]
    return lines + ([] if seconds is None else [f"  what is missing takes about {_duration(seconds)} on this machine"])


def _size_lines(plan: Plan) -> list[str]:
    """Return the data sizes: one line where all models have the same, else one per model."""
    sizes = {
        model: sorted({c.num_events for job in plan.jobs if job.model == model for c in job.cells})
        for model in dict.fromkeys(job.model for job in plan.jobs)
    }
    if len({tuple(values) for values in sizes.values()}) == 1:
        return ["  D (unique training targets): " + ", ".join(f"{size:,}" for size in next(iter(sizes.values())))]
    return [
        f"  D at width {model.width}: " + ", ".join(f"{size:,}" for size in values) for model, values in sizes.items()
    ]


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds < 7_200 else f"{seconds / 3_600:,.0f} hours"
