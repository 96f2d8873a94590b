"""The training loop of one worker, flat: plan, build, then leg by leg restore, train, and save or validate.

In: a TrunkJob and a source of tables (Ray Data on a cluster, a plain reader in tests). Out: checkpoints, a curve, and
one immutable file per finished cell. All ranks run the same code on the same plan; rank 0 writes.

Every leg starts from a checkpoint (or the initialisation), in an undisturbed run too: so a run that was killed and
resumed computes exactly what an undisturbed one does.
"""

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import torch

from behavegpt.data.batches import Batch, keep_targets
from behavegpt.data.manifest import Manifest, read_manifest
from behavegpt.data.plan import plan_reads, rank_windows
from behavegpt.data.stream import TableSource, read_targets, stream_batches
from behavegpt.files import create_file
from behavegpt.loss.nll import mean_loss, token_losses
from behavegpt.model.attention import resolve_attention
from behavegpt.model.transformer import BehaveGPT, initialise
from behavegpt.train.checkpoint import (
    CheckpointStore,
    random_state,
    restore_random_state,
)
from behavegpt.train.config import TrunkJob
from behavegpt.train.distributed import all_sum, from_rank_0, rank, world_size
from behavegpt.train.engine import Engine, build_engine
from behavegpt.train.evaluate import Validation, evaluate, features, read_validation
from behavegpt.train.metrics import CurveWriter, write_note
from behavegpt.train.record import Measured, code_version, finished, result_row, saved_steps, step_name
from behavegpt.train.robust import RobustLoss
from behavegpt.train.schedule import Leg, StepPlan, branch_start, lr_factor, plan_legs, plan_steps


class DivergedError(RuntimeError):
    """The loss or the gradient stopped being a number at `step`: what was trained since the last checkpoint is lost."""

    def __init__(self, what: str, step: int, batch: Batch | None = None) -> None:
        windows = f", windows {batch.window_id[:8].tolist()}" if batch else ""
        super().__init__(f"{what} at step {step}{windows}")
        self.step = step


def train_trunk(job: TrunkJob, tables: TableSource, device: torch.device) -> None:
    """Train the trunk and every branch whose cell has no file yet; all workers call this together."""
    torch.manual_seed(job.train.seed)
    torch.set_flush_denormal(True)
    manifest = read_manifest(job.dataset)
    targets_W = read_targets(job.dataset, manifest, job.cells[-1].num_events)
    plan = plan_steps(targets_W, job.train.batch_ramp)
    store = CheckpointStore(job.checkpoint_dir, _execution_key(job))
    legs = from_rank_0(lambda: _missing_legs(job, plan, store))
    if not legs:
        return
    started, since = datetime.now(UTC), 0
    batches = batches_of(job, manifest, plan, legs, tables)
    dtype = torch.bfloat16 if job.train.precision == "bf16" else torch.float32
    model = BehaveGPT(job.model, resolve_attention(job.model.attention, device, dtype))
    initialise(model, job.train.seed)
    engine = build_engine(model.to(device), job.train, job.execution)
    robust = RobustLoss(job, device)
    validation = read_validation(job.dataset, manifest, job.train.num_val_windows)
    curve = CurveWriter(job.curve_path if rank() == 0 else None, job.trunk_id, job.cells[-1].num_events)
    cells = {cell.num_events: cell for cell in job.cells}
    owed = {leg.num_events for leg in legs if leg.kind == "branch"}
    for leg in legs:
        if leg.start > 0:
            loop_state = store.load(step_name(leg.start), engine)
            restore_random_state(loop_state)
            robust.restore(loop_state)
        try:
            train_loss = _run_leg(leg, plan, job, engine, robust, batches, curve, device)
            result = evaluate(engine.module, validation, device) if leg.kind == "branch" else None
            if result and not math.isfinite(result.loss):
                raise DivergedError(f"validation loss {result.loss}", leg.stop - 1)
        except DivergedError as error:
            lost = [cells[leg.num_events]] if leg.kind == "branch" else [c for c in job.cells if c.num_events in owed]
            if rank() == 0:
                for cell in lost:
                    _record(job, result_row(job, cell, manifest, "diverged", str(error)))
                    curve.cell(cell.num_events, "diverged", None)
            if leg.kind == "trunk":
                return
            for _ in range(error.step + 1, leg.stop):
                next(batches)
            started, since = datetime.now(UTC), 0
            continue
        owed.discard(leg.num_events)
        since += leg.num_events - int(plan.events_before[leg.start])
        if result is None:
            store.save(step_name(leg.stop), engine, random_state() | robust.tensors())
            if rank() == 0:
                store.remove_passed(leg.stop, keep=_forks(job, plan, store))
            continue
        if job.keep_final:
            store.save(job.final_name(cells[leg.num_events]), engine, random_state() | robust.tensors())
        if rank() == 0:
            measured = _measured(result, train_loss, leg.stop, since, started, device)
            _record(job, result_row(job, cells[leg.num_events], manifest, "completed", measured=measured))
            curve.cell(leg.num_events, "completed", result.loss)
        started, since = datetime.now(UTC), 0


