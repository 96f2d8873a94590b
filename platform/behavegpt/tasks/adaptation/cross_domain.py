"""Cross-domain: what pretraining elsewhere is worth on a target, by every way to adapt; Table 5, Fig. 5 and Fig. 6b.

In: pretrained models, a target dataset and its training jobs. Out: a `CrossDomain`, which text.py and page.py tell.
Every way gets the same targets in the same batches and steps, and the same draws of what is new, seed by seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from behavegpt.data.manifest import Manifest
from behavegpt.data.vocab import read_vocabulary
from behavegpt.errors import InputError
from behavegpt.model.config import ModelConfig
from behavegpt.tasks.ablation.compare import SMALLER_IS_BETTER, Difference, Interval, over_seeds, verdict
from behavegpt.tasks.adaptation.runs import Adapted, failures, plan_adapted, read_row
from behavegpt.tasks.adaptation.transfer import Source, shape_problems
from behavegpt.tasks.adaptation.ways import SCRATCH, Way
from behavegpt.tasks.next_behavior import Comparison, RowFigures, compare, difference
from behavegpt.tasks.targets import Split, read_targets
from behavegpt.train.config import TrunkJob


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """What is asked for beside a row's figures."""

    way: Way
    source: str | None
    """None for a run from scratch."""
    num_trained: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossDomain:
    """What jobs/adapt.py cross-domain found."""

    model: ModelConfig
    """Of the target."""
    sources: tuple[Source, ...]
    seeds: tuple[int, ...]
    lines: dict[str, Line]
    """By the name of the row."""
    sizes: tuple[Comparison, ...]
    """One for each number of the target's training events, rising."""
    num_events: tuple[int, ...]
    """Of `sizes`."""
    left_out: tuple[str, ...]
    """A sentence for each run that did not complete."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What is adapted to."""

    dataset: Path
    manifest: Manifest
    split: Split
    jobs: tuple[TrunkJob, ...]
    """From scratch, one a seed, each with a cell for every data size."""
    out: Path
    train: Callable[[TrunkJob], None]
    """Trains a job's cells unless they are finished: in this process, or on a cluster."""
    device: torch.device
    """Where the finished models predict."""


def check_shapes(sources: Sequence[Source], model: ModelConfig) -> None:
    """Raise InputError unless the target's model has the blocks of the sources."""
    problems = [p for source in sources for found in source.models for p in shape_problems(found, model)]
    if problems:
        raise InputError(*problems)


def run(target: Target, sources: Sequence[Source], ways: Sequence[Way], progress: Callable[[str], None]) -> CrossDomain:
    """Train what is not finished, let every model predict the split, and return the comparison.

    Args:
        progress: Told what is trained or scored before it is.

    Raises:
        InputError: A finished model or a start is damaged.
    """
    adapted = plan_adapted(target.jobs, sources, ways, target.manifest, target.out / "starts")
    for one in adapted:
        for job in one.jobs:
            progress(f"train {one.name}, seed {job.train.seed}")
            target.train(job)
    num_events = tuple(cell.num_events for cell in target.jobs[0].cells)
    left_out, sizes = [], []
    for size in num_events:
        failed = {one.name: sentences for one in adapted if (sentences := failures(one, size))}
        left_out += [sentence for sentences in failed.values() for sentence in sentences]
        if good := [one for one in adapted if one.name not in failed]:
            sizes.append((size, _compare(target, good, size, progress)))
    model = target.jobs[0].model
    return CrossDomain(
        model=model,
        sources=tuple(sources),
        seeds=tuple(job.train.seed for job in target.jobs),
        lines={a.name: Line(way=a.way, source=a.source, num_trained=a.way.num_trained(model)) for a in adapted},
        sizes=tuple(comparison for _, comparison in sizes),
        num_events=tuple(size for size, _ in sizes),
        left_out=tuple(left_out),
    )


def _compare(target: Target, adapted: Sequence[Adapted], size: int, progress: Callable[[str], None]) -> Comparison:
    return compare(
        [read_row(one, size, target.device) for one in adapted],
        lambda: read_targets(target.dataset, target.manifest, target.split, "every"),
        manifest=target.manifest,
        behaviors=read_vocabulary(target.dataset / target.manifest.vocabulary_path("behavior")),
        split=target.split,
        protocol="every",
        progress=lambda name: progress(f"score {name} at D = {size:,}"),
    )


def scratch_of(comparison: Comparison) -> RowFigures | None:
    """Return the row from scratch, None where it was not asked for or did not complete."""
    return next((found for found in comparison.rows if found.row.name == SCRATCH), None)


def against(mine: RowFigures, other: RowFigures, metric: str) -> Difference:
    """Return a row's figure minus another's, seed by seed.

    The interval over users is that of the evaluator, which draws seeds as well, so it is rather too wide than too
    narrow.
    """
    gaps = np.array([a[metric] - b[metric] for a, b in zip(mine.runs, other.runs, strict=True)])
    both, seeds = difference(mine, other, metric), over_seeds(gaps)
    users = Interval(both.mean, both.low, both.high)
    return Difference(both.mean, seeds, users, verdict(seeds, users, smaller_is_better=metric in SMALLER_IS_BETTER))
