"""Predict what each user of a log, or of a dataset, will do next, or write what a trained model knows of each.

    python jobs/predict.py --model models/nyc --input today.csv.gz --user user_id --timestamp timestamp \\
        --event poi_id --location poi_id --timezone America/New_York --out predictions/today
    python jobs/predict.py --model models/nyc --dataset data/nyc --split test --embeddings --out predictions/nyc
    python jobs/predict.py --use-ray --num-actors 16 --model models/logs --input s3://bucket/logs ... --out /shared/out

Writes predictions.parquet, one row a user after the user's last 90 events, and predict.json, which says from what. A
log's users come in the order of their first usable row (files by name), a dataset's by rising pseudonym. The flags of
the log are those of jobs/ingest.py, and must read it as the model's own was read: columns, zone, grid.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from behavegpt.arguments import parse
from behavegpt.data.ingest.executor import local_executor, ray_executor
from behavegpt.data.ingest.options import IngestOptions, find_option_problems
from behavegpt.data.sources.request import LogRequest
from behavegpt.data.verify import verify_dataset
from behavegpt.errors import InputError, exit_codes
from behavegpt.schema import SPLITS
from behavegpt.tasks.prediction.model import open_model
from behavegpt.tasks.prediction.pool import actors, threads
from behavegpt.tasks.prediction.run import (
    PREDICTIONS_NAME,
    RECORD_NAME,
    FromDataset,
    FromLog,
    Request,
    lines,
    predict,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Predict what each user will do next."""

    model: Path
    """What jobs/export.py wrote."""
    out: Path
    """The directory to make; it must not exist yet."""
    log: Annotated[LogRequest, tyro.conf.arg(name="")] = field(default_factory=lambda: LogRequest(input=()))
    dataset: Path | None = None
    """The dataset that the model was trained on. Without --input, its users are predicted for; with it, vocabulary,
    zone, grid and key are compared with its own, and a model that has lost its vocabulary gets it from there."""
    split: Literal["train", "val", "test", "all"] = "all"
    """Of --dataset: a user's last event is the last one of the split, or of all."""
    top_k: int | None = None
    """Behaviours of each user, with their probabilities; default 5, or all where the model knows fewer."""
    embeddings: bool = False
    """Write in place of behaviours the final hidden state of each user's last event."""
    key_file: Path | None = None
    """The key of a dataset's pseudonyms: --input's users are then named by theirs. Without it they are named by the ids
    of the log, and the output is as confidential as that."""
    max_dropped: float = 0.01
    """Share of the log's rows that may be unusable; more is an error."""
    memory_gb: float = 0.5
    """For the arrays of the log's passes; the log may be of any size."""
    num_workers: int = field(default_factory=lambda: min(os.cpu_count() or 1, 4))
    """Threads; default one a CPU, at most 4."""
    use_ray: bool = False
    """Run on the Ray cluster, the model in a pool of actors; --out must then be on storage that its nodes share."""
    num_actors: int = 1
    """Of the pool at most, one CPU each; leave a CPU for reading."""


def main(args: Args) -> None:
    """Predict, and say for whom."""
    options = IngestOptions(max_dropped=args.max_dropped, memory_gb=args.memory_gb, num_workers=args.num_workers)
    problems = find_option_problems(options)
    problems += [f"--num-actors {args.num_actors}: must be 1 or more"] if args.num_actors < 1 else []
    problems += ["give --input (a log), or --dataset"] if not args.log.input and args.dataset is None else []
    if problems:
        raise InputError(*problems)
    dataset = None if args.dataset is None else (args.dataset, verify_dataset(args.dataset))
    served = open_model(args.model, dataset)
    if served.note:
        print(served.note, flush=True)
    if args.log.input:
        run = ray_executor() if args.use_ray else local_executor(args.num_workers)
        like = None if dataset is None else dataset[1]
        request = args.log.from_root() if args.use_ray else args.log
        users = FromLog(spec=request.to_spec(), options=options, key_file=args.key_file, run=run, like=like)
    else:
        assert dataset is not None
        splits = SPLITS if args.split == "all" else (args.split,)
        users = FromDataset(directory=dataset[0].absolute(), manifest=dataset[1], splits=splits)
    if args.use_ray:
        # Imported here: without a cluster nobody should wait seconds for it.
        from behavegpt.study.tuner import connect

        connect()
    pool = actors(args.num_actors) if args.use_ray else threads(args.num_workers)
    top_k = min(5, len(served.values["behavior"])) if args.top_k is None else args.top_k
    record = predict(
        Request(served=served, users=users, out=args.out, top_k=None if args.embeddings else top_k, pool=pool)
    )
    print(*lines(record), f"wrote {args.out / PREDICTIONS_NAME} and {RECORD_NAME}", sep="\n")


if __name__ == "__main__":
    with exit_codes():
        main(parse(Args, description=__doc__))
