"""The training runs of a comparison of ways to adapt, on equal budgets, and their finished models as rows.

In: one job a seed that trains the target from scratch, the sources and the ways. Out: a job for every way, source and
seed, equal to these but for where it starts and what moves; then, for each data size, a `Row` a way and source.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from behavegpt.config import config_hash
from behavegpt.data.manifest import Manifest
from behavegpt.model.attention import resolve_attention
from behavegpt.model.sizing import count_params
from behavegpt.model.transformer import BehaveGPT
from behavegpt.tasks.adaptation.transfer import Source, write_start
from behavegpt.tasks.adaptation.ways import Way
from behavegpt.tasks.models import ModelSystem
from behavegpt.tasks.next_behavior import Row
from behavegpt.train.config import TrunkJob
from behavegpt.train.export import read_checked, read_plain_weights


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapted:
    """One way from one source, once a seed."""

    name: str
    """Of its rows."""
    way: Way
    source: str | None
    """None for a run from scratch."""
    jobs: tuple[TrunkJob, ...]
    """By seed; all with the same cells."""


def plan_adapted(
    jobs: Sequence[TrunkJob], sources: Sequence[Source], ways: Sequence[Way], manifest: Manifest, out: Path
) -> list[Adapted]:
    """Return what is trained, a way at a time; the starts are written into `out`."""
    found = []
    for way in ways:
        if not way.takes:
            mine = tuple(_named(job, way.name, manifest) for job in jobs)
            found.append(Adapted(name=way.name, way=way, source=None, jobs=mine))
            continue
        for source in sources:
            name = way.name if len(sources) == 1 else f"{way.name} ({source.name})"
            mine = tuple(_started(job, way, source, run, manifest, out) for run, job in enumerate(jobs))
            found.append(Adapted(name=name, way=way, source=source.name, jobs=mine))
    return found


def _started(job: TrunkJob, way: Way, source: Source, run: int, manifest: Manifest, out: Path) -> TrunkJob:
    pretrained = source.model(run)
    path, sha256 = write_start(out, pretrained, job.model, way.takes, job.train.seed, job.dataset, manifest)
    train = replace(job.train, initial=sha256, trainable=way.trains)
    return _named(replace(job, train=train, initial=path), way.name, manifest)


def _named(job: TrunkJob, name: str, manifest: Manifest) -> TrunkJob:
    """Return the job under a name that says all that it depends on, so that a rerun finds it; its models are kept."""
    digest = config_hash({"model": job.model, "train": job.train, "dataset": manifest.fingerprint}, 8)
    trunk_id = f"{name}-w{job.model.width}x{job.model.depth}-s{job.train.seed}-{digest}"
    cells = tuple(replace(cell, cell_id=f"{trunk_id}-d{cell.num_events}") for cell in job.cells)
    return replace(job, trunk_id=trunk_id, variant=name, cells=cells, keep_final=True)


def failures(adapted: Adapted, num_events: int) -> list[str]:
    """Return a sentence for each seed that did not complete at this data size."""
    problems = []
    for job in adapted.jobs:
        [cell] = [cell for cell in job.cells if cell.num_events == num_events]
        row = json.loads((job.cell_dir / f"{cell.cell_id}.json").read_text(encoding="utf-8"))
        if row["status"] != "completed":
            what = f"seed {job.train.seed} {row['status']} ({row['reason']})"
            problems.append(f"{adapted.name} at D = {num_events:,} is left out: {what}.")
    return problems


def read_row(adapted: Adapted, num_events: int, device: torch.device) -> Row:
    """Return the finished models of a data size.

    Raises:
        InputError: A checkpoint is missing or damaged.
    """
    runs = []
    for job in adapted.jobs:
        path = job.checkpoint_dir / f"final-{num_events}"
        module = BehaveGPT(job.model, resolve_attention(job.model.attention, device))
        module.load_state_dict(read_plain_weights(path, read_checked(path)))
        runs.append(ModelSystem(adapted.name, module.to(device), count_params(job.model), device))
    seeds = tuple(job.train.seed for job in adapted.jobs)
    return Row(name=adapted.name, runs=tuple(runs), seeds=seeds, num_events=num_events)
