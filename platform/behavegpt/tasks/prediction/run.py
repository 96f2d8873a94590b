"""A whole run: open the input, predict in order, and write the predictions with what they were made from.

In: a `Request`. Out: the directory `out` with predictions.parquet and predict.json, complete or not at all, and what
predict.json says. A run that was killed leaves a hidden folder beside `out`, which the next one removes.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

import behavegpt
from behavegpt.data.ingest.executor import Executor
from behavegpt.data.ingest.options import IngestOptions
from behavegpt.data.ingest.pseudonyms import find_key_problems, key_id, read_key
from behavegpt.data.manifest import Manifest
from behavegpt.data.sources.plan import describe, find_source_problems
from behavegpt.data.sources.spec import LogSpec
from behavegpt.data.staging import WORK, find_out_problems, staged_dataset
from behavegpt.errors import InputError
from behavegpt.files import sha256_of
from behavegpt.tasks.prediction.dataset import open_dataset
from behavegpt.tasks.prediction.histories import Source
from behavegpt.tasks.prediction.log import read_log
from behavegpt.tasks.prediction.model import Served
from behavegpt.tasks.prediction.output import output_schema, write_predictions
from behavegpt.tasks.prediction.pool import Pool
from behavegpt.tasks.prediction.predictor import Predictor

PREDICTIONS_NAME = "predictions.parquet"
RECORD_NAME = "predict.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class FromLog:
    """Predict for the users of a raw log."""

    spec: LogSpec
    options: IngestOptions
    key_file: Path | None
    """Of the pseudonyms by which the output names users; None names them by their ids."""
    run: Executor
    """Runs the passes over the log."""
    like: Manifest | None = None
    """The dataset of the model, where it is at hand: zone, grid and key must be those with which it was made."""

    def find_problems(self, out: Path) -> list[str]:
        """Return everything that is wrong with the log and the key."""
        problems = find_source_problems(self.spec)
        if self.key_file is not None:
            missing = [] if self.key_file.exists() else [f"--key-file {self.key_file}: does not exist"]
            problems += missing or find_key_problems(self.key_file, out)
        return problems or self._differences()

    def _differences(self) -> list[str]:
        """Return in what the log would be read in another way than the dataset of the model was."""
        theirs = {} if self.like is None else self.like.source
        if theirs.get("kind") != "log":
            return []
        own = {"timezone": self.spec.timezone, "h3_resolution": self.spec.h3_resolution}
        flags = {name: f"--{name.replace('_', '-')} {value}" for name, value in own.items()}
        if self.key_file is not None:
            own["key_id"], flags["key_id"] = key_id(read_key(self.key_file)), f"--key-file {self.key_file}"
        return [
            f"{flags[name]}: the dataset of the model was made with {name} {theirs.get(name)}, this is {value}"
            for name, value in own.items()
            if theirs.get(name) != value
        ]

    def open(self, served: Served, work: Path) -> tuple[Source, pa.DataType, dict[str, int], dict[str, Any]]:
        """Return the histories, the type of the users' names, counts, and what the record says of the input."""
        key = None if self.key_file is None else read_key(self.key_file)
        source, counts = read_log(self.spec, served.values, work, key=key, options=self.options, run=self.run)
        described = {"kind": "log", **describe(self.spec), "key_id": None if key is None else key_id(key)}
        return source, pa.string() if key is None else pa.uint64(), counts, described


@dataclass(frozen=True, kw_only=True, slots=True)
class FromDataset:
    """Predict for the users of a dataset."""

    directory: Path
    manifest: Manifest
    """Verified."""
    splits: tuple[str, ...]

    def find_problems(self, out: Path) -> list[str]:
        """Return nothing: the dataset was verified."""
        return []

    def open(self, served: Served, work: Path) -> tuple[Source, pa.DataType, dict[str, int], dict[str, Any]]:
        """Return the histories, the type of the users' names, counts, and what the record says of the input."""
        source = open_dataset(self.directory, self.manifest, self.splits)
        manifest = self.manifest
        described = {"kind": "dataset", "name": manifest.name, "fingerprint": manifest.fingerprint}
        return source, pa.uint64(), {"users": source.num_users}, described | {"splits": list(self.splits)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What to predict with, for whom, and where to."""

    served: Served
    users: FromLog | FromDataset
    out: Path
    top_k: int | None
    """Behaviours of each user; None for embeddings."""
    pool: Pool


def predict(request: Request) -> dict[str, Any]:
    """Predict, write, and return the record.

    Raises:
        InputError: The log, the key or the number of behaviours is wrong, or nothing can be written at `out`.
        DirectoryBusyError: Another live process writes there.
    """
    behaviors = request.served.values["behavior"]
    problems = find_out_problems(request.out) + request.users.find_problems(request.out)
    if request.top_k is not None and not 1 <= request.top_k <= len(behaviors):
        problems.append(f"--top-k {request.top_k}: must be 1 to {len(behaviors)}, the behaviours that the model knows")
    if problems:
        raise InputError(*problems)
    with staged_dataset(request.out) as staging:
        source, user, counts, described = request.users.open(request.served, staging / WORK)
        predictor = Predictor(request.served.model, behaviors, request.top_k, request.served.folded.values())
        schema = output_schema(user, top_k=request.top_k, width=request.served.model.config.width)
        path = staging / PREDICTIONS_NAME
        written = write_predictions(path, request.pool(source, predictor), schema)
        if written.num_users != source.num_users:
            raise RuntimeError(f"{written.num_users} users were predicted for, {source.num_users} were to be")
        record = {
            "behavegpt_version": behavegpt.__version__,
            "model": {"sha256": request.served.sha256, "dataset_fingerprint": request.served.dataset},
            "input": described,
            "predicted": "embeddings" if request.top_k is None else f"top {request.top_k} behaviors",
            "counts": counts | written.counts,
            "sha256": sha256_of(path),
        }
        (staging / RECORD_NAME).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return record


def lines(record: dict[str, Any]) -> list[str]:
    """Return what a record says, for a terminal."""
    counts = dict(record["counts"])
    read = counts["num_events"]
    shown = {
        "users_without_usable_event": "users without a usable event, who have no row",
        "unknown_events": "events that the model does not know, read as 'other' or that of their behaviour",
        "unknown_locations": "places that it does not know, read as 'other'",
        "missing_locations": "events without a place",
    }
    return [
        f"{counts['users']:,} users, one row each: {record['predicted']}",
        f"{read:,} events read, at most 90 a user, among them",
        *(f"  {counts[name]:>12,}  {said}" for name, said in shown.items() if name in counts),
        f"model {record['model']['sha256']}",
    ]
