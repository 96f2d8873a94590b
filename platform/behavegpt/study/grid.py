"""From a study's configuration and a dataset to the jobs that train it: exact, and nothing is run.

Ids are hashes of all that changes a cell's numbers, so equal cells are recognised wherever they come from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from behavegpt.config import config_hash, plain
from behavegpt.data.manifest import Manifest
from behavegpt.data.stream import read_targets
from behavegpt.errors import InputError
from behavegpt.model.config import for_width
from behavegpt.model.sizing import count_params, train_flops_per_event
from behavegpt.study.config import StudyConfig
from behavegpt.study.recipe import train_config
from behavegpt.train.config import Cell, TrainConfig, TrunkJob
from behavegpt.train.schedule import StepPlan, plan_legs, plan_steps

MIN_STEPS = 10
"""A cell with fewer optimiser steps has no room for warm-up, trunk and decay."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The trunks of a study, largest first, and what they cost in all."""

    jobs: tuple[TrunkJob, ...]
    events: tuple[int, ...]
    """Per job: targets to train, trunk and branches."""
    steps: tuple[int, ...]
    """Per job: optimiser steps."""

    @property
    def num_cells(self) -> int:
        return sum(len(job.cells) for job in self.jobs)


def plan_study(config: StudyConfig, manifest: Manifest, dataset: Path, study_dir: Path) -> Plan:
    """Return the study's plan.

    Raises:
        InputError: A data size is beyond the dataset's unique targets, or too small to train on.
    """
    steps = _step_plan(config, manifest, dataset)
    jobs = [
        job
        for width in sorted(config.widths, reverse=True)
        for seed in config.seeds
        for job in _jobs(config, manifest, dataset, study_dir, width, seed)
    ]
    legs = [plan_legs(steps, job.train, [c.num_events for c in job.cells], set()) for job in jobs]
    events = [sum(leg.num_events - int(steps.events_before[leg.start]) for leg in job_legs) for job_legs in legs]
    num_steps = [sum(leg.stop - leg.start for leg in job_legs) for job_legs in legs]
    return Plan(tuple(jobs), tuple(events), tuple(num_steps))


def _step_plan(config: StudyConfig, manifest: Manifest, dataset: Path) -> StepPlan:
    available = manifest.splits["train"].num_targets
    problems = [
        f"num_events has {d:,}; {dataset} has {available:,} unique training targets (repeats are not counted as data)"
        for d in config.num_events
        if d > available
    ]
    if problems:
        raise InputError(*problems)
    ramp = _recipe(config, manifest, config.widths[0], config.seeds[0]).batch_ramp
    plan = plan_steps(read_targets(dataset, manifest, max(config.num_events)), ramp)
    least = int(plan.events_before[min(MIN_STEPS, len(plan.events_before) - 1)])
    if small := [d for d in config.num_events if d < least]:
        raise InputError(*(f"num_events has {d:,}; the least is {least:,} ({MIN_STEPS} steps)" for d in small))
    return plan


def _recipe(config: StudyConfig, manifest: Manifest, width: int, seed: int) -> TrainConfig:
    return train_config(
        for_width(width, config.depth, vocabulary_sizes=manifest.vocabulary_sizes),
        schedule=config.schedule,
        seed=seed,
        dro=config.dro,
        learning_rate=config.learning_rate,
        num_val_windows=config.num_val_windows,
    )


def _jobs(
    config: StudyConfig, manifest: Manifest, dataset: Path, study_dir: Path, width: int, seed: int
) -> list[TrunkJob]:
    """Return the trunk of (width, seed), or one job per data size where the schedule shares no trunk."""
    sizes = sorted(config.num_events)
    groups = [sizes] if config.schedule == "wsd" else [[size] for size in reversed(sizes)]
    return [make_job(config, manifest, dataset, study_dir, width, seed, group) for group in groups]


def make_job(
    config: StudyConfig,
    manifest: Manifest,
    dataset: Path,
    study_dir: Path,
    width: int,
    seed: int,
    num_events: Sequence[int],
) -> TrunkJob:
    """Return the job of one trunk with branches at `num_events`."""
    model = for_width(width, config.depth, vocabulary_sizes=manifest.vocabulary_sizes)
    train = _recipe(config, manifest, width, seed)
    identity: dict[str, Any] = {"model": model, "train": train, "dataset": manifest.fingerprint}
    if config.schedule != "wsd":
        identity["num_events"] = list(num_events)
    trunk_id = f"w{width}x{config.depth}-s{seed}-{config_hash(identity, 8)}"
    return TrunkJob(
        study=config.name,
        trunk_id=trunk_id,
        model=model,
        train=train,
        execution=config.execution,
        dataset=dataset.resolve(),
        study_dir=study_dir.resolve(),
        cells=tuple(Cell(cell_id=f"{trunk_id}-d{size}", num_events=size) for size in sorted(num_events)),
    )


def plan_record(config: StudyConfig, manifest: Manifest, dataset: Path, plan: Plan) -> dict[str, Any]:
    """Return plan.json: what the report says about the study and its dataset."""
    splits = {
        name: {"num_windows": s.num_windows, "num_targets": s.num_targets, "num_users": s.num_users}
        for name, s in manifest.splits.items()
    }
    described = ("name", "fingerprint", "source", "counts", "cutoffs", "vocabulary_sizes", "floor")
    return plain(
        {
            "study": config.name,
            "config": config,
            "dataset": {"path": str(dataset), "splits": splits, **{k: getattr(manifest, k) for k in described}},
            "trunks": [_trunk_record(job, events) for job, events in zip(plan.jobs, plan.events, strict=True)],
        }
    )


def _trunk_record(job: TrunkJob, events: int) -> dict[str, Any]:
    counts = count_params(job.model)
    return {
        "trunk_id": job.trunk_id,
        "width": job.model.width,
        "depth": job.model.depth,
        "num_heads": job.model.num_heads,
        "num_params": counts.non_embedding,
        "num_params_total": counts.total,
        "seed": job.train.seed,
        "learning_rate": job.train.learning_rate,
        "num_events": [cell.num_events for cell in job.cells],
        "events_to_train": events,
        "flops": float(np.float64(train_flops_per_event(job.model)) * events),
    }
