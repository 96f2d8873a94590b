"""Train one model on a dataset, with the robust loss by default, and keep its checkpoint.

    ray job submit -- python jobs/pretrain.py --dataset data/nyc --width 64 --out models/nyc-w64

The run is a study of one cell: it resumes where it stopped, and leaves curves/, cells/ and checkpoints/ in --out.
Next: jobs/export.py makes a model for torch and safetensors alone of the checkpoint on its last line.
"""

import shlex
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from behavegpt.arguments import parse
from behavegpt.data.manifest import read_manifest
from behavegpt.errors import InputError, RefusedError, exit_codes
from behavegpt.study.config import Size, StudyConfig, Variant
from behavegpt.study.estimate import check_memory, estimate_seconds, plan_lines
from behavegpt.study.run import open_study, run_study
from behavegpt.study.variants import LossFlags, LossName
from behavegpt.train.checkpoint_manifest import resume_problems
from behavegpt.train.config import ExecutionConfig, Schedule


@dataclass(frozen=True, kw_only=True)
class Args:
    dataset: Path
    """Dataset directory from jobs/ingest.py or jobs/synthesize.py."""
    out: Path
    """Directory of the run."""
    width: int = 64
    depth: int = 2
    num_events: int | None = None
    """Unique training targets to train on; default all of the dataset's."""
    loss: LossName = "cvar"
    """cvar: robust over behaviours, so that rare ones count; erm: plain cross-entropy; the others: further robust
    losses and their static rivals."""
    loss_flags: Annotated[LossFlags, tyro.conf.arg(name="")] = field(default_factory=LossFlags)
    learning_rate: float | None = None
    """Peak rate; default by the recipe's rule of the width."""
    schedule: Schedule = "wsd"
    initial: Path | None = None
    """Start from this model, which jobs/export.py wrote and which has the same shape and vocabularies."""
    seed: int = 0
    plan: bool = False
    """Print what would be trained, and its cost; train nothing."""
    execution: Annotated[ExecutionConfig, tyro.conf.arg(name="")] = field(default_factory=ExecutionConfig)


def main(args: Args) -> None:
    available = read_manifest(args.dataset).splits["train"].num_targets
    [loss] = args.loss_flags.records((args.loss,))
    config = StudyConfig(
        name="pretrain",
        sizes=(Size(width=args.width, depth=args.depth),),
        num_events=(available if args.num_events is None else args.num_events,),
        seeds=(args.seed,),
        variants=(Variant(loss=loss, schedule=args.schedule),),
        learning_rate=args.learning_rate,
        execution=args.execution,
    )
    study = open_study(config, args.dataset, args.out)
    study = replace(study, plan=replace(study.plan, jobs=tuple(replace(j, keep_final=True) for j in study.plan.jobs)))
    if args.initial is not None:
        # Imported here: a plan needs no torch.
        from behavegpt.train.initial import start_from

        jobs = tuple(start_from(job, args.initial) for job in study.plan.jobs)
        study = replace(study, plan=replace(study.plan, jobs=jobs))
    [job] = study.plan.jobs
    if problems := resume_problems(job, study.manifest):
        raise InputError(*problems, f"{args.out}: choose another --out for another model")
    check_memory(study.plan)
    print(
        *plan_lines(study.plan, study.manifest, estimate_seconds(study.missing(), study.manifest)), sep="\n", flush=True
    )
    if args.plan:
        return
    row = next(r for r in run_study(study).to_pylist() if r["cell_id"] == job.cells[0].cell_id)
    if row["status"] != "completed":
        raise RefusedError(f"{row['status']}: {row['reason']}")
    print(f"validation loss {row['loss']:.4f} +- {row['loss_stderr']:.4f} nats (plain cross-entropy)")
    print(args.out / "checkpoints" / row["trunk_id"] / f"final-{row['num_events']}")


if __name__ == "__main__":
    with exit_codes(resume_with=shlex.join(["python", *sys.argv])):
        main(parse(Args, description=__doc__))
