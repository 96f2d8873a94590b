"""From a study's configuration and a dataset to the jobs that train it: exact, and nothing is run.

Ids are hashes of all that changes a cell's numbers, so equal cells are recognised wherever they come from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from behavegpt.config import config_hash
from behavegpt.data.manifest import Manifest
from behavegpt.data.stream import read_targets
from behavegpt.errors import InputError
from behavegpt.model.config import ModelConfig
from behavegpt.model.sizing import count_params
from behavegpt.study.axes import data_sizes, model_of
from behavegpt.study.config import Size, StudyConfig, Variant
from behavegpt.study.recipe import BATCH_RAMP, DECAY_SHARE, WARMUP_STEPS, train_config
from behavegpt.train.config import Cell, TrainConfig, TrunkJob
from behavegpt.train.record import saved_branch_steps, saved_steps
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

    @property
    def cost_ratio(self) -> float:
        """Events to train over those of one run per cell."""
        alone = sum(cell.num_events for job in self.jobs for cell in job.cells)
        return sum(cost.events for cost in self.costs) / alone


@dataclass(frozen=True, slots=True)
class Axis:
    """A model of the grid with the data sizes that it gets."""

    size: Size
    model: ModelConfig
    num_events: tuple[int, ...]


def plan_study(
    config: StudyConfig, manifest: Manifest, dataset: Path, study_dir: Path, targets_W: np.ndarray | None = None
) -> Plan:
    """Return the plan of all the study's cells, finished or not.

    Args:
        targets_W: Scored targets of the train windows; None reads them from the dataset.

    Raises:
        InputError: A data size is beyond the dataset's unique targets, or too small to train on.
    """
    axes, steps, notes = resolve(config, manifest, dataset, targets_W)
    jobs = [
        _job(config, manifest, dataset, study_dir, steps, axis, variant, seed, sizes)
        for axis in axes
        for variant in config.variants
        for seed in config.seeds
        for sizes in _groups(axis, variant)
    ]
    costs = tuple(cost(job, steps, set()) for job in jobs)
    return Plan(tuple(jobs), costs, (*notes, *_warm_up_notes(axes, steps)))


def resolve(
    config: StudyConfig, manifest: Manifest, dataset: Path, targets_W: np.ndarray | None = None
) -> tuple[list[Axis], StepPlan, list[str]]:
    """Return the models with their data sizes, largest first, the steps that all trunks share, and notes.

    Raises:
        InputError: As for `plan_study`.
    """
    available = manifest.splits["train"].num_targets
    if targets_W is None:
        wanted = available if not config.num_events else min(available, max(config.num_events))
        targets_W = read_targets(dataset, manifest, wanted)
    models = [(size, model_of(size, manifest.vocabulary_sizes)) for size in config.sizes]
    axes = [Axis(size, model, data_sizes(config, model, targets_W)) for size, model in models]
    axes.sort(key=lambda axis: -count_params(axis.model).non_embedding)
    plan = plan_steps(targets_W, BATCH_RAMP)
    notes: list[str] = []
    if config.flop_budgets:
        axes, notes = _within(axes, plan, available)
    if problems := [*_size_problems(config, axes, plan, dataset, available), *_val_problems(config, manifest, dataset)]:
        raise InputError(*problems)
    return axes, plan, notes


def least_events(steps: StepPlan) -> int | None:
    """Return the least data size that can be trained, None where the dataset has no ten steps."""
    return int(steps.events_before[MIN_STEPS]) if len(steps.events_before) > MIN_STEPS else None


def _within(axes: list[Axis], steps: StepPlan, available: int) -> tuple[list[Axis], list[str]]:
    """Return the IsoFLOP cells that the dataset can train: a budget need not reach every size."""
    least, kept, notes = least_events(steps) or available + 1, [], []
    for axis in axes:
        good = tuple(size for size in axis.num_events if least <= size <= available)
        notes += [
            f"note: width {axis.size.width} at D = {size:,} is left out: the dataset trains {least:,} to {available:,}"
            for size in axis.num_events
            if size not in good
        ]
        kept += [Axis(axis.size, axis.model, good)] if good else []
    if not kept:
        raise InputError(*[note.removeprefix("note: ") for note in notes])
    return kept, notes


def _size_problems(config: StudyConfig, axes: list[Axis], steps: StepPlan, dataset: Path, available: int) -> list[str]:
    least, problems = least_events(steps), {}
    for axis in axes:
        for index, size in enumerate(axis.num_events):
            what = f"num_events has {size:,}"
            if config.events_per_param:
                ratio = sorted(config.events_per_param)[index]
                what = f"events_per_param has {ratio:g}, at width {axis.size.width} D = {size:,}"
            if size > available:
                problems[what] = (
                    f"{what}; {dataset} has {available:,} unique training targets (repeats are not counted as data)"
                )
            elif least is None:
                problems[what] = f"{what}; {dataset} is too small for {MIN_STEPS} optimiser steps"
            elif size < least:
                problems[what] = f"{what}; the least is {least:,} ({MIN_STEPS} steps)"
    return list(problems.values())


def _val_problems(config: StudyConfig, manifest: Manifest, dataset: Path) -> list[str]:
    val, problems = manifest.splits["val"], []
    if val.num_targets == 0:
        problems.append(f"{dataset}: the validation split has no targets, so no loss can be measured")
    if config.num_val_windows is not None and config.num_val_windows > val.num_windows:
        problems.append(f"num_val_windows is {config.num_val_windows}; {dataset} has {val.num_windows}")
    return problems


def _warm_up_notes(axes: Sequence[Axis], steps: StepPlan) -> list[str]:
    sizes = sorted({size for axis in axes for size in axis.num_events})
    decays = {size: steps.step_at(int((1 - DECAY_SHARE) * size)) for size in sizes}
    return [
        f"note: D = {size:,} begins its decay at step {step}, within the {WARMUP_STEPS} steps of warm-up: "
        "its loss is worse than the recipe's best and bends the law"
        for size, step in decays.items()
        if step < WARMUP_STEPS
    ]


def cost(job: TrunkJob, steps: StepPlan, checkpoints: set[int], within: Mapping[int, set[int]] | None = None) -> Cost:
    """Return what the job costs where checkpoints exist.

    Args:
        checkpoints: Steps of the trunk's.
        within: Steps of those within the branch to each data size.
    """
    sizes = [cell.num_events for cell in job.cells]
    legs = plan_legs(steps, job.train, sizes, checkpoints, job.execution.checkpoint_steps, within)
    # The last leg of a branch ends within its last step; any other ends with a step.
    spans = [(leg.start, min(leg.num_events, int(steps.events_before[leg.stop]))) for leg in legs]
    return Cost(
        events=sum(end - int(steps.events_before[start]) for start, end in spans),
        windows=sum(steps.windows_of(end) - int(steps.first_window[start]) for start, end in spans),
        steps=sum(leg.stop - leg.start for leg in legs),
    )


def cost_left(job: TrunkJob, steps: StepPlan) -> Cost:
    """Return what the job costs from the checkpoints that are there."""
    return cost(job, steps, saved_steps(job.checkpoint_dir), saved_branch_steps(job.checkpoint_dir))


def _recipe(config: StudyConfig, model: ModelConfig, variant: Variant, seed: int) -> TrainConfig:
    return train_config(
        model,
        schedule=variant.schedule,
        seed=seed,
        loss=variant.loss,
        learning_rate=config.learning_rate,
        rate_factor=variant.rate_factor,
        num_val_windows=config.num_val_windows,
        precision="bf16" if config.execution.use_gpu else "fp32",
    )


def _groups(axis: Axis, variant: Variant) -> list[tuple[int, ...]]:
    """Return the data sizes of each trunk: all on one, or one each where the schedule shares no trunk."""
    return [axis.num_events] if variant.schedule == "wsd" else [(size,) for size in reversed(axis.num_events)]


def name_trunk(
    config: StudyConfig, manifest: Manifest, size: Size, variant: Variant, seed: int, sizes: Sequence[int]
) -> str:
    """Return the id of the trunk that gives the data sizes `sizes`; for wsd it does not depend on them."""
    model = model_of(size, manifest.vocabulary_sizes)
    identity: dict[str, Any] = {
        "model": model,
        "train": _recipe(config, model, variant, seed),
        "dataset": manifest.fingerprint,
    }
    if variant.schedule != "wsd":
        identity["num_events"] = list(sizes)
    label = "" if variant == Variant() else f"-{variant.label}"
    return f"w{size.width}x{size.depth}{label}-s{seed}-{config_hash(identity, 8)}"


def _job(
    config: StudyConfig,
    manifest: Manifest,
    dataset: Path,
    study_dir: Path,
    steps: StepPlan,
    axis: Axis,
    variant: Variant,
    seed: int,
    sizes: Sequence[int],
) -> TrunkJob:
    """Return the job of one trunk with branches at `sizes`."""
    trunk_id = name_trunk(config, manifest, axis.size, variant, seed, sizes)
    cells = [Cell(cell_id=f"{trunk_id}-d{size}", num_events=size, num_windows=steps.windows_of(size)) for size in sizes]
    return TrunkJob(
        study=config.name,
        trunk_id=trunk_id,
        variant=variant.name,
        model=axis.model,
        train=_recipe(config, axis.model, variant, seed),
        execution=config.execution,
        dataset=dataset.resolve(),
        study_dir=study_dir.resolve(),
        cells=tuple(cells),
    )
