"""Generate the next behaviours of many users with a trained model, and compare them with what the users did.

    python jobs/generate.py --dataset data/nyc --model models/nyc-w64 --num-events 50 --out generated/nyc

Of each user the last --num-events behaviours of the test split are the truth, and what lies before them the history.
Writes behaviors.parquet (user pseudonym, position, behaviour, event, ...), generate.json and report.md with the paper's
Table 4. A run that was stopped goes on where it was when it is started again. jobs/forget.py does not reach its output.
"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from behavegpt.arguments import parse
from behavegpt.baselines import choose_systems
from behavegpt.data.manifest import Manifest
from behavegpt.data.verify import verify_dataset
from behavegpt.errors import InputError, exit_codes
from behavegpt.model.transformer import BehaveGPT
from behavegpt.study.config import Size, StudyConfig
from behavegpt.study.grid import plan_study
from behavegpt.tasks.fitting import TrainHere
from behavegpt.tasks.generation.parts import EVENTS_NAME
from behavegpt.tasks.generation.report import lines
from behavegpt.tasks.generation.run import REPORT_NAME, Request, run
from behavegpt.tasks.generation.sampling import Sampling
from behavegpt.tasks.load import read_rows
from behavegpt.tasks.models import ModelSystem
from behavegpt.tasks.system import System, Training


@dataclass(frozen=True, kw_only=True)
class Args:
    dataset: Path
    """Dataset directory from jobs/ingest.py or jobs/synthesize.py."""
    model: Path
    """A run of jobs/pretrain.py on this dataset, its final checkpoint, or what jobs/export.py made of it."""
    out: Path
    """A new directory for the result."""
    num_events: int = 50
    """Behaviours to generate for each user."""
    num_users: int = 1_000
    """Users, by rising pseudonym, of those with so many behaviours in the test split."""
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    """Equal seeds give equal results, whatever the batch."""
    users_per_batch: int = 256
    """Users at a time: bounds the memory, and what a stopped run has to do again."""
    systems: tuple[str, ...] = ("markov",)
    """Rules of platform/behavegpt/baselines to sample from as well."""


def main(args: Args) -> None:
    sampling = Sampling(temperature=args.temperature, top_p=args.top_p, seed=args.seed)
    kinds = choose_systems(args.systems)
    if trained := [kind.name for kind in kinds if kind.trained]:
        raise InputError(*(f"systems has {name!r}, which is trained; only rules are sampled from" for name in trained))
    manifest = verify_dataset(args.dataset)
    [row] = read_rows([args.model], manifest, torch.device("cpu"))
    if row.note:
        print(row.note, flush=True)
    [system] = row.runs
    assert isinstance(system, ModelSystem)
    assert isinstance(system.module, BehaveGPT)
    request = Request(
        dataset=args.dataset,
        manifest=manifest,
        name=row.name,
        model=system.module,
        systems=args.systems,
        fit_systems=lambda: fit_rules(kinds, args, manifest),
        out=args.out,
        num_users=args.num_users,
        num_behaviors=args.num_events,
        users_per_batch=args.users_per_batch,
        sampling=sampling,
        progress=lambda text: print(text, flush=True),
    )
    report = run(request)
    if report is None:
        print(f"{args.out}: was finished before", (args.out / REPORT_NAME).read_text(encoding="utf-8"), sep="\n")
        return
    print("", *lines(report), args.out / EVENTS_NAME, args.out / REPORT_NAME, sep="\n")


def fit_rules(kinds: list[type[System]], args: Args, manifest: Manifest) -> list[System]:
    """Return the fitted rivals."""
    config = StudyConfig(
        name="generate", sizes=(Size(width=16),), num_events=(manifest.splits["train"].num_targets,), seeds=(0,)
    )
    [job] = plan_study(config, manifest, args.dataset, args.out).jobs
    training = Training(dataset=args.dataset, manifest=manifest, job=job, train=TrainHere(), device=torch.device("cpu"))
    systems = [kind() for kind in kinds]
    for system in systems:
        system.fit(training)
    return systems


if __name__ == "__main__":
    with exit_codes(resume_with=shlex.join(["python", *sys.argv])):
        main(parse(Args, description=__doc__))
