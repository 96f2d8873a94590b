"""The wall time of a study on a running Ray cluster, over that of a bare torch loop with the same training events.

In: a study's configuration and a dataset. Out: a Figure. The bare loop is what anyone would write: the same models,
windows, steps and rates, leg by leg, from batches that lie in memory; no engine, checkpoint, curve, validation or Ray.
It runs in a process of its own with as many torch threads as the study has cores.
"""

import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from behavegpt.bench.figures import Figure
from behavegpt.data.manifest import read_manifest
from behavegpt.data.stream import local_tables, read_targets
from behavegpt.model.transformer import BehaveGPT, initialise
from behavegpt.schema import FEATURES
from behavegpt.study.aim import Aim
from behavegpt.study.config import StudyConfig
from behavegpt.study.grid import Plan
from behavegpt.study.live import FITTER, live_law
from behavegpt.study.run import open_study, run_study
from behavegpt.train.config import TrunkJob
from behavegpt.train.loop import batches_of
from behavegpt.train.optim import build_optimizer
from behavegpt.train.schedule import Leg, StepPlan, lr_factor, plan_legs, plan_steps

WANTED = "<= 1.35"


def measure_study(config: StudyConfig, dataset: Path, work: Path, threads: int = 2) -> Figure:
    """Return the study's wall time over the bare loop's, measured one after the other on a cluster that runs already.

    The study's time is all that `run_study` takes, as the job calls it: connecting, Tune, worker groups, training,
    validation, the table, and beside them the law that is refitted and reported while cells finish.

    Args:
        work: An empty directory.
    """
    study = open_study(config, dataset, work / "study")
    begin = time.perf_counter()
    rows = run_study(study, live_law(study, FITTER, Aim().target(study.plan))).to_pylist()
    study_s = time.perf_counter() - begin
    if failed := [row["cell_id"] for row in rows if row["status"] != "completed"]:
        raise RuntimeError(f"{len(failed)} cells did not complete, the first of them {failed[0]}")
    bare_s = bare_seconds(study.plan, threads)
    events = sum(cost.events for cost in study.plan.costs)
    return Figure(
        name=f"study of {study.plan.num_cells} cells, {events:,} training events",
        ours=f"{study_s:.0f} s",
        other=f"{bare_s:.0f} s, bare torch loop on {threads} threads",
        value=study_s / bare_s,
        wanted=WANTED,
    )


def bare_seconds(plan: Plan, threads: int) -> float:
    """Return what the plan's trunks and branches take in a bare loop, in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(train_bare, (plan.jobs, threads))


def train_bare(jobs: tuple[TrunkJob, ...], threads: int) -> float:
    """Train the jobs one after the other; return the seconds of the loops alone."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    seconds = 0.0
    for job in jobs:
        manifest = read_manifest(job.dataset)
        plan = plan_steps(read_targets(job.dataset, manifest, job.cells[-1].num_events), job.train.batch_ramp)
        sizes = [cell.num_events for cell in job.cells]
        legs = plan_legs(plan, job.train, sizes, set(), job.execution.checkpoint_steps)
        batches = list(zip(_steps(legs), _batches(job, plan, legs), strict=True))
        model = BehaveGPT(job.model)
        initialise(model, job.train.seed)
        optimizer = build_optimizer(model, job.train)
        peaks = [group["lr"] for group in optimizer.param_groups]
        begin = time.perf_counter()
        for (leg, step), (features, targets) in batches:
            loss = cross_entropy(model(*features).flatten(0, 1), targets.flatten(), ignore_index=-1)
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm_(model.parameters(), job.train.clip_norm)
            factor = lr_factor(job.train, plan, leg, step)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = factor * peak
            optimizer.step()
        seconds += time.perf_counter() - begin
    return seconds


def _steps(legs: list[Leg]) -> Iterator[tuple[Leg, int]]:
    return ((leg, step) for leg in legs for step in range(leg.start, leg.stop))


def _batches(job: TrunkJob, plan: StepPlan, legs: list[Leg]) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Yield the features and targets of each step, as tensors."""
    for batch in batches_of(job, read_manifest(job.dataset), plan, legs, local_tables):
        features = [torch.from_numpy(np.ascontiguousarray(batch.features[name])) for name in FEATURES]
        yield features, torch.from_numpy(batch.targets)
