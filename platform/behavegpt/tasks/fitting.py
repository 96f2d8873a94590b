"""Fit systems as rows of a comparison: a rule once, a trained system once a seed.

In: kinds of systems, and a `Training` per seed. Out: `Row`s whose runs can score.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
        execution = replace(job.execution, engine="torch", num_workers=1, use_gpu=False)
        before = torch.get_num_threads()
        torch.set_num_threads(execution.cpus_per_worker)
        try:
            train_trunk(replace(job, execution=execution), local_tables, torch.device("cpu"))
        finally:
            torch.set_num_threads(before)


@dataclass(frozen=True, slots=True)
class TrainOnCluster:
    """Trains a job on the Ray cluster, with the job's own execution."""

    storage: Path
    """For Ray Train's own state."""

    def __call__(self, job: TrunkJob) -> None:
        # Imported here: a comparison of rules needs no cluster and should not wait seconds for it.
        from behavegpt.train.launch import fit_trunks

        if not all(finished(job, cell) for cell in job.cells):
            try:
                fit_trunks([job], self.storage)
            finally:
                shutil.rmtree(self.storage, ignore_errors=True)


def fit_row(kind: type[System], trainings: Sequence[Training], progress: Callable[[str], None]) -> Row:
    """Return the fitted row of one kind of system.

    Raises:
        RefusedError: A training run diverged.
    """
    runs, chosen = [], trainings if kind.trained else trainings[:1]
    for training in chosen:
        system = kind()
        progress(f"{system.name}, seed {training.job.train.seed}" if kind.trained else system.name)
        system.fit(training)
        runs.append(system)
    if not kind.trained:
        return Row(name=runs[0].name, runs=tuple(runs))
    seeds = tuple(training.job.train.seed for training in chosen)
    return Row(name=runs[0].name, runs=tuple(runs), seeds=seeds, num_events=chosen[0].job.cells[-1].num_events)
