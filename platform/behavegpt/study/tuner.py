"""Ray Tune schedules the trunks; the journal remembers what they gave.

In: the jobs that have cells missing. Out: cell files, and a failure file for every cell of a trunk that failed. A trial
is a function that calls Ray Train once and reports once: Tune's callback for live reports can deadlock, so curves and
the dashboard's metrics come from the workers.
"""

import logging
import os
import re
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray import PlacementGroupID, tune
from ray.tune.result_grid import ResultGrid
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.state import list_jobs, list_placement_groups

from behavegpt.data.manifest import Manifest
from behavegpt.data.stream import READ_CPUS
from behavegpt.errors import InputError
from behavegpt.schema import Status
from behavegpt.study.journal import read_cells, record_failure
from behavegpt.train.config import ExecutionConfig, TrunkJob
from behavegpt.train.launch import fit_trunk
from behavegpt.train.record import finished, result_row

DRIVER_RESOURCES = {"node:__internal_head__": 0.001}
"""A trial's driver only waits: it takes no CPU, and stays on the head, where no spot instance is taken away."""
OUT_OF_MEMORY = ("outofmemory", "out of memory", "memoryerror", "can't allocate memory", "running low on memory")
"""What Python, torch on CPU and GPU, and Ray's memory monitor say when memory ran out, in lower case."""
READERS_PER_TRUNK = 2
"""Ray Data tasks that read ahead for a trunk; their CPUs must exist besides the workers', or nothing ever starts."""


def connect() -> dict[str, float]:
    """Connect to the cluster of the job or of RAY_ADDRESS, or start one here; return its resources."""
    # Tune's own table counts only drivers; ours comes from the curves. Read when tune.Tuner is made.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    if not ray.is_initialized():
        # Workers' logs stay in Ray's log directory and on the dashboard; what a user must know is in curves and cells.
        try:
            ray.init(log_to_driver=False, logging_level=logging.WARNING)
        except ConnectionError as error:
            where = os.environ.get("RAY_ADDRESS", "the head that runs on this machine")
            raise InputError(f"Ray at {where} does not let us in: {error}; see `clusters/local.sh env`") from error
    if freed := free_dead_groups():
        print(f"freed the resources of {freed} worker groups that stopped jobs had left behind", flush=True)
    return {name: float(amount) for name, amount in ray.cluster_resources().items()}


def free_dead_groups() -> int:
    """Remove the placement groups of jobs that have ended; return how many there were.

    A job that is stopped while a worker group starts can leave its placement group behind (seen with Ray 2.60): its
    CPUs are never given back, and every later study would wait for them without a word.
    """
    # Only what is known to have ended: a job that a long list leaves out may be alive.
    ended = {job.job_id for job in list_jobs(limit=10_000) if job.status in ("STOPPED", "SUCCEEDED", "FAILED")}
    groups: list[Any] = list_placement_groups(limit=10_000)  # Ray's own types hide the fields from a checker
    dead = [
        group.placement_group_id
        for group in groups
        if group.state != "REMOVED" and not group.is_detached and group.creator_job_id in ended
    ]
    for group_id in dead:
        remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(group_id)))
    return len(dead)


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
    ends = _ends(tuner.fit())
    for job in jobs:
        if failure := ends.get(job.trunk_id):
            for cell in (c for c in job.cells if not finished(job, c)):
                row = result_row(job, cell, manifest, failure.status, failure.reason)
                record_failure(study_dir, row | {"traceback": failure.traceback})
    if len(ends) < len(jobs):
        raise KeyboardInterrupt


def _trial(config: dict[str, Any], *, jobs: dict[str, TrunkJob], storage: Path) -> None:
    """Train one trunk; report its cells, or the error that ended it, once."""
    job = jobs[config["trunk_id"]]
    error = ""
    try:
        fit_trunk(job, storage)
    except Exception:
        # Not swallowed: with its traceback it becomes the record of every cell that this trunk owes.
        error = traceback.format_exc()
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


class Failure(NamedTuple):
    """Why a trunk has cells without a result."""

    status: Status
    reason: str
    """One line."""
    traceback: str


def _ends(results: ResultGrid) -> dict[str, Failure]:
    """Return how each trial that came to an end would explain a missing cell; an interrupted trial has no entry."""
    ends = {}
    for result in results:
        trunk_id = (result.config or {})["trunk_id"]
        metrics = result.metrics or {}
        if result.error is not None:
            ends[trunk_id] = explain(f"the trial's driver died: {result.error}")
        elif metrics.get("error"):
            ends[trunk_id] = explain(metrics["error"])
        elif "error" in metrics:
            ends[trunk_id] = explain("the trunk ended without this cell's file; is the study directory shared?")
    return ends


def explain(text: str) -> Failure:
    """Return the failure that a traceback tells of: its status, and the line that names the error."""
    lowered = text.lower()
    status: Status = "oom" if any(sign in lowered for sign in OUT_OF_MEMORY) else "crashed"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt|Killed)\b", line)]
    return Failure(status, (named or lines)[-1][:500], text[-20_000:])
