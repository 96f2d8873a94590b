"""Fit systems as rows of a comparison: a rule once, a trained system once a seed.

In: kinds of systems, and a `Training` per seed. Out: `Row`s whose runs can score.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from behavegpt.data.stream import local_tables
from behavegpt.tasks.next_behavior import Row
from behavegpt.tasks.system import System, Training
from behavegpt.train.config import TrunkJob
from behavegpt.train.loop import train_trunk
from behavegpt.train.record import finished


@dataclass(frozen=True, slots=True)
class TrainHere:
    """Trains a job in this process with the torch engine, on as many threads as the execution gives a worker."""

    def __call__(self, job: TrunkJob) -> None:
        execution = replace(job.execution, engine="torch", zero_stage=0, num_workers=1, use_gpu=False, offload="none")
        before = torch.get_num_threads()
        torch.set_num_threads(execution.cpus_per_worker)
        try:
            train_trunk(replace(job, execution=execution), local_tables, torch.device("cpu"))
        finally:
            torch.set_num_threads(before)


@dataclass(frozen=True, slots=True)
class TrainOnCluster:
    """Trains jobs on the Ray cluster, one after another in one worker group, with their own execution."""

    storage: Path
    """For Ray Train's own state."""

    def __call__(self, *jobs: TrunkJob) -> None:
        # Imported here: a comparison of rules needs no cluster and should not wait seconds for it.
        from behavegpt.train.launch import fit_trunks

        if missing := unfinished(jobs):
            try:
                fit_trunks(missing, self.storage)
            finally:
                shutil.rmtree(self.storage, ignore_errors=True)


def unfinished(jobs: Sequence[TrunkJob]) -> list[TrunkJob]:
    """Return the jobs that still owe a cell."""
    return [job for job in jobs if not all(finished(job, cell) for cell in job.cells)]


def fit_row(
    kind: type[System],
    trainings: Sequence[Training],
    progress: Callable[[str], None],
    rate_factors: Sequence[float] = (1.0,),
) -> Row:
    """Return the fitted row of one kind of system.

    Args:
        rate_factors: Of a trained system's learning rate. The first seed is trained with each of them, the others with
            the one that gave it the lowest validation loss, which the row's name says unless it is 1.

    Raises:
        RefusedError: A training run diverged.
    """
    if not kind.trained:
        progress(kind.name)
        system = kind()
        system.fit(trainings[0])
        return Row(name=system.name, runs=(system,))
    first = {factor: _fit(kind, trainings[0], factor, progress) for factor in rate_factors}
    best = min(first, key=lambda factor: first[factor].val_loss) if len(first) > 1 else rate_factors[0]
    runs = (first[best], *(_fit(kind, training, best, progress) for training in trainings[1:]))
    return Row(
        name=kind.name + _with_rate(best),
        runs=runs,
        seeds=tuple(training.job.train.seed for training in trainings),
        num_events=trainings[0].job.cells[-1].num_events,
    )


def _fit(kind: type[System], training: Training, factor: float, progress: Callable[[str], None]) -> Any:
    train = replace(training.job.train, learning_rate=training.job.train.learning_rate * factor)
    progress(f"{kind.name}{_with_rate(factor)}, seed {train.seed}")
    system = kind()
    system.fit(replace(training, job=replace(training.job, train=train)))
    return system


def _with_rate(factor: float) -> str:
    return f"-rate-x{factor:g}" if factor != 1 else ""
