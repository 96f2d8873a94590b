"""From a study's configuration and a dataset to the jobs that train it: exact, and nothing is run.

Ids are hashes of all that changes a cell's numbers, so equal cells are recognised wherever they come from.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from behavegpt.config import config_hash, plain
from behavegpt.data.manifest import Manifest
from behavegpt.data.stream import read_targets
from behavegpt.errors import InputError
from behavegpt.model.config import for_width
from behavegpt.model.sizing import count_params, flops_per_window
from behavegpt.study.config import StudyConfig
from behavegpt.study.recipe import train_config
from behavegpt.train.config import Cell, TrainConfig, TrunkJob
from behavegpt.train.schedule import StepPlan, plan_legs, plan_steps

MIN_STEPS = 10
"""A cell with fewer optimiser steps has no room for a trunk and a decay."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What is left to train of one trunk with its branches."""

    events: int
    """Targets."""
    windows: int
    """Windows that hold them: what the model computes on."""
    steps: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The trunks of a study, largest first, and what each costs."""

    jobs: tuple[TrunkJob, ...]
    costs: tuple[Cost, ...]
    notes: tuple[str, ...] = ()
    """What a reader should know before the run."""

    @property
    def num_cells(self) -> int:
        return sum(len(job.cells) for job in self.jobs)


def plan_study(config: StudyConfig, manifest: Manifest, dataset: Path, study_dir: Path) -> Plan:
    """Return the plan of all the study's cells, finished or not.

    Raises:
        InputError: A data size is beyond the dataset's unique targets, or too small to train on.
    """
    steps = step_plan(config, manifest, dataset)
    jobs = [
        _job(config, manifest, dataset, study_dir, steps, width, seed, sizes)
        for width in sorted(config.widths, reverse=True)
        for seed in config.seeds
        for sizes in _groups(config)
    ]
    return Plan(
        tuple(jobs), tuple(cost(job, steps, set()) for job in jobs), tuple(_notes(jobs[0].train, config, steps))
    )


def _notes(recipe: TrainConfig, config: StudyConfig, steps: StepPlan) -> list[str]:
    decays = {size: steps.step_at(int((1 - recipe.decay_share) * size)) for size in sorted(config.num_events)}
    return [
        f"note: D = {size:,} begins its decay at step {step}, within the {recipe.warmup_steps} steps of warm-up: "
        "its loss is worse than the recipe's best and bends the law"
        for size, step in decays.items()
        if step < recipe.warmup_steps
    ]


def cost(job: TrunkJob, steps: StepPlan, checkpoints: set[int]) -> Cost:
    """Return what the job costs where the trunk checkpoints at these steps exist."""
    sizes = [cell.num_events for cell in job.cells]
    legs = plan_legs(steps, job.train, sizes, checkpoints, job.execution.checkpoint_steps)
    return Cost(
        events=sum(leg.num_events - int(steps.events_before[leg.start]) for leg in legs),
        windows=sum(steps.windows_of(leg.num_events) - int(steps.first_window[leg.start]) for leg in legs),
        steps=sum(leg.stop - leg.start for leg in legs),
    )


def step_plan(config: StudyConfig, manifest: Manifest, dataset: Path) -> StepPlan:
    """Return the optimiser steps up to the largest data size, which all trunks share."""
    available = manifest.splits["train"].num_targets
    recipe = _recipe(config, manifest, config.widths[0], config.seeds[0])
    plan = plan_steps(read_targets(dataset, manifest, min(available, max(config.num_events))), recipe.batch_ramp)
    least = int(plan.events_before[MIN_STEPS]) if len(plan.events_before) > MIN_STEPS else None
    problems = []
    for size in config.num_events:
        if size > available:
            problems.append(
                f"num_events has {size:,}; {dataset} has {available:,} unique training targets "
                "(repeats are not counted as data)"
            )
        elif least is None:
            problems.append(f"num_events has {size:,}; {dataset} is too small for {MIN_STEPS} optimiser steps")
        elif size < least:
            problems.append(f"num_events has {size:,}; the least is {least:,} ({MIN_STEPS} steps)")
    val = manifest.splits["val"]
    if val.num_targets == 0:
        problems.append(f"{dataset}: the validation split has no targets, so no loss can be measured")
    if config.num_val_windows is not None and config.num_val_windows > val.num_windows:
        problems.append(f"num_val_windows is {config.num_val_windows}; {dataset} has {val.num_windows}")
    if problems:
        raise InputError(*problems)
    return plan


def _recipe(config: StudyConfig, manifest: Manifest, width: int, seed: int) -> TrainConfig:
    return train_config(
        for_width(width, config.depth, vocabulary_sizes=manifest.vocabulary_sizes),
        schedule=config.schedule,
        seed=seed,
        dro=config.dro,
        learning_rate=config.learning_rate,
        num_val_windows=config.num_val_windows,
        precision="bf16" if config.execution.use_gpu else "fp32",
    )


def _groups(config: StudyConfig) -> list[list[int]]:
    """Return the data sizes of each trunk: all on one, or one each where the schedule shares no trunk."""
    sizes = sorted(config.num_events)
    return [sizes] if config.schedule == "wsd" else [[size] for size in reversed(sizes)]


def name_trunk(config: StudyConfig, manifest: Manifest, width: int, seed: int, sizes: list[int]) -> str:
    """Return the id of the trunk that gives the data sizes `sizes`; for wsd it does not depend on them."""
    identity: dict[str, Any] = {
        "model": for_width(width, config.depth, vocabulary_sizes=manifest.vocabulary_sizes),
        "train": _recipe(config, manifest, width, seed),
        "dataset": manifest.fingerprint,
    }
    if config.schedule != "wsd":
        identity["num_events"] = sizes
    return f"w{width}x{config.depth}-s{seed}-{config_hash(identity, 8)}"


def _job(
    config: StudyConfig,
    manifest: Manifest,
    dataset: Path,
    study_dir: Path,
    steps: StepPlan,
    width: int,
    seed: int,
    sizes: list[int],
) -> TrunkJob:
    """Return the job of one trunk with branches at `sizes`."""
    model = for_width(width, config.depth, vocabulary_sizes=manifest.vocabulary_sizes)
    train = _recipe(config, manifest, width, seed)
    trunk_id = name_trunk(config, manifest, width, seed, sizes)
    cells = [
        Cell(
            cell_id=f"{trunk_id}-d{size}",
            num_events=size,
            num_windows=steps.windows_of(size),
        )
        for size in sizes
    ]
    return TrunkJob(
        study=config.name,
        trunk_id=trunk_id,
        model=model,
        train=train,
        execution=config.execution,
        dataset=dataset.resolve(),
        study_dir=study_dir.resolve(),
        cells=tuple(cells),
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
            "trunks": [_trunk_record(job, cost) for job, cost in zip(plan.jobs, plan.costs, strict=True)],
        }
    )


def _trunk_record(job: TrunkJob, cost: Cost) -> dict[str, Any]:
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
        "events_to_train": cost.events,
        "flops": float(flops_per_window(job.model).training * cost.windows),
    }
