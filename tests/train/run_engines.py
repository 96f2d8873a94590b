"""One worker of test_engines.py: train one tiny job under each execution named, and write its losses.

Usage: run_engines.py DATASET OUT RANK WORLD_SIZE PORT ENGINE:STAGE[:poison] ...

A poisoned job has one step whose loss is a number and whose gradient is not; it writes its cells' statuses.
"""

import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from behavegpt.data.manifest import read_manifest
from behavegpt.data.stream import local_tables
from behavegpt.loss.dro import DroConfig
from behavegpt.loss.nll import token_losses
from behavegpt.model.config import for_width
from behavegpt.train import loop
from behavegpt.train.config import Cell, ExecutionConfig, TrainConfig, TrunkJob


def main(dataset: Path, out: Path, rank: int, world_size: int, port: str, *executions: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    dist.init_process_group("gloo")
    # One window for two workers up to 1,000 events, also where the first cell ends: a rank without rows.
    ramp = ((0, 1), (1_000, 2))
    recipe = TrainConfig(learning_rate=0.01, warmup_steps=5, batch_ramp=ramp, dro=DroConfig(eps=0.5, warmup_steps=5))
    for name in executions:
        engine, stage, *poison = name.split(":")
        loop.token_losses = poisoned(30) if poison else token_losses
        job = TrunkJob(
            study="engines",
            variant="cvar-0.5",
            trunk_id=f"{engine}{stage}x{world_size}",
            model=for_width(16, vocabulary_sizes=read_manifest(dataset).vocabulary_sizes),
            train=recipe,
            execution=ExecutionConfig(engine=engine, zero_stage=int(stage), num_workers=world_size),  # pyright: ignore
            dataset=dataset,
            study_dir=out / name.replace(":", ""),
            cells=tuple(Cell(cell_id=f"d{d}", num_events=d, num_windows=-(-d // 90)) for d in (950, 5_000)),
        )
        loop.train_trunk(job, local_tables, torch.device("cpu"))
        if rank == 0:
            lines = [json.loads(line) for line in job.curve_path.read_text().splitlines()]
            key = "status" if poison else "loss"
            values = [line[key] for line in lines if key in line]
            (out / f"{name.replace(':', '')}.json").write_text(json.dumps(values))


def poisoned(call: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Return token_losses whose so-many-th call has the same values, and NaN for a gradient."""
    calls = itertools.count()

    def losses(logits: Tensor, targets: Tensor) -> Tensor:
        # The derivative of sqrt at 0 is infinite; times 0 it is NaN.
        poison = 0.0 * torch.sqrt(0.0 * logits.sum()) if next(calls) == call else 0.0
        return token_losses(logits, targets) + poison

    return losses


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])
