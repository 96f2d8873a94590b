"""plan.json: what a study is about to train, in numbers, for its report and for people."""

from pathlib import Path
from typing import Any

from behavegpt.config import plain
from behavegpt.data.manifest import Manifest
from behavegpt.model.sizing import count_params, flops_per_window
from behavegpt.study.config import StudyConfig
from behavegpt.study.grid import Cost, Plan
from behavegpt.study.recipe import BATCH_RAMP, DECAY_SHARE, WARMUP_STEPS
from behavegpt.train.config import TrunkJob


def plan_record(config: StudyConfig, manifest: Manifest, dataset: Path, plan: Plan) -> dict[str, Any]:
    """Return plan.json: what the report says about the study and its dataset."""
    splits = {
        name: {"num_windows": s.num_windows, "num_targets": s.num_targets, "num_users": s.num_users}
        for name, s in manifest.splits.items()
    }
    described = ("name", "fingerprint", "source", "counts", "cutoffs", "vocabulary_sizes", "floor")
    return plain(
        {
            "study": config.name,
            "config": config,
            "dataset": {"path": str(dataset), "splits": splits, **{k: getattr(manifest, k) for k in described}},
            "trunks": [_trunk_record(job, cost) for job, cost in zip(plan.jobs, plan.costs, strict=True)],
            "recipe": {"warmup_steps": WARMUP_STEPS, "decay_share": DECAY_SHARE, "batch_ramp": BATCH_RAMP},
            "cost_ratio": plan.cost_ratio,
            "notes": plan.notes,
        }
    )


def _trunk_record(job: TrunkJob, cost: Cost) -> dict[str, Any]:
    counts = count_params(job.model)
    return {
        "trunk_id": job.trunk_id,
        "variant": job.variant,
        "width": job.model.width,
        "depth": job.model.depth,
        "num_heads": job.model.num_heads,
        "num_params": counts.non_embedding,
        "num_params_total": counts.total,
        "seed": job.train.seed,
        "learning_rate": job.train.learning_rate,
        "num_events": [cell.num_events for cell in job.cells],
        "events_to_train": cost.events,
        "flops": float(flops_per_window(job.model).training * cost.windows),
    }
