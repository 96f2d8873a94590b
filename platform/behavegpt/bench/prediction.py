"""How fast jobs/predict.py is beside a bare forward loop, and how much memory it takes.

In: sizes. Out: figures. The model has 0.8 M parameters and random weights; every user has a history of 90 events, so
nothing is spared. The bare loop calls the model on batches of the same 32 windows that lie in memory, on one thread,
and does nothing with its logits. `predict` reads a dataset, predicts on one thread and writes the file; it computes
less (in the last block one position a user), so it stands beside a loop of that shorter way too. Those three
take turns in one process, and are compared by its CPU seconds, which others on the machine do not lengthen. The pool is
one actor of Ray Data, in turns with the bare loop by the clock, from the actor's first call to the last row here.
"""

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import torch

from behavegpt.bench.alone import run_alone
from behavegpt.bench.figures import Figure, gibibytes, rate
from behavegpt.bench.generation import write_histories
from behavegpt.data.ingest.executor import local_executor
from behavegpt.data.ingest.options import IngestOptions
from behavegpt.data.manifest import read_manifest
from behavegpt.data.sources.spec import Columns, LogSpec
from behavegpt.data.vocab import read_vocabulary
from behavegpt.model.config import for_width
from behavegpt.model.transformer import BehaveGPT, initialise
from behavegpt.schema import FEATURES, NUM_INPUTS, VOCABULARIES
from behavegpt.tasks.prediction.dataset import open_dataset
from behavegpt.tasks.prediction.histories import read_slices
from behavegpt.tasks.prediction.model import Served
from behavegpt.tasks.prediction.pool import actors, threads
from behavegpt.tasks.prediction.predictor import WINDOWS_PER_BATCH, Predictor
from behavegpt.tasks.prediction.run import FromDataset, FromLog, Request, predict
from behavegpt.train.process import settle

WIDTH, DEPTH = 128, 4
SMALL_WIDTH, SMALL_DEPTH = 64, 2
"""Where memory is measured."""
TOP_K = 5
BEGAN = "began"
Batch = list[torch.Tensor]


class TimedPredictor(Predictor):
    """A predictor that says when it was called."""

    def __call__(self, histories: pa.Table) -> pa.Table:
        """Return the predictions, with a column of seconds since 1970."""
        began = pa.array(np.full(histories.num_rows, time.time()))
        return super().__call__(histories).append_column(BEGAN, began)


def compare_path(work: Path, num_users: int, rounds: int) -> Iterator[Figure]:
    """Yield the rate of the whole path on one thread against the bare loops, medians of the rounds' ratios."""
    run = run_alone(
        "behavegpt.bench.prediction:measure_path", dataset=make_dataset(work, num_users), work=work, rounds=rounds
    )
    ours, bare, short = (run.value[name] for name in ("ours", "bare", "short"))
    for name, other in (("the bare forward loop", bare), ("a loop that ends as short", short)):
        yield Figure(
            name=f"predict for {num_users:,} users of a dataset, one thread, against {name}",
            ours=f"{num_users / median(ours):,.0f} users/CPU s",
            other=f"{num_users / median(other):,.0f} users/CPU s",
            value=median(theirs / own for theirs, own in zip(other, ours, strict=True)),
            wanted=">= 0.8",
        )


def compare_pool(work: Path, num_users: int, rounds: int) -> Iterator[Figure]:
    """Yield the rate of a pool of one actor against the bare loop, the median of the rounds' ratios."""
    run = run_alone("behavegpt.bench.prediction:measure_pool", dataset=make_dataset(work, num_users), rounds=rounds)
    pool, bare = run.value["pool"], run.value["bare"]
    yield Figure(
        name=f"a pool of one actor, {num_users:,} users, first called after {median(run.value['start']):.1f} s",
        ours=f"{median(pool):,.0f} users/s",
        other=f"bare forward loop {median(bare):,.0f} users/s",
        value=median(own / theirs for own, theirs in zip(pool, bare, strict=True)),
        wanted=">= 0.8",
    )


def compare_peaks(work: Path, num_rows: tuple[int, int]) -> Iterator[Figure]:
    """Yield the peak memory of predicting from a small and from a large log, and their ratio."""
    dataset, peaks = make_dataset(work, 100), []
    for size in num_rows:
        log = work / "log.csv"
        rows = run_alone("behavegpt.bench.ingest:make_log", log=log, num_rows=size).value
        run = run_alone("behavegpt.bench.prediction:predict_log", log=log, dataset=dataset, out=work / "memory")
        shutil.rmtree(work / "memory")
        log.unlink()
        peaks.append(run.peak_bytes)
        name = f"peak memory of predict from a log of {rows:,} events, {run.value:,} users, GiB"
        yield Figure(name=name, ours=rate(rows, run.wall_s, "events"), value=gibibytes(run.peak_bytes))
    yield Figure(name="  large over small", ours="", value=peaks[1] / peaks[0], wanted="<= 1.3")


