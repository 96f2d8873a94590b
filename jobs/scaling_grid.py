"""Sweep model sizes and data sizes, fit the scaling law, write the report.

    ray job submit -- python jobs/scaling_grid.py
    ray job submit -- python jobs/scaling_grid.py nyc --dataset data/nyc --study-dir studies/nyc
    python jobs/scaling_grid.py demo --plan

A rerun trains only the cells that are missing; a grid is extended by rerunning with more widths or data sizes.
"""

import contextlib
import shlex
import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from analysis import report_study, summarize
from behavegpt.data.generator import demo as demo_log
from behavegpt.data.generator import write_generated
from behavegpt.errors import InputError, RefusedError, exit_codes
from behavegpt.loss.dro import DroConfig
from behavegpt.study import ladder
from behavegpt.study.config import StudyConfig
from behavegpt.study.estimate import estimate_seconds, plan_lines
from behavegpt.study.run import open_study, run_study
from behavegpt.train.config import ExecutionConfig, Schedule


@dataclass(frozen=True, kw_only=True)
class Args:
    preset: tyro.conf.Positional[Literal["demo", "nyc"]] = "demo"
    """demo: generated logs with a known floor; nyc: sizes that fit New York's check-ins, or logs like them."""
    dataset: Path | None = None
    """Dataset directory from jobs/ingest.py; demo makes its own where none is given."""
    study_dir: Path | None = None
    """Where cells, results and report go; default studies/<preset>."""
    plan: bool = False
    """Print trunks, cells, parameters, FLOPs, memory and time; train nothing."""
    widths: tuple[int, ...] | None = None
    """Model widths in place of the preset's."""
    num_events: tuple[int, ...] | None = None
    """Data sizes (unique training targets) in place of the preset's."""
    seeds: tuple[int, ...] = (0,)
    """Initialisations; every (width, num_events) is trained once for each."""
    loss: Literal["erm", "cvar"] = "erm"
    """erm: plain cross-entropy; cvar: the behaviour-level robust loss."""
    eps: float = 0.5
    """Of cvar: the least share of the data that the worst case may shrink to."""
    schedule: Schedule = "wsd"
    execution: Annotated[ExecutionConfig, tyro.conf.arg(name="")] = field(default_factory=ExecutionConfig)


def study_config(args: Args) -> StudyConfig:
    """Return the preset with the user's changes."""
    preset = ladder.demo() if args.preset == "demo" else ladder.nyc()
    return replace(
        preset,
        widths=preset.widths if args.widths is None else args.widths,
        num_events=preset.num_events if args.num_events is None else args.num_events,
        seeds=args.seeds,
        schedule=args.schedule,
        dro=DroConfig(eps=args.eps) if args.loss == "cvar" else None,
        execution=args.execution,
    )


def main(args: Args) -> None:
    config = study_config(args)
    dataset = args.dataset or Path("data/demo")
    study_dir = args.study_dir or Path("studies") / args.preset
    if args.dataset is None and args.preset != "demo":
        raise InputError(f"{args.preset}: --dataset is missing; make one with jobs/ingest.py")
    if made := args.dataset is None and not dataset.exists():
        print(f"making generated logs in {dataset}", flush=True)
        write_generated(dataset, demo_log(), "demo")
    try:
        study = open_study(config, dataset, study_dir)
    except InputError:
        if made:
            shutil.rmtree(dataset)
            with contextlib.suppress(OSError):  # not empty: it was there before
                dataset.parent.rmdir()
        raise
    missing = study.missing()
    print(*plan_lines(study.plan, study.manifest, estimate_seconds(missing, study.manifest)), sep="\n", flush=True)
    if args.plan:
        return
    if not missing.jobs:
        print(f"nothing to train: all {study.plan.num_cells} cells are in {study_dir}", flush=True)
    run_study(study)
    law, report = report_study(study_dir)
    print(summarize(law), report, sep="\n", flush=True)
    if law.refused:
        raise RefusedError(" ".join(law.reasons))


if __name__ == "__main__":
    with exit_codes(resume_with=shlex.join(["python", *sys.argv])):
        main(tyro.cli(Args, description=__doc__))
