"""Does a robust loss help rare behaviours, and what does it cost? The paper's Fig. 6a on any dataset.

    ray job submit -- python jobs/ablation.py --dataset data/phone --out studies/ablation-phone --num-events 400000
    python jobs/ablation.py --dataset data/phone --out studies/ablation-phone --plan

Trains one model a loss and seed, equal but for these, as a study in --out that a rerun takes up where it stopped. Then
every model predicts every target of the split, as trained and with its class prior corrected. Prints the tables and
writes ablation.json, ablation.md and ablation.html; nothing is trained twice.
"""

import shlex
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from behavegpt.arguments import parse
from behavegpt.data.manifest import read_manifest
from behavegpt.errors import InputError, RefusedError, exit_codes
from behavegpt.lease import check_free, lease
from behavegpt.loss.config import Chi2, Cvar, Doro, Kl, LogitAdjusted, SampleCvar, SmoothedCvar
from behavegpt.study.config import Size, StudyConfig, Variant
from behavegpt.study.estimate import check_memory, estimate_seconds, plan_lines
from behavegpt.study.run import Study, open_study, run_study
from behavegpt.study.variants import VariantRequest
from behavegpt.train.config import ExecutionConfig

LOSSES = (None, Cvar(), SmoothedCvar(), Kl(), Chi2(), SampleCvar(), Doro(), LogitAdjusted())
"""Of a run without --loss."""


@dataclass(frozen=True, kw_only=True)
class Args:
    dataset: Path
    """Dataset directory from jobs/ingest.py or jobs/synthesize.py."""
    out: Path
    """Directory of the study and its report."""
    width: int = 64
    depth: int = 2
    num_events: int | None = None
    """Unique training targets of every model; default all of the dataset's."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Initialisations; runs of two losses pair by seed."""
    variants: Annotated[VariantRequest, tyro.conf.arg(name="")] = field(default_factory=VariantRequest)
    split: Literal["val", "test"] = "test"
    """Whose targets are predicted."""
    plan: bool = False
    """Print what would be trained, and its cost; train nothing."""
    execution: Annotated[ExecutionConfig, tyro.conf.arg(name="")] = field(default_factory=ExecutionConfig)


def main(args: Args) -> None:
    check_free(args.out)
    study = plan_ablation(args)
    print(
        *plan_lines(study.plan, study.manifest, estimate_seconds(study.missing(), study.manifest)), sep="\n", flush=True
    )
    if args.plan:
        return
    ids = {cell.cell_id for job in study.plan.jobs for cell in job.cells}
    rows = [row for row in run_study(study).to_pylist() if row["cell_id"] in ids]
    left_out = report(args, study, {row["trunk_id"]: row for row in rows})
    if left_out:
        raise RefusedError(" ".join(left_out))


def plan_ablation(args: Args) -> Study:
    """Return the study of one cell a loss and seed, whose models are kept."""
    manifest = read_manifest(args.dataset)
    variants = args.variants.of(tuple(Variant(loss=loss) for loss in LOSSES))
    problems = []
    if all(variant.loss is not None for variant in variants):
        problems.append("--loss has no erm, plain cross-entropy, with which the others are compared")
    if not manifest.splits[args.split].num_targets:
        problems.append(f"{args.dataset}: its {args.split} split has no targets")
    if problems:
        raise InputError(*problems)
    available = manifest.splits["train"].num_targets
    config = StudyConfig(
        name="ablation",
        sizes=(Size(width=args.width, depth=args.depth),),
        num_events=(available if args.num_events is None else args.num_events,),
        seeds=args.seeds,
        variants=variants,
        execution=args.execution,
    )
    study = open_study(config, args.dataset, args.out)
    check_memory(study.plan)
    jobs = tuple(replace(job, keep_final=True) for job in study.plan.jobs)
    return replace(study, plan=replace(study.plan, jobs=jobs))


def report(args: Args, study: Study, rows: dict[str, dict[str, Any]]) -> list[str]:
    """Evaluate the losses whose every run completed, write the report, and return why others are left out."""
    # Imported here: --plan, wrong input and a busy directory are answered without them.
    import torch

    from behavegpt.data.vocab import read_vocabulary
    from behavegpt.loss.counts import count_targets
    from behavegpt.tasks.ablation.compare import ablate
    from behavegpt.tasks.ablation.page import write_ablation
    from behavegpt.tasks.ablation.runs import read_run
    from behavegpt.tasks.ablation.text import lines, sections
    from behavegpt.tasks.targets import read_targets

    failed = {job.variant: row for job in study.plan.jobs if (row := rows[job.trunk_id])["status"] != "completed"}
    left_out = [f"{name} is left out: seed {r['seed']} {r['status']} ({r['reason']})." for name, r in failed.items()]
    jobs = [job for job in study.plan.jobs if job.variant not in failed]
    if all(job.train.loss is not None for job in jobs):
        raise RefusedError(" ".join([*left_out, "Without plain cross-entropy there is nothing to compare with."]))
    counts = count_targets(args.dataset, study.manifest)
    torch.set_num_threads(args.execution.cpus_per_worker)
    device = torch.device("cuda" if args.execution.use_gpu else "cpu")
    with lease(args.out):
        ablation = ablate(
            (read_run(job, torch.from_numpy(counts), device) for job in jobs),
            lambda: read_targets(args.dataset, study.manifest, args.split, "every"),
            manifest=study.manifest,
            behaviors=read_vocabulary(args.dataset / study.manifest.vocabulary_path("behavior")),
            counts=counts,
            split=args.split,
            progress=lambda name: print(f"score {name}", flush=True),
        )
        parts = sections(ablation, left_out)
        model = f"width {args.width}, {args.depth} blocks, D = {jobs[0].cells[0].num_events:,} training targets"
        page = write_ablation(args.out, ablation, parts, model)
    print(*lines(parts), "", page, sep="\n")
    return left_out


if __name__ == "__main__":
    with exit_codes(resume_with=shlex.join(["python", *sys.argv])):
        main(parse(Args, description=__doc__))