def measure_path(dataset: Path, work: Path, rounds: int) -> dict[str, list[float]]:
    """Return the CPU seconds of each round: of predict, of the bare loop, and of one that ends as short as predict."""
    settle(1)
    served, users = _serve(dataset, WIDTH, DEPTH), _users(dataset)
    batches = _batches(users)
    found: dict[str, list[float]] = {"bare": [], "ours": [], "short": []}
    for number in range(rounds):
        out = work / f"predicted-{number}"
        request = Request(served=served, users=users, out=out, top_k=TOP_K, pool=threads(1))
        for name, call in (
            ("bare", lambda: _forward(served.model, batches)),
            ("ours", lambda request=request: predict(request)),
            ("short", lambda: _forward_short(served.model, batches)),
        ):
            found[name].append(_seconds(call, time.process_time))
        shutil.rmtree(out)
    return found


def measure_pool(dataset: Path, rounds: int) -> dict[str, list[float]]:
    """Return users/s of each round, on a cluster of its own, and the seconds until the actor's first call."""
    import ray

    settle(1)
    served, users = _serve(dataset, WIDTH, DEPTH), _users(dataset)
    batches, predictor = _batches(users), TimedPredictor(served.model, served.values["behavior"], TOP_K)
    # Ray makes its workers yield to every other process; the bare loop does not.
    os.environ.setdefault("RAY_worker_niceness", "0")
    local = {"address": "local", "_node_ip_address": "127.0.0.1", "num_cpus": 4, "include_dashboard": False}
    ray.init(**local, log_to_driver=False, logging_level=logging.WARNING)
    found: dict[str, list[float]] = {"bare": [], "pool": [], "start": []}
    for _ in range(rounds):
        num_users = WINDOWS_PER_BATCH * len(batches)
        bare_s = _seconds(lambda: _forward(served.model, batches), time.perf_counter)
        found["bare"].append(num_users / bare_s)
        begin = time.time()
        tables = list(actors(1)(open_dataset(dataset, users.manifest, users.splits), predictor))
        first = min(table[BEGAN][0].as_py() for table in tables)
        found["pool"].append(sum(table.num_rows for table in tables) / (time.time() - first))
        found["start"].append(first - begin)
    ray.shutdown()
    return found


def predict_log(log: Path, dataset: Path, out: Path) -> int:
    """Predict from a raw log as the job does on two threads; return the number of users."""
    columns = Columns(user="user", timestamp="timestamp", event="event", behavior="behavior", location="location")
    users = FromLog(
        spec=LogSpec(inputs=(str(log),), columns=columns),
        options=IngestOptions(memory_gb=0.5, num_workers=2),
        key_file=None,
        run=local_executor(2),
    )
    served = _serve(dataset, SMALL_WIDTH, SMALL_DEPTH)
    return predict(Request(served=served, users=users, out=out, top_k=TOP_K, pool=threads(2)))["counts"]["users"]


def make_dataset(work: Path, num_users: int) -> Path:
    """Return a generated log in which each user has 181 events in the test split."""
    path = work / f"users-{num_users}"
    return path if path.exists() else write_histories(path, num_users)


def _serve(dataset: Path, width: int, depth: int) -> Served:
    manifest = read_manifest(dataset)
    model = BehaveGPT(for_width(width, depth, vocabulary_sizes=manifest.vocabulary_sizes))
    initialise(model, 0)
    paths = {name: dataset / manifest.vocabulary_path(name) for name in VOCABULARIES}
    values = {name: list(read_vocabulary(path).values) for name, path in paths.items()}
    return Served(model=model.eval(), values=values, sha256="", dataset=manifest.fingerprint, note=None)


def _users(dataset: Path) -> FromDataset:
    return FromDataset(directory=dataset, manifest=read_manifest(dataset), splits=("test",))


def _batches(users: FromDataset) -> list[Batch]:
    """Return the inputs and lengths of whole batches."""
    source, batches = open_dataset(users.directory, users.manifest, users.splits), []
    for table in read_slices(source, WINDOWS_PER_BATCH):
        ids = [torch.tensor(table[name].to_pylist()) for name in FEATURES]
        lengths = torch.tensor(table["length"].to_pylist())
        assert (lengths == NUM_INPUTS).all()
        batches += [[*ids, lengths]] if len(lengths) == WINDOWS_PER_BATCH else []
    return batches


@torch.inference_mode()
def _forward(model: BehaveGPT, batches: Sequence[Batch]) -> None:
    for weekday, slot, location, event, _ in batches:
        model(weekday, slot, location, event)


@torch.inference_mode()
def _forward_short(model: BehaveGPT, batches: Sequence[Batch]) -> None:
    for weekday, slot, location, event, lengths in batches:
        model.head(model.read_last(weekday, slot, location, event, lengths))


def _seconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    begin = clock()
    call()
    return clock() - begin
