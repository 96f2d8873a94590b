"""A study from plan to results table; jobs/scaling_grid.py is its command line.

In: a StudyConfig, a dataset directory, a study directory. Out: plan.json, config.json, cells/, curves/, checkpoints/,
results.parquet. A rerun trains only what is missing.
"""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from behavegpt.config import plain
from behavegpt.data.manifest import Manifest
from behavegpt.data.shards import verify_dataset
from behavegpt.errors import InputError
from behavegpt.files import replace_file
from behavegpt.study.config import StudyConfig
from behavegpt.study.grid import Plan, cost, name_trunk, plan_record, plan_study, step_plan
from behavegpt.study.journal import lease, read_cells
from behavegpt.study.progress import show_progress
from behavegpt.study.results import write_results
from behavegpt.train.checkpoint import saved_steps
from behavegpt.train.record import finished, variant


@dataclass(frozen=True, slots=True)
class Study:
    """A study that is ready to run: checked, planned, nothing written yet."""

    config: StudyConfig
    manifest: Manifest
    dataset: Path
    study_dir: Path
    plan: Plan

    def missing(self) -> Plan:
        """Return the part of the plan that is not finished, and what it costs from the checkpoints that are there."""
        owed = [(job, tuple(c for c in job.cells if not finished(job, c))) for job in self.plan.jobs]
        jobs = [replace(job, cells=cells) for job, cells in owed if cells]
        steps = step_plan(self.config, self.manifest, self.dataset) if jobs else None
        return Plan(tuple(jobs), tuple(cost(job, steps, saved_steps(job.checkpoint_dir)) for job in jobs if steps))


def open_study(config: StudyConfig, dataset: Path, study_dir: Path) -> Study:
    """Return the study after checking the dataset's shards and that the directory is this study's own.

    Raises:
        InputError: A shard is damaged, a data size does not fit, or the directory holds another study.
    """
    if study_dir.exists() and not study_dir.is_dir():
        raise InputError(f"{study_dir}: is a file; --study-dir names a directory")
    manifest = verify_dataset(dataset)
    plan = plan_study(config, manifest, dataset, study_dir)
    study = Study(config, manifest, dataset, study_dir, plan)
    _check_same_study(study)
    return study


def run_study(study: Study) -> pa.Table:
    """Train the missing cells on the Ray cluster and return the results table.

    Raises:
        InputError: The cluster is too small for one trunk; nothing is written.
        DirectoryBusyError: Another live run works in the study's directory.
        KeyboardInterrupt: Interrupted; a rerun goes on where this one stopped.
    """
    if not study.missing().jobs:
        return write_results(study.study_dir)
    # Imported here: --plan and a finished study need no cluster and should not wait seconds for these.
    from behavegpt.study.tuner import connect, max_concurrent

    concurrent = max_concurrent(study.config.execution, connect())
    with lease(study.study_dir):
        return _train_missing(study, concurrent)


def _train_missing(study: Study, concurrent: int) -> pa.Table:
    from behavegpt.study.tuner import sweep

    replace_file(study.study_dir / "config.json", json.dumps(plain(study.config), indent=1))
    record = plan_record(study.config, study.manifest, study.dataset, study.plan)
    replace_file(study.study_dir / "plan.json", json.dumps(record, indent=1))
    missing = study.missing()
    try:
        with show_progress(missing):
            sweep(list(missing.jobs), study.manifest, study.study_dir, concurrent)
    finally:
        shutil.rmtree(study.study_dir / "ray", ignore_errors=True)
        table = write_results(study.study_dir)
    return table


def _check_same_study(study: Study) -> None:
    """Refuse to mix two recipes, losses, models or datasets in one results table; the grid itself may grow."""
    [job, *_] = study.plan.jobs
    now = {
        "dataset": study.manifest.fingerprint[:12],
        "depth": job.model.depth,
        "schedule": job.train.schedule,
        "variant": variant(job),
    }
    problems = []
    for row in read_cells(study.study_dir):
        try:
            then = {**row, "dataset": row["dataset_fingerprint"][:12]}
            differences = [f"{k} {then[k]}, this run asks for {v}" for k, v in now.items() if then[k] != v]
            trunk_id = name_trunk(study.config, study.manifest, row["width"], row["seed"], [row["num_events"]])
            if not differences and trunk_id != row["trunk_id"]:
                differences.append(
                    f"of width {row['width']}, seed {row['seed']} follow another recipe "
                    f"(trunk {row['trunk_id']}, learning rate {row['learning_rate']:g}) "
                    f"than this run's (trunk {trunk_id})"
                )
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{study.study_dir / 'cells' / row['cell_id']}.json: lacks a value ({error}); "
                "delete it to train the cell again"
            ) from error
        problems += [f"{study.study_dir}: its cells {'' if d.startswith('of ') else 'have '}{d}" for d in differences]
    if problems:
        raise InputError(*dict.fromkeys(problems), "choose another --study-dir for another study")
