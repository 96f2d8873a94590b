"""The runs of the task: pretraining without the new behaviours, and few-shot training from a pretrained model or none.

In: derived datasets, and a planner that gives jobs by the common recipe. Out: finished models, found again by a rerun
through names that say all that their numbers depend on.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch

from behavegpt.config import config_hash
from behavegpt.data.manifest import Manifest, read_manifest
from behavegpt.data.stream import read_targets
from behavegpt.errors import RefusedError
from behavegpt.model.attention import resolve_attention
from behavegpt.model.sizing import count_params
from behavegpt.model.transformer import BehaveGPT
from behavegpt.tasks.models import ModelSystem, read_weights
from behavegpt.train.config import TrunkJob
from behavegpt.train.export import export_model, read_checked
from behavegpt.train.saved import SavedModel, load_model, read_saved
from behavegpt.train.schedule import plan_steps

Start = Literal["adapted", "scratch"]
STARTS: tuple[Start, ...] = ("adapted", "scratch")
WARMUP_SHARE = 0.1
"""Of the steps of few-shot training: the recipe's warm-up may be longer than all of it."""


class Planner(Protocol):
    """Plans one cell a seed by the common recipe; jobs/adapt.py has it, since planning is downstream of the tasks."""

    def __call__(
        self, dataset: Path, *, num_events: int, width: int, depth: int, seeds: tuple[int, ...]
    ) -> Sequence[TrunkJob]:
        """Return the jobs, one a seed.

        Raises:
            InputError: The dataset is too small, or a value is not allowed.
        """
        ...


Train = Callable[[Sequence[TrunkJob]], None]
"""Trains what is missing of the jobs, here or on a cluster."""


class Judged(NamedTuple):
    """What a model does on the validation split."""

    rec_m: float
    rec_new: float
    nats: float

    @property
    def merit(self) -> float:
        """What a rate is chosen by: the two columns of the paper's Table 3 count alike. Cross-entropy would choose the
        rate at which a pretrained model changes least, and learns nothing of a behaviour that makes 1 % of it."""
        return (self.rec_m + self.rec_new) / 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuned:
    """The few-shot runs from one start, at the rate that validation chose."""

    jobs: tuple[TrunkJob, ...]
    """One a seed."""
    judged: Mapping[float, Judged | None]
    """Mean over the seeds at each rate; None where a run diverged."""
    rate: float
    """The chosen one, over the recipe's."""


def pretrain(jobs: Sequence[TrunkJob], train: Train, out: Path) -> list[SavedModel]:
    """Return the trained and exported models of the jobs, which are of one dataset.

    Raises:
        RefusedError: A run diverged.
    """
    manifest = read_manifest(jobs[0].dataset)
    jobs = [_named(job, "pretrain", manifest) for job in jobs]
    train(jobs)
    found = []
    for job in jobs:
        row = read_row(job)
        if row["status"] != "completed":
            raise RefusedError(f"{job.trunk_id}: {row['status']}: {row['reason']}")
        directory = out / "models" / job.trunk_id
        if not directory.exists():
            export_model(_final(job), job.dataset, directory, row)
        found.append(read_saved(directory))
    return found


def few_shot_jobs(
    planned: Sequence[TrunkJob], name: str, rates: Sequence[float], initial: Sequence[SavedModel]
) -> dict[Start, dict[float, list[TrunkJob]]]:
    """Return the jobs of both starts at every rate, one a seed; they differ in nothing else.

    Args:
        planned: One a seed, on the few shots.
        name: Of the new behaviour, in file names.
        initial: The extended model of each seed.
    """
    manifest = read_manifest(planned[0].dataset)
    [cell] = planned[0].cells
    steps = plan_steps(read_targets(planned[0].dataset, manifest, cell.num_events), planned[0].train.batch_ramp)
    warmup = max(1, round(WARMUP_SHARE * (len(steps.events_before) - 1)))
    jobs: dict[Start, dict[float, list[TrunkJob]]] = {start: {rate: [] for rate in rates} for start in STARTS}
    for start, by_rate in jobs.items():
        for rate, group in by_rate.items():
            for job, model in zip(planned, initial, strict=True):
                adapted = start == "adapted"
                recipe = replace(
                    job.train,
                    learning_rate=rate * job.train.learning_rate,
                    # Of the tables only rows that occur move, and the new ones have all to learn.
                    embedding_lr_factor=job.train.embedding_lr_factor / rate,
                    warmup_steps=warmup,
                    initial=model.sha256 if adapted else None,
                )
                # The extended model's shape for both: heads and tables may be those of a model from elsewhere.
                shaped = replace(job, model=replace(model.model, attention=job.model.attention), train=recipe)
                shaped = replace(shaped, initial=model.directory if adapted else None)
                group.append(_named(shaped, f"{name}-{start}-x{rate:g}", manifest))
    return jobs


def choose_rate(jobs: Mapping[float, Sequence[TrunkJob]], judge: Callable[[TrunkJob], Judged]) -> Tuned:
    """Return the runs at the rate of the greatest merit, mean over the seeds.

    Raises:
        RefusedError: At every rate a run diverged.
    """
    judged: dict[float, Judged | None] = {}
    for rate, group in jobs.items():
        if all(read_row(job)["status"] == "completed" for job in group):
            judged[rate] = Judged(*np.mean([judge(job) for job in group], axis=0).tolist())
        else:
            judged[rate] = None
    usable = {rate: one.merit for rate, one in judged.items() if one is not None}
    if not usable:
        raise RefusedError(f"{next(iter(jobs.values()))[0].trunk_id}: diverged, as at every other rate")
    rate = max(usable, key=lambda rate: usable[rate])
    return Tuned(jobs=tuple(jobs[rate]), judged=judged, rate=rate)


def read_row(job: TrunkJob) -> dict[str, Any]:
    """Return the row of a job's one cell."""
    [cell] = job.cells
    return json.loads((job.cell_dir / f"{cell.cell_id}.json").read_text(encoding="utf-8"))


def trained_system(job: TrunkJob, name: str, device: torch.device) -> ModelSystem:
    """Return the finished model of a job, ready to score.

    Raises:
        InputError: Its checkpoint is missing or damaged.
    """
    read_checked(_final(job))
    module = BehaveGPT(job.model, resolve_attention(job.model.attention, device))
    module.load_state_dict(read_weights(_final(job)))
    return ModelSystem(name, module.to(device), count_params(job.model), device)


def untrained_system(model: SavedModel, name: str, device: torch.device) -> ModelSystem:
    """Return an extended model as it is before the first step."""
    return ModelSystem(name, load_model(model.directory).to(device), count_params(model.model), device)


def _final(job: TrunkJob) -> Path:
    [cell] = job.cells
    return job.checkpoint_dir / job.final_name(cell)


def _named(job: TrunkJob, prefix: str, manifest: Manifest) -> TrunkJob:
    """Return the job under a name that says all that it depends on, so that a rerun finds it; its model is kept."""
    [cell] = job.cells
    identity = {"model": job.model, "train": job.train, "dataset": manifest.fingerprint, "events": cell.num_events}
    trunk_id = f"{prefix}-s{job.train.seed}-{config_hash(identity, 8)}"
    cells = (replace(cell, cell_id=f"{trunk_id}-d{cell.num_events}"),)
    return replace(job, trunk_id=trunk_id, cells=cells, keep_final=True)
