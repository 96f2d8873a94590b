"""What a study will cost, before anything runs: FLOPs and memory by arithmetic, time by one short measurement.

In: a Plan. Out: the lines of the table that `--plan` prints and every run prints first.
"""

import math
import os
import time

import numpy as np

from behavegpt.data.manifest import Manifest
from behavegpt.model.sizing import count_params, flops_per_window
from behavegpt.schema import NUM_INPUTS
from behavegpt.study.grid import Cost, Plan
from behavegpt.train.config import ExecutionConfig, TrunkJob
from behavegpt.train.record import windows_per_batch

STEP_OVERHEAD_S = 0.006
"""Seconds of a step that do not shrink with the model (Python, kernel launches, AdamW's many small tensors)."""
UTILISATION = 0.35
"""Training FLOP/s of small models over the same core's rate of a large fp32 matrix product."""
START_UP_S = 20.0
"""Seconds from a trial's start to its first batch on a small machine."""
PROCESS_BYTES = 600e6
"""Resident memory of a worker before its model: torch, ray, deepspeed."""
BYTES_PER_PARAM = 16
"""fp32 weight, gradient and two AdamW moments."""
ACTIVATION_VALUES_PER_POSITION = 34
"""Stored fp32 values per position, block and unit of width, attention maps not counted (Korthikanti et al. 2022)."""


def memory_bytes(job: TrunkJob) -> float:
    """Return a worker's memory at its largest batch, model states unsharded."""
    windows = math.ceil(windows_per_batch(job.train.batch_ramp, job.cells[-1].num_events) / job.execution.num_workers)
    positions = windows * NUM_INPUTS
    activations = 4 * positions * (ACTIVATION_VALUES_PER_POSITION * job.model.depth * job.model.width)
    return PROCESS_BYTES + BYTES_PER_PARAM * count_params(job.model).total + activations


def matmul_flops_per_s() -> float:
    """Return this machine's fp32 matrix-product rate with all of numpy's threads: the best of some short samples."""
    a = np.ones((512, 512), np.float32)
    best = math.inf
    for _ in range(40):
        begin = time.perf_counter()
        np.matmul(a, a)
        best = min(best, time.perf_counter() - begin)
    return 2 * 512**3 / best


def trunk_seconds(job: TrunkJob, cost: Cost, manifest: Manifest, rate: float) -> float:
    """Return the estimated wall time of one trunk with its branches and validations, start-up included."""
    per_window = flops_per_window(job.model)
    val = manifest.splits["val"].num_windows
    val = val if job.train.num_val_windows is None else min(val, job.train.num_val_windows)
    flops = per_window.training * cost.windows + per_window.forward * val * len(job.cells)
    threads = job.execution.num_workers * job.execution.cpus_per_worker
    return START_UP_S + cost.steps * STEP_OVERHEAD_S + flops / (rate * UTILISATION * threads)


def estimate_seconds(plan: Plan, manifest: Manifest) -> float:
    """Return the estimated wall time of the sweep on this machine's cores, longest trunks first."""
    cores = os.cpu_count() or 1
    rate = matmul_flops_per_s() / cores
    execution = plan.jobs[0].execution if plan.jobs else ExecutionConfig()
    places = [0.0] * max(1, cores // (execution.num_workers * execution.cpus_per_worker))
    for job, cost in zip(plan.jobs, plan.costs, strict=True):
        places[int(np.argmin(places))] += trunk_seconds(job, cost, manifest, rate)
    return max(places, default=0.0)


def plan_lines(plan: Plan, manifest: Manifest, seconds: float) -> list[str]:
    """Return the plan as aligned text: a line per trunk, then the totals."""
    head = ("N", 11), ("total params", 13), ("cells", 5), ("events to train", 16), ("FLOPs", 9), ("memory", 8)
    lines = [
        f"study {plan.jobs[0].study} on {manifest.name} ({manifest.fingerprint[:12]})",
        f"  {'trunk':24} " + " ".join(f"{name:>{width}}" for name, width in head),
    ]
    total = 0.0
    for job, cost in zip(plan.jobs, plan.costs, strict=True):
        counts = count_params(job.model)
        flops = flops_per_window(job.model).training * cost.windows
        total += flops
        lines.append(
            f"  {job.trunk_id:24} {counts.non_embedding:>11,} {counts.total:>13,} {len(job.cells):>5} "
            f"{cost.events:>16,} {flops:>9.2e} {memory_bytes(job) / 1e9:>5.1f} GB"
        )
    sizes = sorted({cell.num_events for job in plan.jobs for cell in job.cells})
    lines.append("  D (unique training targets): " + ", ".join(f"{size:,}" for size in sizes))
    lines.append(
        f"  in all {len(plan.jobs)} trunks, {plan.num_cells} cells, "
        f"{sum(cost.events for cost in plan.costs):,} events to train, {total:.2e} FLOPs"
    )
    lines += [f"  {note}" for note in plan.notes]
    lines.append(f"  what is missing takes about {seconds / 60:.1f} minutes on this machine")
    return lines
