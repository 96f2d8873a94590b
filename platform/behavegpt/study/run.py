"""A study from plan to results table; jobs/scaling_grid.py is its command line.

In: a StudyConfig, a dataset directory, a study directory. Out: plan.json, config.json, cells/, curves/, checkpoints/,
results.parquet. A rerun trains only what is missing.
"""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from behavegpt.config import plain
from behavegpt.data.manifest import Manifest
from behavegpt.data.verify import verify_dataset
from behavegpt.errors import InputError
from behavegpt.files import replace_file
from behavegpt.lease import lease
from behavegpt.study.config import Size, StudyConfig, Variant
from behavegpt.study.estimate import matmul_flops_per_core, trunk_seconds
from behavegpt.study.grid import Plan, cost_left, name_trunk, plan_study, resolve
from behavegpt.study.journal import read_cells
from behavegpt.study.packs import fits, max_concurrent, pack, share_workers
from behavegpt.study.plan_record import plan_record
from behavegpt.study.progress import show_progress
from behavegpt.study.results import write_results
from behavegpt.study.stale import stale_problems
from behavegpt.train.config import TrunkJob
from behavegpt.train.record import finished

Watch = AbstractContextManager[Callable[[], None]]
"""Entered while cells are trained; gives what is called whenever one has finished."""
_writing = threading.Lock()


@dataclass(frozen=True, slots=True)
class Study:
    """A study that is ready to run: checked, planned, nothing written yet."""

    config: StudyConfig
    manifest: Manifest
    dataset: Path
    study_dir: Path
    plan: Plan

    def report_dir(self, variant: Variant) -> Path:
        """Return where the report of one of the variants goes."""
        return self.study_dir / ("report" if len(self.config.variants) == 1 else f"report-{variant.label}")

    def missing(self, plan: Plan | None = None) -> Plan:
        """Return the part of a plan that is not finished, and what it costs from the checkpoints that are there.

        Args:
            plan: A part of the study's own; None for all of it.
        """
        owed = [
            (job, tuple(c for c in job.cells if not finished(job, c)))
            for job in (self.plan if plan is None else plan).jobs
        ]
        jobs = [replace(job, cells=cells) for job, cells in owed if cells]
        if not jobs:
            return Plan((), ())
        _, steps, _ = resolve(self.config, self.manifest, self.dataset)
        return Plan(tuple(jobs), tuple(cost_left(job, steps) for job in jobs))


@dataclass(frozen=True, slots=True)
class Sweep:
    """What trains parts of a study, one after the other, while its directory is held."""

    train: Callable[[Plan, Plan], pa.Table]
    """Writes the first plan, all that was asked for, as plan.json; trains the second, a missing part of it; returns the
    results table."""
    num_groups: int
    """Worker groups that train side by side."""


def open_study(config: StudyConfig, dataset: Path, study_dir: Path) -> Study:
    """Return the study after checking the dataset's shards and that the directory is this study's own.

    Raises:
        InputError: A shard is damaged, a data size does not fit, or the directory holds another study.
    """
    if study_dir.exists() and not study_dir.is_dir():
        raise InputError(f"{study_dir}: is a file; --study-dir names a directory")
    if problems := stale_problems(study_dir):
        raise InputError(*problems)
    manifest = verify_dataset(dataset)
    plan = plan_study(config, manifest, dataset, study_dir)
    study = Study(config, manifest, dataset, study_dir, plan)
    _check_same_study(study)
    return study


def run_study(study: Study, watch: Watch | None = None) -> pa.Table:
    """Train the missing cells on the Ray cluster and return the results table.

    Args:
        study: The study.
        watch: Who follows it; not entered where there is nothing to train.

    Raises:
        InputError: The cluster is too small for one trunk; nothing is written.
        DirectoryBusyError: Another live run works in the study's directory.
        KeyboardInterrupt: Interrupted; a rerun goes on where this one stopped.
    """
    if not study.missing().jobs:
        with lease(study.study_dir):
            # What a driver left that was killed after its last cell.
            shutil.rmtree(study.study_dir / "ray", ignore_errors=True)
            return rebuild_results(study.study_dir)
    with training(study, watch) as sweep:
        return sweep.train(study.plan, study.missing())


def rebuild_results(study_dir: Path) -> pa.Table:
    """Write the results table from the cells, one thread at a time: whoever writes last has read last."""
    with _writing:
        return write_results(study_dir)


