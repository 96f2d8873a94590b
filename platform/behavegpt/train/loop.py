"""The training loop of one worker, flat: plan, build, then leg by leg restore, train, and save or validate.

In: a TrunkJob and a source of tables (Ray Data on a cluster, a plain reader in tests). Out: checkpoints, a curve, and
one immutable file per finished cell. All ranks run the same code on the same plan; rank 0 writes.

Every leg starts from a checkpoint (or the initialisation), in an undisturbed run too: so a run that was killed and
resumed computes exactly what an undisturbed one does.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import torch

from behavegpt.data.batches import Batch
from behavegpt.data.manifest import Manifest, read_manifest
from behavegpt.data.stream import TableSource, read_targets
from behavegpt.files import create_file
from behavegpt.train.checkpoint import KEPT, CheckpointStore
from behavegpt.train.config import TrunkJob
from behavegpt.train.distributed import from_rank_0, rank
from behavegpt.train.evaluate import Validation, evaluate, read_validation
from behavegpt.train.family import family_of
from behavegpt.train.feed import batches_of, slices_of
from behavegpt.train.heartbeat import beat
from behavegpt.train.identity import identity_of
from behavegpt.train.learner import DivergedError, Learner, build_learner
from behavegpt.train.memory import micro_windows, worker_bytes
from behavegpt.train.metrics import CurveWriter, write_note
from behavegpt.train.record import Measured, branch_name, finished, result_row, step_name
from behavegpt.train.schedule import Leg, StepPlan, branch_start, lr_factor, plan_legs, plan_steps
from behavegpt.train.state import state_shapes


@dataclass(slots=True)
class Trunk:
    """One trunk on its way: what stays the same, then what its legs change."""

    job: TrunkJob
    manifest: Manifest
    plan: StepPlan
    store: CheckpointStore
    validation: list[Batch]
    curve: CurveWriter
    device: torch.device
    micro_windows: int | None
    """Most windows of a micro-batch."""
    owed: set[int]
    """D of the cells without a result."""
    learner: Learner | None = None
    loss_sum: float = 0.0
    """Plain cross-entropies of the branch so far, over its targets."""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    events_trained: int = 0
    """Since `started`."""


def train_trunk(job: TrunkJob, tables: TableSource, device: torch.device) -> None:
    """Train the trunk and every branch whose cell has no file yet; all workers call this together."""
    torch.manual_seed(job.train.seed)
    torch.set_flush_denormal(True)
    manifest = read_manifest(job.dataset)
    plan = plan_steps(read_targets(job.dataset, manifest, job.cells[-1].num_events), job.train.batch_ramp)
    shapes = state_shapes(job.model, family_of(job).module, job.train.trainable)
    store = CheckpointStore(job.checkpoint_dir, identity_of(job, manifest), shapes)
    legs = from_rank_0(lambda: _missing_legs(job, plan, store))
    if not legs:
        return
    batches = batches_of(job, manifest, plan, legs, tables)
    validation = read_validation(job.dataset, manifest, job.train.num_val_windows)
    curve = CurveWriter(job.curve_path if rank() == 0 else None, job.trunk_id, job.cells[-1].num_events)
    owed = {leg.num_events for leg in legs if leg.kind == "branch"}
    micro = from_rank_0(lambda: micro_windows(job, worker_bytes(job.execution)))
    trunk = Trunk(job, manifest, plan, store, validation, curve, device, micro, owed)
    for leg in legs:
        if leg.kind == "branch" and leg.num_events not in trunk.owed:
            _skip(batches, leg.start, leg.stop)
            continue
        learner = _start(trunk, leg)
        try:
            _run_leg(trunk, leg, learner, batches)
            result = evaluate(learner.engine.module, validation, device) if leg.ends(plan) else None
            if result and not math.isfinite(result.loss):
                raise DivergedError(f"validation loss {result.loss}", leg.stop - 1)
        except DivergedError as error:
            _record_diverged(trunk, leg, error)
            if leg.kind == "trunk":
                return
            _skip(batches, error.step + 1, leg.stop)
            continue
        if result is None:
            _save(trunk, leg, learner)
        else:
            _finish_branch(trunk, leg, learner, result)


def _start(trunk: Trunk, leg: Leg) -> Learner:
    """Return the learner as it is before the leg: initialised, or restored from the leg's checkpoint."""
    job = trunk.job
    if trunk.learner is None or leg.start == 0:
        trunk.learner = None  # its memory, before another takes as much
        trunk.learner = build_learner(job, trunk.device)
    if leg.start > 0:
        within = leg.kind == "branch" and leg.start > leg.fork
        name = branch_name(leg.num_events, leg.start) if within else step_name(leg.start)
        tensors, execution = trunk.store.load(name, trunk.learner.engine)
        trunk.learner.restore(tensors)
        trunk.loss_sum = float(tensors["loss_sum"])
        if rank() == 0 and execution != trunk.store.identity.execution:
            write_note(
                job.curve_path, f"{name} was written by {execution}, goes on as {trunk.store.identity.execution}"
            )
    if leg.kind == "trunk" or leg.start == leg.fork:
        trunk.loss_sum = 0.0
    return trunk.learner


