"""Sweep model sizes and data sizes, fit the scaling law, write the report.

    ray job submit -- python jobs/scaling_grid.py
    ray job submit -- python jobs/scaling_grid.py nyc --dataset data/nyc --study-dir studies/nyc --loss erm cvar
    ray job submit -- python jobs/scaling_grid.py demo --auto --auto-width 0.02
    python jobs/scaling_grid.py demo --suggest --target-flops 1e14
    python jobs/scaling_grid.py demo --plan --events-per-param 1 2 4 6 8 10
    python jobs/scaling_grid.py paper --plan

A rerun trains only the cells that are missing; a grid is extended by rerunning with more sizes, seeds or losses.
"""

import shlex
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro

from behavegpt.arguments import parse
from behavegpt.errors import InputError, RefusedError, exit_codes
from behavegpt.lease import check_free, lease
from behavegpt.study import ladder
from behavegpt.study.aim import Aim
from behavegpt.study.auto import Adviser, first_lines, run_auto, suggestions
from behavegpt.study.branch_check import check_study, run_check
from behavegpt.study.config import Variant
from behavegpt.study.estimate import check_memory, estimate_seconds, plan_lines
from behavegpt.study.live import FITTER, live_law
from behavegpt.study.request import GridRequest, answer, made_dataset, outline_lines, within_budgets
from behavegpt.study.run import Study, open_study, run_study
from behavegpt.study.variants import VariantRequest
from behavegpt.train.config import ExecutionConfig


@dataclass(frozen=True, kw_only=True)
class Args:
    preset: tyro.conf.Positional[Literal["demo", "nyc", "paper", "paper_fig7a", "paper_fig7b"]] = "demo"
    """demo: generated logs with a known floor; nyc: sizes that fit New York's check-ins, or logs like them; paper: the
    three sizes and D = 1 to 10 N of BehaveGPT's law; paper_fig7a, paper_fig7b: its curves over data and model sizes."""
    dataset: Path | None = None
    """Dataset directory from jobs/ingest.py; demo makes its own where none is given."""
    study_dir: Path | None = None
    """Where cells, results and report go; default studies/<preset>."""
    plan: bool = False
    """Print trunks, cells, parameters, FLOPs, memory and time; train nothing."""
    grid: Annotated[GridRequest, tyro.conf.arg(name="")] = field(default_factory=GridRequest)
    seeds: tuple[int, ...] = (0,)
    """Initialisations; every cell is trained once for each, and the noise between them is measured."""
    variants: Annotated[VariantRequest, tyro.conf.arg(name="")] = field(default_factory=VariantRequest)
    aim: Annotated[Aim, tyro.conf.arg(name="")] = field(default_factory=Aim)
    check_branches: int = 0
    """Train so many cells again as runs of their own, by the branch's schedule and by cosine, and compare."""
    max_workers: int = 8
    """Workers that one large trunk may be given where the cluster has them."""
    execution: Annotated[ExecutionConfig, tyro.conf.arg(name="")] = field(default_factory=ExecutionConfig)


def main(args: Args) -> None:
    study_dir = args.study_dir or Path("studies") / args.preset
    check_free(study_dir)
    preset = ladder.PRESETS[args.preset]()
    config = answer(
        preset,
        args.grid,
        seeds=args.seeds,
        variants=args.variants.of(preset.variants),
        execution=args.execution,
        max_workers=args.max_workers,
    )
    args.aim.check(study_dir, plan=args.plan, check_branches=args.check_branches, num_variants=len(config.variants))
    if args.dataset is None and args.preset != "demo":
        lines, command = outline_lines(config, args.grid, study_dir)
        if not args.plan or args.aim.auto:
            raise InputError(f"{args.preset}: --dataset is missing; make one with jobs/ingest.py, or with {command}")
        print(*lines, f"no --dataset was given; one of this size is made by: {command}", sep="\n")
        return
    with made_dataset(args.dataset) as dataset:
        study = open_study(within_budgets(config, args.grid, dataset), dataset, study_dir)
        check = check_study(study, args.check_branches) if args.check_branches else None
    if args.aim.suggest:
        print(*suggestions(study, args.aim, partial(advisor, study)), sep="\n", flush=True)
        return
    missing = study.missing()
    check_memory(missing)
    print(*plan_lines(study.plan, study.manifest, estimate_seconds(missing, study.manifest)), sep="\n", flush=True)
    if check:
        print(*plan_lines(check.plan, check.manifest, None), sep="\n", flush=True)
    if args.plan:
        if args.aim.auto:
            print(*first_lines(study, args.aim, partial(advisor, study)), sep="\n", flush=True)
        return
    if not missing.jobs and not args.aim.auto:
        print(f"nothing to train: all {study.plan.num_cells} cells are in {study_dir}", flush=True)
    watch, stopped = live_law(study, FITTER, args.aim.target(study.plan)), ""
    if args.aim.auto:
        stopped = run_auto(study, args.aim, partial(advisor, study), watch)
    else:
        run_study(study, watch)
    problems = run_check(study, args.check_branches) if check else []
    problems += report(study)
    if stopped:
        print(f"--auto stopped: {stopped}", flush=True)
    if problems:
        raise RefusedError(" ".join(problems))


def advisor(study: Study, variant: Variant, target_flops: float) -> Adviser:
    # Imported here and below: it takes seconds, and wrong input or a busy directory is to be refused at once.
    from analysis.advisor import Advisor

    return Advisor(table=study.study_dir / "results.parquet", variant=variant.name, target_flops=target_flops)


def report(study: Study) -> list[str]:
    """Fit the laws and write their reports; return why laws are refused."""
    from analysis import report_study, summarize

    problems = []
    for variant in study.config.variants:
        with lease(study.study_dir):
            law, path = report_study(study.study_dir, study.report_dir(variant), variant=variant.name)
        print(summarize(law), path, sep="\n", flush=True)
        problems += [f"{variant.name}: {reason}" for reason in law.reasons] if law.refused else []
    return problems


if __name__ == "__main__":
    with exit_codes(resume_with=shlex.join(["python", *sys.argv])):
        main(parse(Args, description=__doc__))
