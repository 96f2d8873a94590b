"""Training speed: the bare torch loop against matrix products, and the platform's full path against the bare loop.

In: sizes of the model. Out: figures. For each size two sides work in turns on one machine: the bare loop (with matrix
products before each of its turns), and `train_trunk` in a Ray Train worker group of one worker, then, at the largest
size, of two, each worker with one thread, fed by Ray Data, with DeepSpeed's engine. A turn is a few steps; the first
one of each side is not counted. While a side waits, Ray Data may read ahead for it: a read is some hundredth of a step.

What bounds the bare loop: a step's products run at the rate of their own shapes, below that of large squares where the
width is small; then come GELU, softmax and norms (a second to two for every three of products at width 64), and some
hundred calls of 5 to 10 microseconds.

What bounds two workers where there are two cores: the exchange of gradients, a wait for whichever was disturbed, and
Ray's own processes, each of which wakes a hundred times a second and has no third core to do it on.
"""

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import torch

from behavegpt.bench.alone import peak_bytes, run_alone
from behavegpt.bench.figures import Figure
from behavegpt.bench.train_figures import Sides, limit_figures, path_figures, worker_figures
from behavegpt.bench.turns import Turns, sides_of
from behavegpt.data.manifest import read_manifest
from behavegpt.data.stream import ray_tables
from behavegpt.data.synthetic.config import GeneratorConfig
from behavegpt.data.synthetic.generator import write_generated
from behavegpt.model.config import ModelConfig, for_width
from behavegpt.schema import NUM_INPUTS
from behavegpt.study.recipe import train_config
from behavegpt.train.config import Cell, ExecutionConfig, TrunkJob
from behavegpt.train.loop import train_trunk
from behavegpt.train.process import ENVIRONMENT, settle

Part = Literal["limit", "path", "workers"]
SHAPES = {"0.1M": (64, 2), "0.8M": (128, 4), "4.8M": (256, 6)}
"""Width and depth by the name of the size, its non-embedding parameters."""
WINDOWS = {"0.1M": 16, "0.8M": 32, "4.8M": 64}
"""Of a batch: what the recipe has reached at D = 10 N, the paper's largest."""
LARGEST = "4.8M"
TURN_S = 0.8
FLOPS_PER_S = 6e10
"""Of a CPU's thread, to choose how many steps a turn has; nothing is computed from it."""
GPU_STEPS = 20
FOUND = "found.json"
"""What a worker group writes."""


def compare_training(
    work: Path, sizes: Iterable[str], parts: Iterable[Part], windows: int | None, rounds: int
) -> Iterator[Figure]:
    """Yield the figures of each size.

    Args:
        windows: Of a batch; None takes those of each size in WINDOWS.
        rounds: Turns of each side, the first and not counted one included.
    """
    gpu, parts = torch.cuda.is_available(), set(parts)
    batches = {size: windows or WINDOWS[size] for size in sizes}
    turns = {size: _steps_of_a_turn(size, batch, gpu) for size, batch in batches.items()}
    dataset = work / "log"
    write_log(dataset, max((turns[size] * rounds + 1) * batch for size, batch in batches.items()))
    needs_ray = parts - {"limit"}
    if needs_ray:
        _start_ray()
    for size, steps in turns.items():
        model, batch = model_of(size, dataset), batches[size]
        measure = partial(_measure, work / size, dataset, model, batch, steps, rounds, gpu)
        compares_workers = size == LARGEST and "workers" in parts and not gpu
        bare, one = measure(1 if "path" in parts or compares_workers else 0)
        yield from limit_figures(size, model, bare, batch, gpu) if "limit" in parts else ()
        yield from path_figures(size, bare, one, batch) if "path" in parts else ()
        yield from worker_figures(size, (bare, one), measure(2)) if compares_workers else ()
    if needs_ray:
        import ray

        ray.shutdown()


def write_log(dataset: Path, num_windows: int) -> None:
    """Generate a log of so many training windows, all of them full."""
    write_generated(dataset, GeneratorConfig(num_train_events=num_windows * NUM_INPUTS, num_val_windows=4), "benchmark")


def model_of(size: str, dataset: Path) -> ModelConfig:
    """Return the model of a size, with the tables of the dataset."""
    width, depth = SHAPES[size]
    return for_width(width, depth, vocabulary_sizes=read_manifest(dataset).vocabulary_sizes)


def _steps_of_a_turn(size: str, windows: int, gpu: bool) -> int:
    width, depth = SHAPES[size]
    flops = 6 * (12 * width**2 * depth) * windows * NUM_INPUTS
    return GPU_STEPS if gpu else max(2, round(TURN_S * FLOPS_PER_S / flops))


def _start_ray() -> None:
    """Start a cluster of our own: it has room for a group of two and its reads, whatever runs beside it."""
    import ray

    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    # Ray makes its workers yield to every other process; the bare loop does not.
    os.environ.setdefault("RAY_worker_niceness", "0")
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)


