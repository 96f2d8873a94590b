"""Ray Tune schedules the trunks; the journal remembers what they gave.

In: packs of jobs that have cells missing. Out: cell files, and a failure file for every cell of a trunk that failed. A
trial is a function that trains a pack on a Ray Train worker group and reports once: Tune's callback for live reports
can deadlock, so curves and the dashboard's metrics come from the workers.
"""

import json
import logging
import os
import re
import shutil
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray import PlacementGroupID, tune
from ray.tune.result_grid import ResultGrid
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.state import list_jobs, list_placement_groups

from behavegpt.data.manifest import Manifest
from behavegpt.errors import InputError
from behavegpt.files import remove_partial
from behavegpt.schema import Status
from behavegpt.study.alive import check_answers, while_ray_lives
from behavegpt.study.journal import read_cells, record_failure
from behavegpt.study.packs import Pack
from behavegpt.train.config import TrunkJob
from behavegpt.train.launch import fit_trunks
from behavegpt.train.record import finished, result_row

DRIVER_RESOURCES = {"node:__internal_head__": 0.001}
"""A trial's driver only waits: it takes no CPU, and stays on the head, where no spot instance is taken away."""
TRIAL_RESTARTS = 2
"""A trial's driver that dies takes its worker group along; the next one goes on from the same files."""
OUT_OF_MEMORY = ("outofmemory", "out of memory", "memoryerror", "can't allocate memory", "running low on memory")
"""What Python, torch on CPU and GPU, and Ray's memory monitor say when memory ran out, in lower case."""


def connect() -> dict[str, float]:
    """Connect to the cluster of the job or of RAY_ADDRESS, or start one here; return its resources."""
    # Tune's own table counts only drivers; ours comes from the curves. Read when tune.Tuner is made.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    if not ray.is_initialized():
        # Workers' logs stay in Ray's log directory and on the dashboard; what a user must know is in curves and cells.
        terminate = signal.getsignal(signal.SIGTERM)
        check_answers(os.environ.get("RAY_ADDRESS", ""))
        try:
            ray.init(log_to_driver=False, logging_level=logging.WARNING)
        except ConnectionError as error:
            where = os.environ.get("RAY_ADDRESS", "the head that runs on this machine")
            raise InputError(f"Ray at {where} does not let us in: {error}; see `clusters/local.sh env`") from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminate)  # Ray puts one of its own there, which leaves with exit code 15
    if freed := free_dead_groups():
        print(f"freed the resources of {freed} worker groups that stopped jobs had left behind", flush=True)
    return {name: float(amount) for name, amount in ray.cluster_resources().items()}


@contextmanager
def connected() -> Iterator[dict[str, float]]:
    """Connect for the block, and yield the cluster's resources: what follows cannot be held up by a head that dies.

    A connection that was there before stays.
    """
    before = ray.is_initialized()
    try:
        yield connect()
    finally:
        if not before:
            ray.shutdown()


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


def sweep(packs: Sequence[Pack], manifest: Manifest, study_dir: Path, concurrent: int) -> None:
    """Train the packs, in order, `concurrent` at a time; record a failure for every cell that did not finish.

    Args:
        packs: All of the same number of workers.

    Raises:
        KeyboardInterrupt: The sweep was interrupted; finished cells are kept.
        OutageError: Ray died; finished cells are kept.
    """
    storage = study_dir.resolve() / "ray"
    # Nothing is ever resumed from Ray's own state, and a killed run leaves some behind.
    shutil.rmtree(storage, ignore_errors=True)
    remove_partial(study_dir)
    remove_partial(study_dir / "cells")
    with while_ray_lives():
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(_trial, packs={pack.name: pack.jobs for pack in packs}, storage=storage),
                DRIVER_RESOURCES,
            ),
            param_space={"pack": tune.grid_search([pack.name for pack in packs])},
            tune_config=tune.TuneConfig(max_concurrent_trials=concurrent),
            run_config=tune.RunConfig(
                name=f"tune-{packs[0].jobs[0].execution.num_workers}",
                storage_path=str(storage),
                failure_config=tune.FailureConfig(max_failures=TRIAL_RESTARTS),
                verbose=0,
            ),
        )
        ends = _ends(tuner.fit())
    for pack in packs:
        for job in pack.jobs if pack.name in ends else ():
            failure = explain(ends[pack.name].errors.get(job.trunk_id, ends[pack.name].otherwise))
            for cell in (c for c in job.cells if not finished(job, c)):
                row = result_row(job, cell, manifest, failure.status, failure.reason)
                record_failure(study_dir, row | {"traceback": failure.traceback})
    if len(ends) < len(packs):
        raise KeyboardInterrupt


def _trial(config: dict[str, Any], *, packs: dict[str, tuple[TrunkJob, ...]], storage: Path) -> None:
    """Train one pack; report once: its cells, and the error of each trunk that could not be trained."""
    jobs = packs[config["pack"]]
    errors = train_pack(jobs, lambda left: fit_trunks(left, storage))
    trunk_ids = {job.trunk_id for job in jobs}
    rows = [r for r in read_cells(jobs[0].study_dir) if r["trunk_id"] in trunk_ids and r["status"] == "completed"]
    tune.report(
        {
            "errors": json.dumps(errors),
            "num_cells": len(rows),
            "loss": min((r["loss"] for r in rows), default=float("nan")),
            "done": True,
        }
    )


def train_pack(jobs: Sequence[TrunkJob], fit: Callable[[Sequence[TrunkJob]], None]) -> dict[str, str]:
    """Train the jobs with `fit`, whatever becomes of each; return the traceback that ended each failed one.

    A group that fails blames the trunk it was at. Where that was not its first, the trunk gets a fresh group before it
    is given up: what failed may have been the group. The rest of the pack goes on in a group without it.
    """
    errors: dict[str, str] = {}
    while jobs:
        try:
            fit(jobs)
        except Exception:
            # Not swallowed: with its traceback it becomes the record of every cell that the trunk owes.
            error = traceback.format_exc()
        else:
            break
        left = [job for job in jobs if not all(finished(job, cell) for cell in job.cells)]
        if left and left[0] is jobs[0]:
            errors[left[0].trunk_id] = error
            left = left[1:]
        jobs = left
    return errors


class Failure(NamedTuple):
    """Why a trunk has cells without a result."""

    status: Status
    reason: str
    """One line."""
    traceback: str


class PackEnd(NamedTuple):
    """What a pack that came to an end says of cells without a result."""

    errors: dict[str, str]
    """A traceback for each trunk that failed."""
    otherwise: str
    """For every other one."""


def _ends(results: ResultGrid) -> dict[str, PackEnd]:
    """Return how each pack ended; an interrupted one has no entry."""
    ends = {}
    for result in results:
        pack, metrics = (result.config or {})["pack"], result.metrics or {}
        if result.error is not None:
            ends[pack] = PackEnd({}, f"the trial's driver died: {result.error}")
        elif "errors" in metrics:
            without_file = "the trunk ended without this cell's file; is the study directory shared?"
            ends[pack] = PackEnd(json.loads(metrics["errors"]), without_file)
    return ends


def explain(text: str) -> Failure:
    """Return the failure that a traceback tells of: its status, and the line that names the error."""
    lowered = text.lower()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt|Killed)\b", line)]
    reason = (named or lines)[-1][:500]
    status: Status = "timeout" if re.match(r"[\w.]*TimeoutError\b", reason) else "crashed"
    if any(sign in lowered for sign in OUT_OF_MEMORY):
        status = "oom"
    return Failure(status, reason, text[-20_000:])