@contextmanager
def training(study: Study, watch: Watch | None = None) -> Iterator[Sweep]:
    """Hold the study's directory and yield what trains parts of it, one after the other.

    Raises:
        InputError, DirectoryBusyError: As for `run_study`.
    """
    # Imported here: --plan and a finished study need no cluster and should not wait seconds for these.
    from behavegpt.study.tuner import connected

    with connected() as cluster:
        # A cluster that is too small is refused before anything is written.
        num_groups = max_concurrent(study.config.execution, cluster)
        with lease(study.study_dir), watch or nullcontext(lambda: None) as on_cell:
            replace_file(study.study_dir / "config.json", json.dumps(plain(study.config), indent=1))
            rate = matmul_flops_per_core()
            workers = _workers(study, rate, cluster)
            yield Sweep(lambda plan, left: _train(study, plan, left, rate, workers, cluster, on_cell), num_groups)


def _train(
    study: Study,
    asked: Plan,
    missing: Plan,
    rate: float,
    workers: dict[str, int],
    cluster: dict[str, float],
    on_cell: Callable[[], None],
) -> pa.Table:
    from behavegpt.study.tuner import sweep

    record = plan_record(study.config, study.manifest, study.dataset, asked)
    replace_file(study.study_dir / "plan.json", json.dumps(record, indent=1))
    left = dict(zip(missing.jobs, missing.costs, strict=True))
    try:
        with show_progress(missing, on_cell):
            for num_workers in sorted({workers[job.trunk_id] for job in left}, reverse=True):
                jobs = [_on(job, num_workers) for job in left if workers[job.trunk_id] == num_workers]
                costs = [cost for job, cost in left.items() if workers[job.trunk_id] == num_workers]
                seconds = [trunk_seconds(j, c, study.manifest, rate) for j, c in zip(jobs, costs, strict=True)]
                concurrent = max_concurrent(jobs[0].execution, cluster)
                sweep(pack(jobs, seconds, concurrent), study.manifest, study.study_dir, concurrent)
    finally:
        shutil.rmtree(study.study_dir / "ray", ignore_errors=True)
        table = rebuild_results(study.study_dir)
    return table


def _workers(study: Study, rate: float, cluster: dict[str, float]) -> dict[str, int]:
    """Return the number of workers of each trunk, by the rule of packs.py: any number reads its checkpoints."""
    jobs = study.plan.jobs
    seconds = [trunk_seconds(job, cost, study.manifest, rate) for job, cost in zip(jobs, study.plan.costs, strict=True)]
    slots = max_concurrent(study.config.execution, cluster)
    shared = share_workers(jobs, seconds, study.config.max_workers, slots, lambda job: fits(job.execution, cluster) > 0)
    return {job.trunk_id: job.execution.num_workers for job in shared}


def _on(job: TrunkJob, num_workers: int) -> TrunkJob:
    return replace(job, execution=replace(job.execution, num_workers=num_workers))


def _check_same_study(study: Study) -> None:
    """Refuse to mix two datasets in one results table, or two recipes in one law; the grid itself may grow."""
    now, variants = study.manifest.fingerprint[:12], {variant.name: variant for variant in study.config.variants}
    problems = []
    for row in read_cells(study.study_dir):
        try:
            then, variant = row["dataset_fingerprint"][:12], variants.get(row["variant"])
            if then != now:
                problems.append(f"{study.study_dir}: its cells have dataset {then}, this run asks for {now}")
            elif variant is not None:
                size = Size(width=row["width"], depth=row["depth"], num_heads=row["num_heads"])
                name = name_trunk(study.config, study.manifest, size, variant, row["seed"], [row["num_events"]])
                if name != row["trunk_id"]:
                    problems.append(
                        f"{study.study_dir}: its {row['variant']} cells of width {row['width']}, seed {row['seed']} "
                        f"follow another recipe (trunk {row['trunk_id']}, learning rate {row['learning_rate']:g}) "
                        f"than this run's (trunk {name})"
                    )
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{study.study_dir / 'cells' / row['cell_id']}.json: lacks a value ({error}); "
                "delete it to train the cell again"
            ) from error
    if problems:
        raise InputError(*dict.fromkeys(problems), "choose another directory for another study")