def _run_leg(trunk: Trunk, leg: Leg, learner: Learner, batches: Iterator[Batch]) -> None:
    """Take the leg's steps."""
    job, plan = trunk.job, trunk.plan
    trunk.curve.begin(int(plan.events_before[leg.start]))
    for step in range(leg.start, leg.stop):
        begin, end = int(plan.events_before[step]), min(int(plan.events_before[step + 1]), leg.num_events)
        num_windows = int(plan.first_window[step + 1] - plan.first_window[step])
        slices = slices_of(next(batches), num_windows, trunk.micro_windows)
        factor = lr_factor(job.train, plan, leg, step)
        result = learner.take_step(slices, end - begin, step, factor)
        trunk.loss_sum += result.loss_sum
        trunk.events_trained += end - begin
        beat()
        trunk.curve.add(leg, step, end, result.loss_sum, factor, result.grad_norm)


def _save(trunk: Trunk, leg: Leg, learner: Learner) -> None:
    """Save the end of a leg that is not a branch's end, and remove what nothing starts from any more."""
    store, forks = trunk.store, _forks(trunk)
    if leg.kind == "trunk":
        _write(trunk, step_name(leg.stop), learner, leg.stop, leg.stop in forks)
        if rank() == 0:
            store.remove_passed(leg.stop, forks)
        return
    _write(trunk, branch_name(leg.num_events, leg.stop), learner, leg.stop)
    if rank() == 0:
        store.remove_branch(leg.num_events, keep=KEPT)


def _forks(trunk: Trunk) -> set[int]:
    """Return the steps at which the job's branches leave the trunk, and those that may be asked for later."""
    sizes = {cell.num_events for cell in trunk.job.cells} | set(trunk.job.later)
    return {branch_start(trunk.plan, size, trunk.job.train) for size in sizes}


def _write(trunk: Trunk, name: str, learner: Learner, step: int, fork: bool = False) -> None:
    plan, tensors = trunk.plan, learner.tensors() | {"loss_sum": torch.tensor(trunk.loss_sum, dtype=torch.float64)}
    cursor = {"step": step, "window": int(plan.first_window[step]), "num_events": int(plan.events_before[step])}
    trunk.store.save(name, learner.engine, tensors, cursor, fork)


def _finish_branch(trunk: Trunk, leg: Leg, learner: Learner, result: Validation) -> None:
    """Record the cell that the branch gives its loss."""
    job = trunk.job
    [cell] = [cell for cell in job.cells if cell.num_events == leg.num_events]
    if job.keep_final:
        _write(trunk, job.final_name(cell), learner, leg.stop)
    if rank() == 0:
        events = leg.num_events - int(trunk.plan.events_before[leg.fork])
        measured = _measured(trunk, learner, result, trunk.loss_sum / max(1, events), leg.stop)
        _record(job, result_row(job, cell, trunk.manifest, "completed", measured=measured))
        trunk.curve.cell(leg.num_events, "completed", result.loss)
        trunk.store.remove_branch(leg.num_events)
    trunk.owed.discard(leg.num_events)
    if rank() == 0 and not trunk.owed:
        trunk.store.remove_passed(leg.fork, _forks(trunk), keep=0)
    trunk.started, trunk.events_trained = datetime.now(UTC), 0


def _record_diverged(trunk: Trunk, leg: Leg, error: DivergedError) -> None:
    """Record every cell that the leg's divergence costs: its branch's own, or all that the trunk still owes."""
    job = trunk.job
    lost = {leg.num_events} if leg.kind == "branch" else set(trunk.owed)
    if rank() == 0:
        if error.windows:
            write_note(job.curve_path, f"{job.trunk_id} diverged at step {error.step} on windows {error.windows}")
        for cell in (cell for cell in job.cells if cell.num_events in lost):
            _record(job, result_row(job, cell, trunk.manifest, "diverged", str(error)))
            trunk.curve.cell(cell.num_events, "diverged", None)
            trunk.store.remove_branch(cell.num_events)
    trunk.owed -= lost
    trunk.learner = None
    trunk.started, trunk.events_trained = datetime.now(UTC), 0


def _skip(batches: Iterator[Batch], start: int, stop: int) -> None:
    for _ in range(start, stop):
        next(batches)


def _missing_legs(job: TrunkJob, plan: StepPlan, store: CheckpointStore) -> list[Leg]:
    missing = [c.num_events for c in job.cells if not finished(job, c)]
    store.remove_partial()
    found = store.usable()
    for sentence in found.rejected:
        write_note(job.curve_path, sentence)
    return plan_legs(plan, job.train, missing, found.trunk, job.execution.checkpoint_steps, found.branches, job.later)


def _record(job: TrunkJob, row: dict[str, Any]) -> None:
    create_file(job.cell_dir / f"{row['cell_id']}.json", json.dumps(row, indent=1) + "\n")


def _measured(trunk: Trunk, learner: Learner, result: Validation, train_loss: float, num_steps: int) -> Measured:
    now = datetime.now(UTC)
    return Measured(
        loss=result.loss,
        loss_stderr=result.stderr,
        train_loss=train_loss,
        num_steps=num_steps,
        wall_s=(now - trunk.started).total_seconds(),
        events_trained=trunk.events_trained,
        device=str(trunk.device),
        attention=learner.attention,
        started_at=trunk.started.isoformat(timespec="seconds"),
        finished_at=now.isoformat(timespec="seconds"),
    )