def _measure(
    work: Path, dataset: Path, model: ModelConfig, windows: int, steps: int, rounds: int, gpu: bool, workers: int
) -> Sides:
    """Return what the bare loop found and what a group of so many workers did, in turns; the group's is empty for 0.

    One group at a time: each of Ray's processes, of which a group has ten, wakes a hundred times a second, at the
    expense of the group that works where there is no other core.
    """
    work = work / f"workers-{workers}"
    work.mkdir(parents=True)
    sides = sides_of(work / "turn", 2 if workers else 1, rounds)
    arguments = {"model": model, "dataset": dataset, "windows": windows, "steps": steps, "gpu": gpu}
    with ThreadPoolExecutor(1) as pool:
        bare = pool.submit(run_alone, "behavegpt.bench.bare:measure_bare", turns=sides[0], **arguments)
        if not workers:
            return bare.result().value, {}
        import ray

        job = _job(work, dataset, model, windows, steps * rounds + 1, workers=workers, gpu=gpu)
        ray.get(ray.remote(num_cpus=0)(_train_group).remote(sides[1], job, windows, steps))
        return bare.result().value, json.loads((work / FOUND).read_text())


def _job(
    work: Path, dataset: Path, model: ModelConfig, windows: int, steps: int, *, workers: int, gpu: bool
) -> TrunkJob:
    """Return a run of so many steps of equal batches, to one cell and with no checkpoint on its way."""
    recipe = train_config(model, schedule="cosine", seed=0, num_val_windows=2, precision="bf16" if gpu else "fp32")
    num_windows = steps * windows
    return TrunkJob(
        study="benchmark",
        trunk_id=str(workers),
        variant="erm",
        model=model,
        train=replace(recipe, batch_ramp=((0, windows),)),
        execution=ExecutionConfig(num_workers=workers, use_gpu=gpu, checkpoint_steps=2**31),
        dataset=dataset,
        study_dir=work,
        cells=(Cell(cell_id="benchmark", num_events=num_windows * NUM_INPUTS, num_windows=num_windows),),
    )


def _train_group(turns: Turns, job: TrunkJob, windows: int, steps: int) -> None:
    """Train the job on a worker group, as study trials do, but in turns with the other sides."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    execution = job.execution
    trainer = TorchTrainer(
        _work,
        train_loop_config={"turns": turns, "job": job, "windows": windows, "steps": steps},
        scaling_config=ScalingConfig(
            num_workers=execution.num_workers,
            use_gpu=execution.use_gpu,
            resources_per_worker={"CPU": 1, **({"GPU": 1} if execution.use_gpu else {})},
        ),
        torch_config=TorchConfig(backend="nccl" if execution.use_gpu else "gloo"),
        run_config=RunConfig(
            name=f"benchmark-{job.trunk_id}",
            storage_path=str(job.study_dir / "ray"),
            worker_runtime_env={"env_vars": ENVIRONMENT},
        ),
    )
    trainer.fit()


def _work(config: dict[str, Any]) -> None:
    import ray.train
    import ray.train.torch

    job: TrunkJob = config["job"]
    context = ray.train.get_context()
    rank, step_s = context.get_world_rank(), []
    rows = config["windows"] // context.get_world_size()
    settle(threads=1)
    train_trunk(
        job,
        lambda plan: in_turns(ray_tables(plan), config["turns"], rows, config["steps"], step_s, leads=rank == 0),
        ray.train.torch.get_device(),
    )
    if rank == 0:
        (job.study_dir / FOUND).write_text(json.dumps({"step_s": step_s, "peak": [peak_bytes()]}))


def in_turns(
    tables: Iterable[pa.Table], turns: Turns, rows: int, steps: int, step_s: list[float], *, leads: bool
) -> Iterator[pa.Table]:
    """Yield the tables cut to the rows of a turn, so that the loop asks for one a turn; wait and report in between.

    Args:
        rows: Of a step.
        step_s: Gets the seconds of one step, on average over each turn.
        leads: Whether this rank ends the turns.
    """
    pieces = cut_evenly(tables, rows * steps)
    for round_number in range(turns.rounds):
        turns.wait(round_number)
        begin = time.perf_counter()
        yield next(pieces)
        # Asked for the next table: the steps of the turn have ended.
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        step_s.append((time.perf_counter() - begin) / steps)
        if leads:
            turns.end(round_number)
    turns.wait_for_all()
    yield from pieces


def cut_evenly(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Yield tables of `rows` rows, and a last one of what is left."""
    rest: list[pa.Table] = []
    for table in tables:
        rest.append(table)
        while sum(part.num_rows for part in rest) >= rows:
            whole = rest[0] if len(rest) == 1 else pa.concat_tables(rest)
            yield whole.slice(0, rows)
            rest = [whole.slice(rows)]
    if whole := [part for part in rest if part.num_rows]:
        yield pa.concat_tables(whole)
