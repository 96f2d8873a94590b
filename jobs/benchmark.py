"""Measure the platform against the simplest thing that does the same work, all in one run, and print a table of ratios.

    python jobs/benchmark.py data
    python jobs/benchmark.py study --dataset data/demo
    python jobs/benchmark.py train
    python jobs/benchmark.py predict
    python jobs/benchmark.py train --sizes 0.1M --profile
    python jobs/benchmark.py data --rows 200000 --memory-rows 100000 400000 --stream-windows 50000 --repeats 1

The defaults take some fifteen minutes on two cores and 10 GB of disk. A ratio compares two things that ran in turns on
one machine, so it holds where a rate does not. Needs the `dev` extra (polars).
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from behavegpt.arguments import parse_parts
from behavegpt.bench.figures import Figure, to_lines
from behavegpt.errors import InputError, exit_codes

Part = Literal["ingest", "stream", "generator", "memory"]
TrainPart = Literal["limit", "path", "workers"]
PredictPart = Literal["path", "pool", "memory"]
TrainSize = Literal["0.1M", "0.8M", "4.8M"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """Measure ingest, stream and generator."""

    rows: int = 20_000_000
    """Rows of the generated log that ingest and the polars script turn into windows; the stream reads the result."""
    memory_rows: tuple[int, int] = (5_000_000, 50_000_000)
    """Rows of the two logs on which the peak memory of ingest is compared."""
    stream_windows: int = 1_000_000
    """Windows that the stream and the bare read go through each time, in as many passes as that takes."""
    generator_events: int = 5_000_000
    """Events to generate."""
    repeats: int = 3
    """Measurements of each side, in turns."""
    num_workers: int = 2
    """Threads of ingest; the polars script takes all cores."""
    memory_gb: float = 2.0
    """What ingest may use for arrays."""
    work: Path = Path(tempfile.gettempdir())
    """Where a scratch directory is made, and removed at the end."""
    parts: tuple[Part, ...] = ("ingest", "stream", "generator", "memory")
    """What to measure; the stream needs ingest's result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """Measure the demo study's wall time against a bare torch loop; needs a Ray head (clusters/local.sh start, env)."""

    dataset: Path
    """The demo's logs: jobs/synthesize.py --out DIR."""
    threads: int = 2
    """Of the bare loop: as many as the cluster has cores."""
    work: Path = Path(tempfile.gettempdir())
    """Where a scratch directory is made, and removed at the end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Train:
    """Measure training: the bare loop against matrix products, the full path against the bare loop, two workers
    against one. It brings its own Ray and its own generated log; some five minutes on two cores. Takes a GPU where
    there is one."""

    sizes: tuple[TrainSize, ...] = ("0.1M", "0.8M", "4.8M")
    """Non-embedding parameters."""
    parts: tuple[TrainPart, ...] = ("limit", "path", "workers")
    """limit: the bare loop's FLOP/s over matrix products'; path: the full path over the bare loop, and memory;
    workers: two workers of one thread over one, at 4.8M."""
    batch_windows: int | None = None
    """Windows of a batch; even, so that two workers share it equally. Default what the recipe has at D = 10 N: 16, 32
    and 64."""
    rounds: int = 16
    """Turns of each side, of which the first is not counted."""
    profile: bool = False
    """Say instead where the time of the bare loop goes."""
    work: Path = Path(tempfile.gettempdir())
    """Where a scratch directory is made, and removed at the end."""


def measure_training(args: Train) -> None:
    """Measure, and print the table, each figure as soon as it is there; or the profile."""
    problems = [f"--rounds {args.rounds}: must be 3 or more"] if args.rounds < 3 else []
    if args.batch_windows is not None and (args.batch_windows < 2 or args.batch_windows % 2):
        problems.append(f"--batch-windows {args.batch_windows}: must be even, and 2 or more")
    problems += [f"--work {args.work}: is no directory"] if not args.work.is_dir() else []
    if problems:
        raise InputError(*problems)
    from behavegpt.bench.profile import profile_lines
    from behavegpt.bench.train import compare_training

    with tempfile.TemporaryDirectory(prefix="behavegpt-benchmark-", dir=args.work) as work:
        if args.profile:
            print("\n".join(profile_lines(Path(work), args.sizes, args.batch_windows)))
            return
        figures = []
        for figure in compare_training(Path(work), args.sizes, args.parts, args.batch_windows, args.rounds):
            print(f"measured: {figure.name}: {figure.value:.3f}", flush=True)
            figures.append(figure)
    print("\n".join(to_lines(figures)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Generate:
    """Measure generation at 0.8 M parameters, and what the key-value cache saves; some two minutes."""

    num_users: int = 1000
    num_events: int = 50
    """Behaviours of each user."""
    compared: int = 128
    """Users for whom it is done once more without the cache."""
    work: Path = Path(tempfile.gettempdir())


def measure_generation(args: Generate) -> None:
    """Measure, and print the table."""
    from behavegpt.bench.generation import compare_generation

    with tempfile.TemporaryDirectory(prefix="behavegpt-benchmark-", dir=args.work) as work:
        print("\n".join(to_lines(compare_generation(Path(work), args.num_users, args.num_events, args.compared))))


@dataclass(frozen=True, kw_only=True, slots=True)
class Predict:
    """Measure prediction at 0.8 M parameters against a bare forward loop, and its memory; some four minutes."""

    num_users: int = 2048
    """A multiple of 32."""
    rounds: int = 3
    """Turns of each side."""
    memory_rows: tuple[int, int] = (1_000_000, 5_000_000)
    """Events of the two logs on which the peak memory is compared."""
    parts: tuple[PredictPart, ...] = ("path", "pool", "memory")
    """path: from dataset to file on one thread; pool: an actor of Ray Data; memory: from raw logs."""
    work: Path = Path(tempfile.gettempdir())


def measure_prediction(args: Predict) -> None:
    """Measure, and print the table, each figure as soon as it is there."""
    problems = [f"--rounds {args.rounds}: must be 1 or more"] if args.rounds < 1 else []
    if args.num_users < 32 or args.num_users % 32:
        problems.append(f"--num-users {args.num_users}: must be a multiple of 32")
    if min(args.memory_rows) < 10_000:
        problems.append(f"--memory-rows {min(args.memory_rows)}: must be 10000 or more")
    if problems:
        raise InputError(*problems)
    from behavegpt.bench.prediction import compare_path, compare_peaks, compare_pool

    with tempfile.TemporaryDirectory(prefix="behavegpt-benchmark-", dir=args.work) as work:
        parts = {
            "path": lambda: compare_path(Path(work), args.num_users, args.rounds),
            "pool": lambda: compare_pool(Path(work), args.num_users, args.rounds),
            "memory": lambda: compare_peaks(Path(work), args.memory_rows),
        }
        figures = []
        for figure in (figure for part in args.parts for figure in parts[part]()):
            print(f"measured: {figure.name}: {figure.value:.3f}", flush=True)
            figures.append(figure)
    print("\n".join(to_lines(figures)))


def measure_demo(args: Study) -> None:
    """Measure, and print the ratio."""
    from behavegpt.bench.study import measure_study
    from behavegpt.study.ladder import demo

    with tempfile.TemporaryDirectory(prefix="behavegpt-benchmark-", dir=args.work) as work:
        print("\n".join(to_lines([measure_study(demo(), args.dataset, Path(work), args.threads)])))


def main(args: Data) -> None:
    """Measure, and print the table, each figure as soon as it is there."""
    sizes = {"rows": args.rows, "memory-rows": min(args.memory_rows), "generator-events": args.generator_events}
    problems = [f"--{name} {value}: must be 10000 or more" for name, value in sizes.items() if value < 10_000]
    problems += [f"--repeats {args.repeats}: must be 1 or more"] if args.repeats < 1 else []
    problems += [f"--num-workers {args.num_workers}: must be 1 or more"] if args.num_workers < 1 else []
    problems += [f"--work {args.work}: is no directory"] if not args.work.is_dir() else []
    problems += ["--parts stream: needs ingest too"] if "stream" in args.parts and "ingest" not in args.parts else []
    if problems:
        raise InputError(*problems)
    with tempfile.TemporaryDirectory(prefix="behavegpt-benchmark-", dir=args.work) as work:
        figures = []
        for figure in measure(args, Path(work)):
            print(f"measured: {figure.name}", flush=True)
            figures.append(figure)
    print("\n".join(to_lines(figures)))


def measure(args: Data, work: Path) -> Iterator[Figure]:
    """Yield the figures of the chosen parts."""
    # Imported here: the processes that are measured import this file, and should hold nothing that they do not need.
    from behavegpt.bench.generate import compare_generator
    from behavegpt.bench.ingest import Limits, compare_ingest, compare_memory
    from behavegpt.bench.stream import compare_stream

    limits = Limits(num_workers=args.num_workers, memory_gb=args.memory_gb)
    if "ingest" in args.parts:
        yield from compare_ingest(work, args.rows, limits, args.repeats)
    if "stream" in args.parts:
        yield from compare_stream(work, work / "ours", args.stream_windows, args.repeats)
    if "generator" in args.parts:
        yield from compare_generator(work, args.generator_events)
    if "memory" in args.parts:
        yield from compare_memory(work, args.memory_rows, limits)


if __name__ == "__main__":
    with exit_codes():
        parts = {"data": Data, "study": Study, "train": Train, "generate": Generate, "predict": Predict}
        chosen = parse_parts(parts)
        measures = {Data: main, Study: measure_demo, Train: measure_training, Generate: measure_generation}
        measures |= {Predict: measure_prediction}
        measures[type(chosen)](chosen)
