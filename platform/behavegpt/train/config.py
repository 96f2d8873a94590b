"""What a trunk computes (TrainConfig), on what it runs (ExecutionConfig), and the whole order to a worker (TrunkJob).

Everything in `TrainConfig` changes the numbers and is part of a cell's identity; `ExecutionConfig` must not change them
beyond rounding and is recorded beside the result.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from behavegpt.errors import InputError
from behavegpt.loss.config import DroConfig
from behavegpt.model.config import ModelConfig

Schedule = Literal["wsd", "wsd_independent", "cosine"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Optimiser, schedule, batch and loss of one trunk."""

    learning_rate: float
    """Peak rate of matrices and vectors."""
    embedding_lr_factor: float = 4.0
    """Rate of the lookup tables over the peak rate: an id gets a gradient only when it occurs."""
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
    dro: DroConfig | None = None
    """None trains with plain cross-entropy."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of weights and activations in training and validation alike; it moves losses in the third digit."""
    seed: int = 0
    """Of the initialisation. The order of the data is the dataset's own seeded shuffle."""
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
    checkpoint_steps: int = 2_000
    """A trunk is also saved every so many steps: what a killed worker costs at most."""

    def __post_init__(self) -> None:
        counts = {name: getattr(self, name) for name in ("num_workers", "cpus_per_worker", "checkpoint_steps")}
        problems = [f"{name} is {count}; it must be >= 1" for name, count in counts.items() if count < 1]
        if self.engine == "torch" and self.use_gpu:
            problems.append("engine is torch and use_gpu is set; the reference engine runs in fp32 on CPUs alone")
        if problems:
            raise InputError(*problems)

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
    keep_final: bool = False
    """Also keep a checkpoint of each branch's end: the finished model."""

    def __post_init__(self) -> None:
        assert self.train.schedule == "wsd" or len(self.cells) == 1, "only a wsd trunk has several branches"

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
