"""A study from plan to results table; jobs/scaling_grid.py is its command line.

In: a StudyConfig, a dataset directory, a study directory. Out: plan.json, config.json, cells/, curves/, checkpoints/,
results.parquet. A rerun trains only what is missing.
"""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from behavegpt.config import plain
from behavegpt.data.manifest import Manifest
from behavegpt.data.shards import verify_dataset
from behavegpt.errors import InputError
from behavegpt.files import replace_file
from behavegpt.study.config import GRID_AXES, StudyConfig
from behavegpt.study.grid import Plan, plan_record, plan_study
from behavegpt.study.journal import finished, lease
from behavegpt.study.progress import show_progress
from behavegpt.study.results import write_results


@dataclass(frozen=True, slots=True)
class Study:
    """A study that is ready to run: checked, planned, nothing written yet."""

    config: StudyConfig
    manifest: Manifest
    dataset: Path
    study_dir: Path
    plan: Plan

    def missing(self) -> Plan:
        """Return the part of the plan whose cells have no final file; costs are those of the whole trunks."""
        kept = []
        for job, events, steps in zip(self.plan.jobs, self.plan.events, self.plan.steps, strict=True):
            cells = tuple(c for c in job.cells if not finished(self.study_dir, c.cell_id))
            if cells:
                kept.append((replace(job, cells=cells), events, steps))
        return Plan(*(tuple(column) for column in zip(*kept, strict=True))) if kept else Plan((), (), ())


def open_study(config: StudyConfig, dataset: Path, study_dir: Path) -> Study:
    """Return the study after checking the dataset's shards and that the directory is this study's own.

    Raises:
        InputError: A shard is damaged, a data size does not fit, or the directory holds another study.
    """
    manifest = verify_dataset(dataset)
    plan = plan_study(config, manifest, dataset, study_dir)
    _check_same_study(config, manifest, study_dir)
    return Study(config, manifest, dataset, study_dir, plan)


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


def _check_same_study(config: StudyConfig, manifest: Manifest, study_dir: Path) -> None:
    """Refuse to mix two recipes, losses or datasets in one results table; the grid itself may change."""
    if not (study_dir / "plan.json").exists():
        return
    before: dict[str, Any] = json.loads((study_dir / "plan.json").read_text(encoding="utf-8"))
    problems = []
    if before["dataset"]["fingerprint"] != manifest.fingerprint:
        old = f"{before['dataset']['name']} ({before['dataset']['fingerprint'][:12]})"
        new = f"{manifest.name} ({manifest.fingerprint[:12]})"
        problems.append(f"{study_dir}: its cells were trained on {old}, not {new}")
    now, then = plain(config), before["config"]
    for key in sorted(now.keys() - {*GRID_AXES, "execution", "name"}):
        if then.get(key) != now[key]:
            problems.append(f"{study_dir}: its cells have {key} {then.get(key)}, this run asks for {now[key]}")
    if problems:
        raise InputError(*problems, "choose another --study-dir for another study")
