"""One row of the results table: what a cell is (from its job) and what was measured (from the run), or why nothing was.

Written as JSON to cells/<cell_id>.json; study/results.py gathers the rows by schema.RESULT_SCHEMA.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import behavegpt
from behavegpt.config import config_hash
from behavegpt.data.manifest import Manifest
from behavegpt.model.sizing import count_params, flops_per_window
from behavegpt.schema import NUM_INPUTS, Status
from behavegpt.train.config import Cell, TrunkJob

MANIFEST_NAME = "manifest.json"
"""Of a checkpoint."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What one branch gave."""

    loss: float | None
    loss_stderr: float | None
    train_loss: float | None
    num_steps: int
    wall_s: float
    """Marginal: the decay, its validation, and the stretch of trunk since the branch before; a trunk's first cell
    also pays for the start of engine and stream."""
    events_trained: int
    """In wall_s."""
    device: str
    attention: str
    started_at: str
    finished_at: str


def result_row(
    job: TrunkJob, cell: Cell, manifest: Manifest, status: Status, reason: str = "", measured: Measured | None = None
) -> dict[str, Any]:
    """Return the row of schema.RESULT_SCHEMA for one cell."""
    counts = (job.family.count_params if job.family else count_params)(job.model)
    flops = (job.family.flops_per_window if job.family else flops_per_window)(job.model)
    row: dict[str, Any] = {
        "cell_id": cell.cell_id,
        "study": job.study,
        "status": status,
        "reason": reason,
        "variant": job.variant,
        "num_params": counts.non_embedding,
        "num_params_total": counts.total,
        "num_params_embedding": counts.embedding,
        "num_params_matmul": counts.matmul,
        "width": job.model.width,
        "depth": job.model.depth,
        "num_heads": job.model.num_heads,
        "num_events": cell.num_events,
        "num_epochs": cell.num_events / manifest.splits["train"].num_targets,
        "flops": float(flops.training * cell.num_windows),
        "seed": job.train.seed,
        "schedule": job.train.schedule,
        "trunk_id": job.trunk_id,
        "learning_rate": job.train.learning_rate,
        "batch_events": windows_per_batch(job.train.batch_ramp, cell.num_events) * NUM_INPUTS,
        "world_size": job.execution.num_workers,
        "zero_stage": job.execution.stage_label,
        "dataset_fingerprint": manifest.fingerprint,
        "config_hash": config_hash({"model": job.model, "train": job.train}),
        "code_version": code_version(),
    }
    if measured is not None:
        row |= {
            "loss": measured.loss,
            "loss_stderr": measured.loss_stderr,
            "train_loss": measured.train_loss,
            "num_steps": measured.num_steps,
            "wall_s": measured.wall_s,
            "worker_s": measured.wall_s * job.execution.num_workers,
            "events_per_s": measured.events_trained / measured.wall_s,
            "device": measured.device,
            "attention": measured.attention,
            "started_at": measured.started_at,
            "finished_at": measured.finished_at,
        }
    return row


def windows_per_batch(ramp: tuple[tuple[int, int], ...], num_events: int) -> int:
    """Return the batch in windows that the ramp prescribes after `num_events`."""
    return [size for start, size in ramp if start < num_events][-1]


@cache
def code_version() -> str:
    """Return the version and a digest of the package's sources, which holds where there is no repository too."""
    root = Path(behavegpt.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return f"{behavegpt.__version__}+{digest.hexdigest()[:12]}"


def finished(job: TrunkJob, cell: Cell) -> bool:
    """Return whether the cell has its file and, where the job asks for it and the cell completed, its checkpoint."""
    path = job.cell_dir / f"{cell.cell_id}.json"
    if not path.exists() or not job.keep_final:
        return path.exists()
    completed = json.loads(path.read_text(encoding="utf-8"))["status"] == "completed"
    return not completed or (job.checkpoint_dir / job.final_name(cell)).is_dir()


def step_name(step: int) -> str:
    """Return the name of the trunk checkpoint before optimiser step `step`."""
    return f"step-{step:08d}"


def saved_steps(directory: Path) -> set[int]:
    """Return the steps of the trunk checkpoints in `directory`, valid or not."""
    names = {path.name for path in directory.glob("step-*")}
    numbers = {int(name[5:]) for name in names if name[5:].isdecimal()}
    return {step for step in numbers if step_name(step) in names}


def branch_name(num_events: int, step: int) -> str:
    """Return the name of a checkpoint before step `step`, within the branch to `num_events`."""
    return f"branch-{num_events}-{step_name(step)}"


def saved_branch_steps(directory: Path) -> dict[int, set[int]]:
    """Return the steps of the checkpoints within branches, valid or not, by the branch's num_events."""
    found: dict[int, set[int]] = {}
    for path in directory.glob("branch-*-step-*"):
        match = re.fullmatch(r"branch-(\d+)-step-(\d+)", path.name)
        if match and path.name == branch_name(int(match[1]), int(match[2])):
            found.setdefault(int(match[1]), set()).add(int(match[2]))
    return found