def _run_leg(
    leg: Leg,
    plan: StepPlan,
    job: TrunkJob,
    engine: Engine,
    robust: RobustLoss,
    batches: Iterator[Batch],
    curve: CurveWriter,
    device: torch.device,
) -> float:
    """Take the leg's steps; return the mean training loss, plain cross-entropy, over its targets."""
    curve.begin(int(plan.events_before[leg.start]))
    total = 0.0
    for step in range(leg.start, leg.stop):
        batch = next(batches)
        events_end = min(int(plan.events_before[step + 1]), leg.num_events)
        num_targets = events_end - int(plan.events_before[step])
        targets = torch.from_numpy(batch.targets).to(device)
        losses = token_losses(engine.module(*features(batch, device)), targets)
        loss_sum = float(all_sum(losses.detach().double().sum()))
        if not math.isfinite(loss_sum):
            raise DivergedError(f"loss {loss_sum}", step, batch)
        # The engines average gradients over workers, and each worker holds its share of the global mean.
        loss = mean_loss(robust(losses, targets, step), num_targets) * world_size()
        factor = lr_factor(job.train, plan, leg, step)
        norm = engine.step(loss, factor)
        if not math.isfinite(norm):
            raise DivergedError(f"gradient norm {norm}", step, batch)
        total += loss_sum
        curve.add(leg, step, events_end, loss_sum, factor, norm)
    return total / max(1, leg.num_events - int(plan.events_before[leg.start]))


def batches_of(
    job: TrunkJob, manifest: Manifest, plan: StepPlan, legs: list[Leg], tables: TableSource
) -> Iterator[Batch]:
    """Yield this rank's batch of every step of every leg, in order."""
    ranges = [(int(plan.first_window[leg.start]), _last_window(plan, leg)) for leg in legs]
    reads = plan_reads(job.dataset, manifest, "train", ranges, rank(), world_size())
    batches = stream_batches(reads, tables(reads), (span for leg in legs for span in _step_windows(plan, leg)))
    for leg in legs:
        for step, (first, last) in enumerate(_step_windows(plan, leg), leg.start):
            batch = next(batches)
            events_after = plan.events_after(step)[: last - first]
            mine = rank_windows(first, last, rank(), world_size()) - first
            if len(mine) and events_after[-1] > leg.num_events:
                batch = keep_targets(batch, leg.num_events - (events_after - plan.window_targets[first:last])[mine])
            yield batch


def _step_windows(plan: StepPlan, leg: Leg) -> Iterator[tuple[int, int]]:
    """Yield the stream positions, first and last (exclusive), of each step of the leg."""
    end = _last_window(plan, leg)
    for step in range(leg.start, leg.stop):
        yield int(plan.first_window[step]), min(int(plan.first_window[step + 1]), end)


def _last_window(plan: StepPlan, leg: Leg) -> int:
    """Return where the leg ends: the last step of a branch stops at the window that completes D."""
    return min(int(plan.first_window[leg.stop]), plan.windows_of(leg.num_events))


def _forks(job: TrunkJob, plan: StepPlan, store: CheckpointStore) -> set[int]:
    """Return the steps from which a branch starts: of this job's cells, and of finished ones that it does not name."""
    on_the_way = {step for step in saved_steps(store.directory) if step % job.execution.checkpoint_steps == 0}
    return saved_steps(store.directory) - on_the_way | {branch_start(plan, c.num_events, job.train) for c in job.cells}


def _missing_legs(job: TrunkJob, plan: StepPlan, store: CheckpointStore) -> list[Leg]:
    missing = [c.num_events for c in job.cells if not finished(job, c)]
    store.remove_partial()
    steps, rejected = store.usable()
    for sentence in rejected:
        write_note(job.curve_path, sentence)
    return plan_legs(plan, job.train, missing, steps, job.execution.checkpoint_steps)


def _execution_key(job: TrunkJob) -> dict[str, str | int]:
    execution = job.execution
    return {
        "trunk_id": job.trunk_id,
        "engine": execution.engine,
        "zero_stage": execution.stage_label,
        "num_workers": execution.num_workers,
        "device": "cuda" if execution.use_gpu else "cpu",
        "code_version": code_version(),
    }


def _record(job: TrunkJob, row: dict[str, Any]) -> None:
    create_file(job.cell_dir / f"{row['cell_id']}.json", json.dumps(row, indent=1) + "\n")


def _measured(
    result: Validation, train_loss: float, num_steps: int, events: int, started: datetime, device: torch.device
) -> Measured:
    finished = datetime.now(UTC)
    return Measured(
        loss=result.loss,
        loss_stderr=result.stderr,
        train_loss=train_loss,
        num_steps=num_steps,
        wall_s=(finished - started).total_seconds(),
        events_trained=events,
        device=str(device),
        started_at=started.isoformat(timespec="seconds"),
        finished_at=finished.isoformat(timespec="seconds"),
    )
