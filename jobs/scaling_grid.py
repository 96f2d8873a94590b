"""Sweep model sizes and data sizes, fit the scaling law, write the report.

    ray job submit -- python jobs/scaling_grid.py
    ray job submit -- python jobs/scaling_grid.py nyc --dataset data/nyc --study-dir studies/nyc --loss erm cvar
    python jobs/scaling_grid.py demo --plan --events-per-param 1 2 4 6 8 10
    python jobs/scaling_grid.py paper --plan

A rerun trains only the cells that are missing; a grid is extended by rerunning with more sizes, seeds or losses.
"""

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from behavegpt.arguments import parse
from behavegpt.errors import InputError, RefusedError, exit_codes
from behavegpt.lease import check_free, lease
from behavegpt.study import ladder
from behavegpt.study.branch_check import check_study, run_check
from behavegpt.study.estimate import estimate_seconds, plan_lines
from behavegpt.study.request import GridRequest, answer, made_dataset, outline_lines, within_budgets
from behavegpt.study.run import open_study, run_study
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
    if args.dataset is None and args.preset != "demo":
        lines, command = outline_lines(config, args.grid, study_dir)
        if not args.plan:
            raise InputError(f"{args.preset}: --dataset is missing; make one with jobs/ingest.py, or with {command}")
        print(*lines, f"no --dataset was given; one of this size is made by: {command}", sep="\n")
        return
    with made_dataset(args.dataset) as dataset:
        study = open_study(within_budgets(config, args.grid, dataset), dataset, study_dir)
        check = check_study(study, args.check_branches) if args.check_branches else None
    missing = study.missing()
    print(*plan_lines(study.plan, study.manifest, estimate_seconds(missing, study.manifest)), sep="\n", flush=True)
    if check:
        print(*plan_lines(check.plan, check.manifest, None), sep="\n", flush=True)
    if args.plan:
        return
    if not missing.jobs:
        print(f"nothing to train: all {study.plan.num_cells} cells are in {study_dir}", flush=True)
    run_study(study)
    problems = run_check(study, args.check_branches) if check else []
    # Imported here: it takes seconds, and a busy directory is to be refused at once.
    from analysis import report_study, summarize

    for variant in config.variants:
        out = study_dir / ("report" if len(config.variants) == 1 else f"report-{variant.label}")
        with lease(study_dir):
            law, report = report_study(study_dir, out, variant=variant.name)
        print(summarize(law), report, sep="\n", flush=True)
        problems += [f"{variant.name}: {reason}" for reason in law.reasons] if law.refused else []
    if problems:
        raise RefusedError(" ".join(problems))


if __name__ == "__main__":
    with exit_codes(resume_with=shlex.join(["python", *sys.argv])):
        main(parse(Args, description=__doc__))
