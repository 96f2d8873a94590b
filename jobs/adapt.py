"""Adapt pretrained models, and measure what pretraining was worth.

    python jobs/adapt.py new-behavior --dataset data/phone --out adapted/phone
    python jobs/adapt.py cross-domain --models models/phone-erm models/phone-cvar --dataset data/visits \
        --num-events 10000 30000 100000 --out adapted/visits

new-behavior: behaviours that pretraining never saw, learned from a few shots (the paper's Table 3). cross-domain: every
way to adapt to another domain, and training there from scratch, on equal budgets (Table 5, Fig. 5, Fig. 6b). A rerun
takes up where it stopped. Both print tables and write them to --out as JSON, Markdown and HTML.
"""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from behavegpt.arguments import parse_parts
from behavegpt.data.manifest import read_manifest
from behavegpt.errors import InputError, RefusedError, exit_codes
from behavegpt.lease import check_free, lease
from behavegpt.study.config import Size, StudyConfig
from behavegpt.study.estimate import check_memory
from behavegpt.study.grid import plan_study
from behavegpt.tasks.adaptation.new_behavior_request import NewBehavior
from behavegpt.tasks.adaptation.ways import WAYS, WayName
from behavegpt.train.config import ExecutionConfig, TrunkJob


def new_behavior(args: NewBehavior) -> None:
    """Plan by the study's recipe, and train here or on the cluster."""
    check_free(args.out)
    # Imported here: --help and a busy directory are answered without torch.
    from behavegpt.tasks.adaptation.new_behavior import run

    def plan(dataset: Path, *, num_events: int, width: int, depth: int, seeds: tuple[int, ...]) -> Sequence[TrunkJob]:
        config = StudyConfig(
            name="new-behavior",
            sizes=(Size(width=width, depth=depth),),
            num_events=(num_events,),
            seeds=seeds,
            execution=args.execution,
        )
        return plan_study(config, read_manifest(dataset), dataset, args.out).jobs

    run(args, plan, lambda jobs: train_jobs(jobs, args.out.resolve() / "ray" if args.use_ray else None))


def train_jobs(jobs: Sequence[TrunkJob], storage: Path | None) -> None:
    """Train what is missing, in this process, or on one worker group with Ray Train's own state in `storage`."""
    # Imported here, as torch and the cluster are: wrong flags should be answered at once.
    from behavegpt.tasks.fitting import TrainHere, TrainOnCluster, unfinished

    missing = unfinished(jobs)
    if missing and storage is not None:
        from behavegpt.study.tuner import connect

        connect()
        print(f"train {len(missing)} models on the cluster", flush=True)
        TrainOnCluster(storage)(*missing)
        return
    for job in missing:
        print(f"train {job.trunk_id}", flush=True)
        TrainHere()(job)


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossDomain:
    """Adapt pretrained models to a dataset of another domain, by several ways on equal budgets."""

    models: tuple[Path, ...]
    """Pretrained models of one shape: runs of jobs/pretrain.py on other datasets, or exports of them. Those that
    differ by their seed alone are one source; several sources (an ERM and a CVaR one) are compared with each other."""
    dataset: Path
    """The target: a dataset directory from jobs/ingest.py or jobs/synthesize.py."""
    out: Path
    """Directory of the comparison."""
    num_events: tuple[int, ...] = ()
    """Unique training targets of the target, one or several sizes; default all of the dataset's."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of what is drawn anew; the ways pair by seed."""
    ways: tuple[WayName, ...] = tuple(way.name for way in WAYS)
    """scratch: nothing is transferred; blocks: blocks, positions and norms are; blocks-and-head: the first layer of
    the head too, as in the paper. These train everything. Of blocks-and-head, lora trains low-rank updates of queries
    and values beside what is new; ofa all but attention and feed-forward; frozen what is new alone."""
    split: Literal["val", "test"] = "test"
    """Whose targets are predicted."""
    learning_rate: float | None = None
    """Peak rate of every way; default by the recipe's rule of the width."""
    use_ray: bool = False
    """Train on the Ray cluster, by the flags of the execution; otherwise in this process, on one thread."""
    execution: Annotated[ExecutionConfig, tyro.conf.arg(name="")] = field(default_factory=ExecutionConfig)


def cross_domain(args: CrossDomain) -> None:
    """Check everything, train, compare, and write the report."""
    check_free(args.out)
    # Imported here: --help and a busy directory are answered without torch.
    import torch

    from behavegpt.data.verify import verify_dataset
    from behavegpt.tasks.ablation.text import lines
    from behavegpt.tasks.adaptation.cross_domain import Target, check_shapes, run
    from behavegpt.tasks.adaptation.page import write_cross_domain
    from behavegpt.tasks.adaptation.text import sections
    from behavegpt.tasks.adaptation.transfer import read_sources
    from behavegpt.tasks.fitting import TrainHere, TrainOnCluster

    if problems := _problems(args):
        raise InputError(*problems)
    manifest = verify_dataset(args.dataset)
    if not manifest.splits[args.split].num_targets:
        raise InputError(f"{args.dataset}: its {args.split} split has no targets")
    sources = read_sources(args.models, manifest)
    shape = sources[0].models[0].config
    config = StudyConfig(
        name="cross-domain",
        sizes=(Size(width=shape.width, depth=shape.depth, num_heads=shape.num_heads),),
        num_events=args.num_events or (manifest.splits["train"].num_targets,),
        seeds=args.seeds,
        learning_rate=args.learning_rate,
        execution=args.execution,
    )
    plan = plan_study(config, manifest, args.dataset, args.out)
    check_shapes(sources, plan.jobs[0].model)
    check_memory(plan)
    if args.use_ray:
        # Imported here: a comparison without a cluster should not wait seconds for it.
        from behavegpt.study.tuner import connect

        connect()
    with lease(args.out):
        target = Target(
            dataset=args.dataset,
            manifest=manifest,
            split=args.split,
            jobs=plan.jobs,
            out=args.out.resolve(),
            train=TrainOnCluster(args.out.resolve() / "ray") if args.use_ray else TrainHere(),
            device=torch.device("cuda" if args.execution.use_gpu else "cpu"),
        )
        ways = [way for way in WAYS if way.name in args.ways]
        found = run(target, sources, ways, lambda what: print(what, flush=True))
        if not found.sizes:
            raise RefusedError(" ".join(found.left_out))
        parts = sections(found)
        page = write_cross_domain(args.out, found, parts)
    print(*lines(parts), "", page, sep="\n")
    if found.left_out:
        raise RefusedError(" ".join(found.left_out))


def _problems(args: CrossDomain) -> list[str]:
    problems = []
    if not args.models:
        problems.append("--models names no pretrained model; give one at least")
    if not args.ways or len(set(args.ways)) < len(args.ways):
        problems.append(f"--ways is {' '.join(args.ways) or 'empty'}; give at least one, each once")
    if args.execution.use_gpu and not args.use_ray:
        problems.append("--use-gpu trains on the cluster alone; give --use-ray")
    return problems


if __name__ == "__main__":
    with exit_codes(resume_with=shlex.join(["python", *sys.argv])):
        parts = {"new-behavior": NewBehavior, "cross-domain": CrossDomain}
        chosen = parse_parts(parts, description=__doc__)
        runs = {NewBehavior: new_behavior, CrossDomain: cross_domain}
        runs[type(chosen)](chosen)
