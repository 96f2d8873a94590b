"""One worker of the engine tests: train one tiny job under each execution named, and write its losses.

Usage: run_engines.py DATASET OUT RANK WORLD_SIZE PORT NAME=ENGINE:STAGE[:OPTION...] ...

Options: `poison` gives one step a loss that is a number and a gradient that is not, and writes the cells' statuses;
`stop` ends the run amid its trunk, as a kill would, and writes nothing; `micro` cuts batches into micro-batches
of one window; `bf16` takes that precision; `lora` freezes what low-rank updates freeze; `untouched` takes steps by
hand, the last one with a poisoned gradient, and writes whether it moved anything. A NAME that ran before is resumed.
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
from behavegpt.loss.config import Cvar
from behavegpt.loss.nll import token_losses
from behavegpt.model.config import for_width
from behavegpt.model.transformer import BehaveGPT, initialise
from behavegpt.train import identity, loop, robust
from behavegpt.train.config import Cell, ExecutionConfig, TrainConfig, TrunkJob
from behavegpt.train.engine import build_engine
from behavegpt.train.trainable import Lora, Trainable

SIZES = (950, 5_000)
# One window for two workers up to 1,500 events, also where the first cell ends: a rank without rows. Then three: shares
# of two and one.
RAMP = ((0, 1), (1_500, 3))


class Stopped(BaseException):
    pass


def main(dataset: Path, out: Path, rank: int, world_size: int, port: str, *executions: str) -> None:
    torch.set_num_threads(1)
    identity.code_version = lambda: "fixed"  # sources that are edited between two launches are not what is tested
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    dist.init_process_group("gloo")
    for text in executions:
        name, _, rest = text.partition("=")
        engine, stage, *options = rest.split(":")
        job = job_of(dataset, out / name, engine, int(stage), world_size, options)
        values = untouched(job, out / f"{name}-state", rank) if "untouched" in options else train(job, options)
        if rank == 0 and "stop" not in options:
            (out / f"{name}.json").write_text(json.dumps(values))


def job_of(dataset: Path, out: Path, engine: str, stage: int, world_size: int, options: list[str]) -> TrunkJob:
    return TrunkJob(
        study="engines",
        variant="cvar-0.5",
        trunk_id="trunk",
        model=for_width(16, vocabulary_sizes=read_manifest(dataset).vocabulary_sizes),
        train=TrainConfig(
            learning_rate=0.01,
            warmup_steps=5,
            batch_ramp=RAMP,
            loss=Cvar(eps=0.5, warmup_steps=5),
            precision="bf16" if "bf16" in options else "fp32",
            trainable=Trainable(parts=("embeddings", "head_output"), lora=Lora(rank=2)) if "lora" in options else None,
        ),
        execution=ExecutionConfig(
            engine=engine,  # pyright: ignore[reportArgumentType]
            zero_stage=stage,  # pyright: ignore[reportArgumentType]
            num_workers=world_size,
            checkpoint_steps=10,
            micro_windows=1 if "micro" in options else None,
        ),
        dataset=dataset,
        study_dir=out,
        cells=tuple(Cell(cell_id=f"d{d}", num_events=d, num_windows=-(-d // 90)) for d in SIZES),
    )


def train(job: TrunkJob, options: list[str]) -> list[float | str]:
    """Return the losses of the job's curve and cells, each once, in order; poisoned, the cells' statuses."""
    robust.token_losses = poisoned(30) if "poison" in options else token_losses
    real = loop.lr_factor
    if "stop" in options:
        loop.lr_factor = stopping(real, 25)
    try:
        loop.train_trunk(job, local_tables, torch.device("cpu"))
    except Stopped:
        return []
    finally:
        loop.lr_factor = real
    if "poison" in options:
        lines = map(json.loads, job.curve_path.read_text().splitlines())
        return [line["status"] for line in lines if "status" in line]
    losses = {}
    for line in map(json.loads, job.curve_path.read_text().splitlines()):
        if "loss" in line:
            losses[line["phase"], line["cell_events"], line.get("step")] = line["loss"]
    return [losses[key] for key in sorted(losses, key=repr)]


def stopping(real: Callable[..., float], after: int) -> Callable[..., float]:
    calls = itertools.count(1)

    def factor(*args: object) -> float:
        if next(calls) > after:
            raise Stopped
        return real(*args)

    return factor


def poisoned(call: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Return token_losses whose so-many-th call has the same values, and NaN for a gradient."""
    calls = itertools.count()

    def losses(logits: Tensor, targets: Tensor) -> Tensor:
        return token_losses(logits, targets) + (poison(logits) if next(calls) == call else 0.0)

    return losses


def poison(logits: Tensor) -> Tensor:
    """Return 0 whose derivative is not a number: that of sqrt at 0 is infinite, and times 0 it is NaN."""
    return 0.0 * torch.sqrt(0.0 * logits.float().sum())


def untouched(job: TrunkJob, out: Path, rank: int) -> list[float | str]:
    """Return the poisoned step's norm, how many parameters' states it changed, and how many the step before it did."""
    model = BehaveGPT(job.model)
    initialise(model, 0)
    engine = build_engine(model, job.train, job.execution)
    ids = [torch.full((2, 20), 2 + rank) for _ in range(4)]
    targets, states, norm = torch.ones(2, 20, dtype=torch.int64), [], 0.0
    for step in range(3):
        for last in (False, True):  # two micro-batches
            logits = engine.module(*ids)
            loss = token_losses(logits, targets).mean() + (poison(logits) if step == 2 and last else 0.0)
            if last:
                norm = engine.step(loss, 1.0)
            else:
                engine.accumulate(loss)
        directory = out / str(step)
        directory.mkdir(parents=True, exist_ok=True)
        dist.barrier()
        engine.save(directory)
        dist.barrier()
        states.append([path.read_bytes() for path in sorted(directory.iterdir())])
    changed = [sum(a != b for a, b in zip(before, after, strict=True)) for before, after in itertools.pairwise(states)]
    return [str(norm), *map(str, changed)]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])
