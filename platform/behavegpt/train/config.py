"""What a trunk computes (TrainConfig), on what it runs (ExecutionConfig), and the whole order to a worker (TrunkJob).

Everything in `TrainConfig` changes the numbers and is part of a cell's identity; `ExecutionConfig` must not change them
beyond rounding and is recorded beside the result.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from behavegpt.errors import InputError
from behavegpt.loss.config import Loss
from behavegpt.model.config import ModelConfig
from behavegpt.train.trainable import Trainable

if TYPE_CHECKING:
    from behavegpt.train.family import Family

Schedule = Literal["wsd", "wsd_independent", "cosine"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Optimiser, schedule, batch and loss of one trunk."""

    learning_rate: float
    """Peak rate of matrices and vectors."""
    embedding_lr_factor: float = 4.0
    """Rate of the lookup tables over the peak rate; the recipe sets its own."""
    warmup_steps: int = 20
    decay_share: float = 0.2
    """The last share of a cell's events, over which the rate falls linearly to zero (wsd)."""
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.01
    """On matrices only."""
    clip_norm: float = 1.0
    batch_ramp: tuple[tuple[int, int], ...] = ((0, 16),)
    """(events seen, windows per global batch): the batch from that many events on."""
    schedule: Schedule = "wsd"
    """wsd: one trunk, a decay branch per cell; wsd_independent: the same losses, one run per cell; cosine: one run
    per cell whose rate falls along a half cosine to a tenth of the peak."""
    loss: Loss | None = None
    """None trains with plain cross-entropy."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of weights and activations in training and validation alike; it moves losses in the third digit."""
    seed: int = 0
    """Of the initialisation. The order of the data is the dataset's own seeded shuffle."""
    initial: str | None = None
    """sha256 of the weights that training starts from, those of TrunkJob.initial; None draws them from the seed."""
    trainable: Trainable | None = None
    """Which parameters move; None moves all."""
    num_val_windows: int | None = None
    """Validate on the first so many windows of the validation split; None takes them all."""

    def __post_init__(self) -> None:
        positive = ("learning_rate", "embedding_lr_factor", "clip_norm")
        problems = [
            f"{name} is {value}; it must be positive and finite"
            for name, value in ((name, getattr(self, name)) for name in positive)
            if not 0 < value < math.inf
        ]
        if not 0 < self.decay_share < 1:
            problems.append(f"decay_share is {self.decay_share}; it must lie between 0 and 1")
        if self.warmup_steps < 0:
            problems.append(f"warmup_steps is {self.warmup_steps}; it must be >= 0")
        starts = [start for start, _ in self.batch_ramp]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)) or min(w for _, w in self.batch_ramp) < 1:
            problems.append(f"batch_ramp is {self.batch_ramp}; it must rise from 0 events, with >= 1 window each")
        if problems:
            raise InputError(*problems)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutionConfig:
    """Workers, engine and devices."""

    engine: Literal["deepspeed", "torch"] = "deepspeed"
    """torch is the plain reference that shows DeepSpeed computes the same."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    num_workers: int = 1
    cpus_per_worker: int = 1
    """Threads of each worker as well."""
    use_gpu: bool = False
    """One GPU a worker and NCCL, and a recipe in bf16; otherwise gloo and fp32."""
    offload: Literal["none", "optimizer", "parameters"] = "none"
    """What waits in the machine's memory while a GPU computes: the optimiser's states (stages 1 to 3), or those and the
    weights (stage 3)."""
    recompute: bool = False
    """Keep each block's input alone and run the block again in the backward pass: less memory, a third more time."""
    micro_windows: int | None = None
    """Most windows of one forward pass on a worker; None takes what memory holds, if it can its share of the batch."""
    memory_gb: float | None = None
    """Memory of one worker, the GPU's or its part of the machine's, in 1e9 bytes; None takes what the worker finds."""
    checkpoint_steps: int = 2_000
    """A run is also saved every so many steps: what a killed worker costs at most."""
    timeout_s: float = 1_800.0
    """A worker that takes no step for so long, a first batch or a checkpoint included, is ended: its cell is a row with
    status `timeout`. Raise it where one step takes longer."""

    def __post_init__(self) -> None:
        counts = ("num_workers", "cpus_per_worker", "micro_windows", "checkpoint_steps")
        values = {name: getattr(self, name) for name in counts}
        problems = [f"{name} is {n}; it must be >= 1" for name, n in values.items() if n is not None and n < 1]
        if not 0 < self.timeout_s < math.inf:
            problems.append(f"timeout_s is {self.timeout_s}; it must be positive and finite")
        if self.memory_gb is not None and not 0 < self.memory_gb < math.inf:
            problems.append(f"memory_gb is {self.memory_gb}; it must be positive and finite")
        if self.engine == "torch" and self.use_gpu:
            problems.append("engine is torch and use_gpu is set; the reference engine runs in fp32 on CPUs alone")
        if self.engine == "torch" and self.zero_stage > 0:
            problems.append(f"engine is torch and zero_stage is {self.zero_stage}; only DeepSpeed has ZeRO's stages")
        problems += self._offload_problems()
        if problems:
            raise InputError(*problems)

    def _offload_problems(self) -> list[str]:
        if self.offload == "none":
            return []
        given = f"offload is {self.offload}"
        problems = []
        if not self.use_gpu:
            problems.append(f"{given} and use_gpu is not set; on CPUs everything is in the machine's memory already")
        least = 3 if self.offload == "parameters" else 1
        if self.zero_stage < least or self.engine == "torch":
            problems.append(f"{given} and zero_stage is {self.stage_label}; it takes DeepSpeed with stage >= {least}")
        return problems

    @property
    def stage_label(self) -> int:
        """The ZeRO stage, or -1 for the torch engine, as the results table stores it."""
        return self.zero_stage if self.engine == "deepspeed" else -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One point of the study: the branch of a trunk that ends at num_events."""

    cell_id: str
    num_events: int
    """D: unique training targets consumed."""
    num_windows: int
    """Windows that hold these targets: what the model computes on, targets or not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrunkJob:
    """All that a worker needs in order to train one trunk and the branches that are still missing."""

    study: str
    trunk_id: str
    variant: str
    """Name of the law that its cells belong to."""
    model: ModelConfig
    train: TrainConfig
    execution: ExecutionConfig
    dataset: Path
    study_dir: Path
    cells: tuple[Cell, ...]
    """By rising num_events."""
    later: tuple[int, ...] = ()
    """Data sizes that may be asked for in another run: the trunk is also saved where their branches would leave it."""
    keep_final: bool = False
    """Also keep a checkpoint of each branch's end: the finished model."""
    initial: Path | None = None
    """Directory of the exported model (saved.py) that TrainConfig.initial names."""
    family: "Family | None" = None
    """None is BehaveGPT."""

    def __post_init__(self) -> None:
        assert self.train.schedule == "wsd" or len(self.cells) == 1, "only a wsd trunk has several branches"
        assert self.train.trainable is None or self.family is None, "only BehaveGPT has parts to freeze"

    @property
    def checkpoint_dir(self) -> Path:
        return self.study_dir / "checkpoints" / self.trunk_id

    @property
    def curve_path(self) -> Path:
        return self.study_dir / "curves" / f"{self.trunk_id}.jsonl"

    def final_name(self, cell: Cell) -> str:
        """Return the name of the checkpoint that `keep_final` asks for."""
        return f"final-{cell.num_events}"

    @property
    def cell_dir(self) -> Path:
        return self.study_dir / "cells"
