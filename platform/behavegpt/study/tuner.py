"""Ray Tune schedules the trunks; the journal remembers what they gave.

In: the jobs that have cells missing. Out: cell files, and a failure file for every cell of a trunk that failed. A trial
is a function that calls Ray Train once and reports once: Tune's callback for live reports can deadlock, so curves and
the dashboard's metrics come from the workers.
"""

import logging
import os
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.result_grid import ResultGrid

from behavegpt.data.manifest import Manifest
from behavegpt.data.stream import READ_CPUS
from behavegpt.errors import InputError
from behavegpt.schema import Status
from behavegpt.study.journal import finished, read_cells, record_failure
from behavegpt.train.config import ExecutionConfig, TrunkJob
from behavegpt.train.launch import fit_trunk
from behavegpt.train.record import result_row

DRIVER_RESOURCES = {"node:__internal_head__": 0.001}
"""A trial's driver only waits: it takes no CPU, and stays on the head, where no spot instance is taken away."""
READERS_PER_TRUNK = 2
"""Ray Data tasks that read ahead for a trunk; their CPUs must exist besides the workers', or nothing ever starts."""


def connect() -> dict[str, float]:
    """Connect to the cluster of the job or of RAY_ADDRESS, or start one here; return its resources."""
    # Tune's own table counts only drivers; ours comes from the curves. Read when tune.Tuner is made.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    if not ray.is_initialized():
        # Workers' logs stay in Ray's log directory and on the dashboard; what a user must know is in curves and cells.
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    return {name: float(amount) for name, amount in ray.cluster_resources().items()}


def max_concurrent(execution: ExecutionConfig, cluster: dict[str, float]) -> int:
    """Return how many trunks the cluster's resources train side by side.

    Raises:
        InputError: Not even one fits; without this check Ray would wait for ever.
    """
    cpus = execution.num_workers * execution.cpus_per_worker + READERS_PER_TRUNK * READ_CPUS
    fits = int(cluster.get("CPU", 0) // cpus)
    if execution.use_gpu:
        fits = min(fits, int(cluster.get("GPU", 0) // execution.num_workers))
    if fits < 1:
        gpus = f" and {execution.num_workers} GPUs" if execution.use_gpu else ""
        raise InputError(
            f"one trunk needs {cpus:g} CPUs{gpus} ({execution.num_workers} workers and their readers); "
            f"the cluster has {cluster.get('CPU', 0):g} CPUs and {cluster.get('GPU', 0):g} GPUs"
        )
    return fits


def sweep(jobs: list[TrunkJob], manifest: Manifest, study_dir: Path, concurrent: int) -> None:
    """Train the jobs, in order, `concurrent` at a time; record a failure for every cell that did not finish.

    Raises:
        KeyboardInterrupt: The sweep was interrupted; finished cells are kept.
    """
    storage = study_dir.resolve() / "ray"
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(_trial, jobs={job.trunk_id: job for job in jobs}, storage=storage), DRIVER_RESOURCES
        ),
        param_space={"trunk_id": tune.grid_search([job.trunk_id for job in jobs])},
        tune_config=tune.TuneConfig(max_concurrent_trials=concurrent),
        run_config=tune.RunConfig(name="tune", storage_path=str(storage), verbose=0),
    )
    errors = _errors(tuner.fit())
    missing = {job.trunk_id: [c for c in job.cells if not finished(study_dir, c.cell_id)] for job in jobs}
    if any(cells and trunk_id not in errors for trunk_id, cells in missing.items()):
        raise KeyboardInterrupt
    for job in jobs:
        for cell in missing[job.trunk_id]:
            status, reason = errors[job.trunk_id]
            record_failure(study_dir, result_row(job, cell, manifest, status, reason))


def _trial(config: dict[str, Any], *, jobs: dict[str, TrunkJob], storage: Path) -> None:
    """Train one trunk; report its cells, or the error that ended it, once."""
    job = jobs[config["trunk_id"]]
    error = ""
    try:
        fit_trunk(job, storage)
    except Exception as failure:
        # Not swallowed: it becomes the row of every cell that this trunk owes, and its traceback is in the job's log.
        error = _reason(failure)
    rows = [r for r in read_cells(job.study_dir) if r["trunk_id"] == job.trunk_id and r["status"] == "completed"]
    tune.report(
        {
            "trunk_id": job.trunk_id,
            "error": error,
            "num_cells": len(rows),
            "loss": min((r["loss"] for r in rows), default=float("nan")),
            "done": True,
        }
    )


def _errors(results: ResultGrid) -> dict[str, tuple[Status, str]]:
    """Return status and reason of each trunk whose trial ended with an error."""
    errors: dict[str, tuple[Status, str]] = {}
    for result in results:
        trunk_id = (result.config or {})["trunk_id"]
        if result.error is not None:
            errors[trunk_id] = "crashed", f"the trial's driver died: {_reason(result.error)}"
        elif text := (result.metrics or {}).get("error"):
            out_of_memory = "OutOfMemory" in text or "MemoryError" in text or "out of memory" in text
            errors[trunk_id] = ("oom" if out_of_memory else "crashed"), text
    return errors


def _reason(error: BaseException) -> str:
    """Return the innermost cause's last line, which says what happened, with the outer error's name before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:500]
