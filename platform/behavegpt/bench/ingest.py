"""Ingest against polars_script.py on one generated file, and its peak memory on a small and a large one.

In: sizes. Out: figures. The file has lines of about 67 bytes (user, ISO time, event, behaviour, place), and lies in the
page cache for both sides. What an ingest of 20 M rows moves at least: 1.3 GB of text, parsed once; 22 bytes an event of
scattered columns, written and read once; 22 bytes of clean ones, written once and read twice (to count, to cut); 14
bytes of windows, written and read once; and 0.1 GB of compressed shards: 2.6 GB written and read to and from the page
cache beside the text. Two sorts of each event (by user and time) and the parsing bound it, not the disk. The script
moves the text and the shards and keeps the rest in memory; half its rate is what bounded memory, bytes that do not
depend on the order of the rows, and a reason for every dropped row may cost.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from behavegpt.bench.alone import Run, run_alone
from behavegpt.bench.figures import Figure, gibibytes, rate
from behavegpt.data.ingest.executor import local_executor
from behavegpt.data.ingest.ingest import ingest
from behavegpt.data.ingest.options import IngestOptions
from behavegpt.data.sources.spec import Columns, LogSpec
from behavegpt.data.synthetic.config import GeneratorConfig
from behavegpt.data.synthetic.domains import phone
from behavegpt.data.synthetic.raw import write_raw_log
from behavegpt.errors import RefusedError
from behavegpt.schema import FIRST_KNOWN_ID, NUM_INPUTS, SPLITS, VOCABULARIES

EVENTS_PER_USER = 1000
SPLIT = (0.7, 0.15, 0.15)
MAX_GIB = 6.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What ingest may use, and how it folds rare values."""

    num_workers: int
    memory_gb: float
    min_users: int = 20


def config_of(num_rows: int) -> GeneratorConfig:
    """Return a phone-like log of about `num_rows` events."""
    others = max(1, num_rows // 20 // NUM_INPUTS)
    num_train = max(NUM_INPUTS, num_rows - 2 * others * NUM_INPUTS)
    num_users = max(1, num_rows // EVENTS_PER_USER)
    return replace(
        phone(), num_users=num_users, num_train_events=num_train, num_val_windows=others, num_test_windows=others
    )


def compare_ingest(work: Path, num_rows: int, limits: Limits, repeats: int) -> Iterator[Figure]:
    """Yield the rate of ingest against that of the script, best of `repeats` each; leaves its dataset in work/ours.

    Raises:
        RefusedError: The two did not come to the same counts, so their times say nothing.
    """
    log = work / "log.csv"
    rows = run_alone("behavegpt.bench.ingest:make_log", log=log, num_rows=num_rows).value
    runs: dict[str, list[Run]] = {"ours": [], "polars": []}
    for repeat in range(repeats):
        for side in ("ours", "polars") if repeat % 2 == 0 else ("polars", "ours"):
            shutil.rmtree(work / side, ignore_errors=True)
            runs[side].append(_run_side(side, log, work / side, limits))
    differences = compare_counts(runs["ours"][0].value, runs["polars"][0].value)
    if differences:
        raise RefusedError("ingest and the polars script disagree: " + "; ".join(differences))
    best = {side: min(run.wall_s for run in of_side) for side, of_side in runs.items()}
    peak = {side: max(run.peak_bytes for run in of_side) for side, of_side in runs.items()}
    counts = runs["ours"][0].value
    targets = ", ".join(f"{counts[f'targets_{split}']:,}" for split in SPLITS)
    yield Figure(
        name=f"ingest of {rows:,} rows, same counts ({counts['users']:,} users; targets {targets})",
        ours=rate(rows, best["ours"], "rows"),
        other=f"polars {rate(rows, best['polars'], 'rows')}",
        value=best["polars"] / best["ours"],
        wanted=">= 0.5",
    )
    yield Figure(
        name="  its peak memory",
        ours=f"{gibibytes(peak['ours']):.2f} GiB",
        other=f"polars {gibibytes(peak['polars']):.2f} GiB",
        value=peak["ours"] / peak["polars"],
    )
    log.unlink()


def compare_memory(work: Path, num_rows: tuple[int, int], limits: Limits) -> Iterator[Figure]:
    """Yield the peak memory of ingest on a small and on a large log, and their ratio."""
    peaks = []
    for size in num_rows:
        log = work / "log.csv"
        rows = run_alone("behavegpt.bench.ingest:make_log", log=log, num_rows=size).value
        run = _run_side("ours", log, work / "memory", limits)
        shutil.rmtree(work / "memory")
        log.unlink()
        peaks.append(run.peak_bytes)
        gib = gibibytes(run.peak_bytes)
        name = f"peak memory of ingest, {rows:,} rows, GiB"
        yield Figure(name=name, ours=rate(rows, run.wall_s, "rows"), value=gib, wanted=f"<= {MAX_GIB:g}")
    name = "  large over small"
    yield Figure(name=name, ours="", value=peaks[1] / peaks[0], wanted="<= 1.5")


def _run_side(side: str, log: Path, out: Path, limits: Limits) -> Run:
    if side == "polars":
        script = "behavegpt.bench.polars_script:transform"
        return run_alone(script, csv=log, out=out, split=SPLIT, min_users=limits.min_users)
    return run_alone("behavegpt.bench.ingest:ingest_log", log=log, out=out, limits=limits)


def make_log(log: Path, num_rows: int) -> int:
    """Write a generated log and return its rows."""
    return write_raw_log(log, config_of(num_rows))


def ingest_log(log: Path, out: Path, limits: Limits) -> dict[str, int]:
    """Ingest a generated log and return the counts that the script counts too."""
    columns = Columns(user="user", timestamp="timestamp", event="event", behavior="behavior", location="location")
    options = IngestOptions(
        split=SPLIT, min_users=limits.min_users, memory_gb=limits.memory_gb, num_workers=limits.num_workers
    )
    spec = LogSpec(inputs=(str(log),), columns=columns)
    manifest = ingest(spec, out, options=options, run=local_executor(limits.num_workers))
    counts = {name: manifest.counts[name] for name in ("rows_read", "duplicates", "events_kept", "users")}
    for split in SPLITS:
        content = manifest.splits[split]
        counts |= {f"windows_{split}": content.num_windows, f"targets_{split}": content.num_targets}
    return counts | {f"values_{c}": manifest.vocabulary_sizes[c] - FIRST_KNOWN_ID for c in VOCABULARIES}


def compare_counts(ours: dict[str, int], theirs: dict[str, int]) -> list[str]:
    """Return what differs, in words; an empty list when all counts are equal."""
    names = list(dict.fromkeys([*ours, *theirs]))
    return [f"{n} {ours.get(n)} and {theirs.get(n)}" for n in names if ours.get(n) != theirs.get(n)]
