"""What a worker's memory must hold, item by item, before anything is built; and what would fit where it does not.

In: a job and the bytes that a worker has. Out: a `Memory`, the micro-batch that fits, or a refusal that says what does.
Legend: P parameters, W workers. Byte counts per parameter follow Rajbhandari et al. 2020 (ZeRO, section 3).
"""

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

from behavegpt.errors import InputError
from behavegpt.model.config import ModelConfig
from behavegpt.model.sizing import count_params
from behavegpt.schema import NUM_INPUTS
from behavegpt.train.config import ExecutionConfig, TrunkJob
from behavegpt.train.record import windows_per_batch
from behavegpt.train.trainable import count_trained

PROCESS_BYTES = 600e6
"""Memory of a worker before its model: torch, ray, deepspeed. On a GPU, its context and kernels take as much."""
BLOCK_VALUES = 18
"""Values that a block keeps per position and unit of width for its backward pass: both norms' inputs and outputs (4),
queries, keys, values and the output of attention (4), of the feed-forward layer both sides of the activation (8), and
both residual sums (2)."""
LOGIT_VALUES = 4
"""Values per position and class: logits, their logarithms, and the gradients of both."""
HEAP_HOLES = 2.0
"""A process's heap over what lies in it where activations are recomputed on a CPU: measured up to 1.9 for widths 64 to
512 and depths 2 to 12, and below 1 with a map for each tensor, so it is what the heap loses between blocks."""
GPU_SHARE = 0.9
"""Of a GPU's memory; the rest is lost between blocks of other sizes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes on the device that computes."""

    weights: float
    gradients: float
    optimizer: float
    """Moments, and float32 copies of the weights where there are any."""
    activations: float
    process: float = PROCESS_BYTES

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations + self.process


def estimate_memory(job: TrunkJob, windows: int | None = None) -> Memory:
    """Return a worker's memory at its largest batch. Frozen parameters have neither gradients nor moments.

    Args:
        windows: Of a micro-batch; None takes the worker's whole share of the batch.
    """
    execution, bf16 = job.execution, job.train.precision == "bf16"
    counts = (job.family.count_params if job.family else count_params)(job.model)
    num_params, workers, stage = counts.total, execution.num_workers, execution.stage_label
    trained = count_trained(job.model, job.train.trainable) if job.train.trainable else num_params
    width = 2 if bf16 else 4
    # Plain fp32 moves the model's own weights; bf16 and ZeRO move a float32 copy.
    optimizer = 8 + (4 if bf16 or stage > 0 else 0)
    # ZeRO 1 and 2 also keep the worker's own part of the reduced gradients while the others' are still there.
    reduced = 4 / workers if stage > 0 else 4 if bf16 else 0
    return Memory(
        weights=0 if execution.offload == "parameters" else num_params * width / (workers if stage == 3 else 1),
        gradients=trained * (width / (workers if stage >= 2 else 1) + reduced),
        optimizer=0 if execution.offload != "none" else trained * optimizer / (workers if stage > 0 else 1),
        activations=activation_bytes(job.model, share_of(job) if windows is None else windows, width, execution),
    )


def share_of(job: TrunkJob) -> int:
    """Return how many windows of its largest batch fall to a worker."""
    return math.ceil(windows_per_batch(job.train.batch_ramp, job.cells[-1].num_events) / job.execution.num_workers)


def activation_bytes(model: ModelConfig, windows: int, value_bytes: int, execution: ExecutionConfig) -> float:
    """Return what a forward and a backward pass over so many windows keep.

    With recomputation a block keeps its input alone, and one block at a time its inner values.
    """
    blocks = BLOCK_VALUES * model.depth if not execution.recompute else model.depth + BLOCK_VALUES
    # Beside what is kept, the backward pass holds the gradients of one feed-forward layer.
    values = model.width * (blocks + 8) * value_bytes + LOGIT_VALUES * model.num_classes * 4
    holes = HEAP_HOLES if execution.recompute and not execution.use_gpu else 1.0
    return windows * NUM_INPUTS * values * holes


def micro_windows(job: TrunkJob, limit: float) -> int | None:
    """Return the most windows of a micro-batch that fit into `limit` bytes, None where the worker's whole share does.

    Raises:
        InputError: Not even one window fits; the message names what would.
    """
    if job.execution.micro_windows is not None:
        share = min(job.execution.micro_windows, share_of(job))
        if estimate_memory(job, share).total > limit:
            raise InputError(_refusal(job, limit, share))
        return job.execution.micro_windows
    if estimate_memory(job).total <= limit:
        return None
    one, two = (estimate_memory(job, windows).total for windows in (1, 2))
    most = int((limit - one) / (two - one)) + 1 if one <= limit else 0
    if most < 1:
        raise InputError(_refusal(job, limit, 1))
    return most


def worker_bytes(execution: ExecutionConfig) -> float:
    """Return the memory of a worker: as the execution says, or this process's GPU's, or its part of this machine's."""
    if execution.memory_gb is not None:
        return execution.memory_gb * 1e9
    if execution.use_gpu:
        import torch  # not needed to plan for CPUs

        return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory * GPU_SHARE
    return machine_bytes() / execution.num_workers


def machine_bytes() -> float:
    """Return this machine's memory, or what its container may take of it."""
    physical = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    limits = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    texts = [path.read_text().strip() for path in limits if path.is_file()]
    return min([physical, *(float(text) for text in texts if text.isdecimal())])


def _refusal(job: TrunkJob, limit: float, windows: int) -> str:
    needed = estimate_memory(job, windows)
    parts = ", ".join(f"{name} {getattr(needed, name) / 1e9:.2f}" for name in ("weights", "gradients", "optimizer"))
    text = (
        f"{job.trunk_id}: a worker needs {needed.total / 1e9:.2f} GB for a micro-batch of {windows} windows ({parts}, "
        f"activations {needed.activations / 1e9:.2f}) and has {limit / 1e9:.2f}"
    )
    for words, execution in _alternatives(job.execution):
        fitting = estimate_memory(replace(job, execution=execution), windows).total
        if fitting <= limit:
            return f"{text}; with {words} it needs {fitting / 1e9:.2f} GB, which fits"
    return f"{text}; no ZeRO stage fits on {job.execution.num_workers} workers: take more workers or a smaller model"


def _alternatives(execution: ExecutionConfig) -> list[tuple[str, ExecutionConfig]]:
    """Return executions of the same job that need less memory, the cheapest in time first."""
    found = [("recompute", replace(execution, recompute=True))] if not execution.recompute else []
    sharded = [
        (f"zero_stage {stage}", replace(execution, engine="deepspeed", zero_stage=stage))
        for stage in (1, 2, 3)
        if stage > execution.stage_label and execution.num_workers > 1
    ]
    found += sharded + [(f"{words} and recompute", replace(one, recompute=True)) for words, one in sharded]
    if execution.use_gpu:
        for offload, stage in (("optimizer", 2), ("parameters", 3)):
            more = replace(execution, zero_stage=stage, offload=offload, recompute=True)  # pyright: ignore
            found.append((f"zero_stage {stage}, offload {offload} and recompute", more))
    return found
