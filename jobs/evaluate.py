"""Predict the next behaviour with any systems, and print the paper's Table 2 for any dataset.

    python jobs/evaluate.py --dataset data/nyc --models models/nyc-s0 models/nyc-s1 models/nyc-s2 --out evaluations/nyc

Models from jobs/pretrain.py that differ by their seed alone are one row. The other systems learn here from the same
training split; those with parameters are trained by the same loop at the budget of the flags, once a seed,
and kept in --out, so that a rerun takes up where it stopped. Writes evaluate.html, .md and .json.
"""

import math
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from behavegpt.arguments import parse
from behavegpt.baselines import choose_systems, find_systems
from behavegpt.data.manifest import Manifest
from behavegpt.data.verify import verify_dataset
from behavegpt.data.vocab import read_vocabulary
from behavegpt.errors import InputError, exit_codes
from behavegpt.lease import lease
from behavegpt.study.config import Size, StudyConfig
from behavegpt.study.grid import plan_study
from behavegpt.tasks.fitting import TrainHere, TrainOnCluster, fit_row
from behavegpt.tasks.load import read_rows
from behavegpt.tasks.next_behavior import compare
from behavegpt.tasks.report import lines
from behavegpt.tasks.report_page import write_comparison
from behavegpt.tasks.system import Training
from behavegpt.tasks.targets import Protocol, read_targets
from behavegpt.train.config import ExecutionConfig


@dataclass(frozen=True, kw_only=True)
class Args:
    dataset: Path
    """Dataset directory from jobs/ingest.py or jobs/synthesize.py."""
    out: Path
    """Directory of the comparison."""
    models: tuple[Path, ...] = ()
    """Runs of jobs/pretrain.py on this dataset, or models that jobs/export.py made of them."""
    systems: tuple[str, ...] = tuple(find_systems())
    """What to compare them with, by name: whatever is in platform/behavegpt/baselines."""
    split: Literal["val", "test"] = "test"
    protocol: Protocol = "every"
    """every: each target of the split; last: the last one of each user, after 90 events where there are so many."""
    width: int = 64
    """Of the systems that are trained here, as are depth, num_events and seeds."""
    depth: int = 2
    num_events: int | None = None
    """Unique training targets of each; default all of the dataset's."""
    seeds: tuple[int, ...] = (0, 1, 2)
    rate_factors: tuple[float, ...] = (1.0,)
    """Their learning rates over the recipe's: the first seed tries each, and the best on val serves all seeds."""
    use_ray: bool = False
    """Train on the Ray cluster, by the flags of the execution; otherwise in this process, on one thread."""
    execution: Annotated[ExecutionConfig, tyro.conf.arg(name="")] = field(default_factory=ExecutionConfig)


def main(args: Args) -> None:
    kinds = choose_systems(args.systems)
    if not kinds and not args.models:
        raise InputError("nothing to compare; give --models or --systems")
    if args.execution.use_gpu and not args.use_ray and any(kind.trained for kind in kinds):
        raise InputError(
            "--use-gpu trains on the cluster alone; give --use-ray, or only --systems that are not trained"
        )
    if not args.rate_factors or not all(0 < factor < math.inf for factor in args.rate_factors):
        raise InputError(f"rate-factors is {args.rate_factors}; give at least one, each positive and finite")
    manifest = verify_dataset(args.dataset)
    if not manifest.splits[args.split].num_targets:
        raise InputError(f"{args.dataset}: its {args.split} split has no targets")
    device = torch.device("cuda" if args.execution.use_gpu else "cpu")
    rows = read_rows(args.models, manifest, device)
    trainings = plan_training(args, manifest, device)
    if args.use_ray:
        # Imported here: a comparison without a cluster should not wait seconds for it.
        from behavegpt.study.tuner import connect

        connect()
    with lease(args.out):
        for kind in kinds:
            rows.append(fit_row(kind, trainings, lambda what: print(f"fit {what}", flush=True), args.rate_factors))
        comparison = compare(
            rows,
            lambda: read_targets(args.dataset, manifest, args.split, args.protocol),
            manifest=manifest,
            behaviors=read_vocabulary(args.dataset / manifest.vocabulary_path("behavior")),
            split=args.split,
            protocol=args.protocol,
            progress=lambda name: print(f"score {name}", flush=True),
        )
        print(*lines(comparison), sep="\n", flush=True)
        print(write_comparison(args.out, comparison))


def plan_training(args: Args, manifest: Manifest, device: torch.device) -> list[Training]:
    """Return the budget of each seed, checked against the dataset."""
    available = manifest.splits["train"].num_targets
    config = StudyConfig(
        name="evaluate",
        sizes=(Size(width=args.width, depth=args.depth),),
        num_events=(available if args.num_events is None else args.num_events,),
        seeds=args.seeds,
        execution=args.execution,
    )
    jobs = plan_study(config, manifest, args.dataset, args.out).jobs
    train = TrainOnCluster(args.out.resolve() / "ray") if args.use_ray else TrainHere()
    return [Training(dataset=args.dataset, manifest=manifest, job=j, train=train, device=device) for j in jobs]


if __name__ == "__main__":
    with exit_codes(resume_with=shlex.join(["python", *sys.argv])):
        main(parse(Args, description=__doc__))
