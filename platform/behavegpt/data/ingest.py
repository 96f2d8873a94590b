"""Turn one raw log into a dataset directory: read, clean, split by time, number the values, cut windows, write.

In: a CSV or Parquet file and what its columns mean. Out: the directory that stream.py reads, and its manifest, which
card.py renders. The same rows give the same shards, in whatever order the file has them.
"""

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from behavegpt.data.clean import Events, clean
from behavegpt.data.cut import EventColumns, cut_windows, find_split, split_cutoffs
from behavegpt.data.logs import Columns, find_mapping_problems, read_log
from behavegpt.data.manifest import Manifest
from behavegpt.data.shards import find_out_problems, write_dataset
from behavegpt.data.times import TimeUnit, read_times
from behavegpt.data.vocab import Vocabulary, learn_vocabulary
from behavegpt.data.windows import Windows
from behavegpt.data.zones import find_zone_problems, local_weekday_and_slot
from behavegpt.errors import InputError
from behavegpt.files import sha256_of
from behavegpt.schema import OTHER_ID, SPLITS, VOCABULARIES

Shares = tuple[float, float, float]


def ingest(
    path: Path,
    out: Path,
    *,
    columns: Columns,
    timezone: str = "UTC",
    time_unit: TimeUnit = "auto",
    split: Shares = (0.7, 0.15, 0.15),
    seed: int = 0,
) -> Manifest:
    """Write the dataset of the log at `path` to the new directory `out` and return its manifest.

    Args:
        timezone: IANA name; weekdays and half-hour slots are local there, and so are times without an offset.
        time_unit: Of a numeric time column; auto is seconds.
        split: Shares of the events that go to train, val and test, by time.
        seed: Of the users' numbers and of the shuffle of windows.

    Raises:
        InputError: An argument or the log is wrong; nothing has been written.
    """
    _refuse(
        find_out_problems(out)
        + find_mapping_problems(path, columns)
        + find_zone_problems(timezone)
        + find_split_problems(split)
        + ([f"--seed {seed}: must be 0 or more"] if seed < 0 else [])
    )
    log = read_log(path, columns)
    times = read_times(log, columns.timestamp, unit=time_unit, timezone=timezone)
    events, values, counts = clean(log, columns, times, seed)
    cutoffs = split_cutoffs(events.seconds, split)
    vocabularies, ids, split_counts = _number_values(events, values, find_split(events.seconds, cutoffs))
    weekday, slot = local_weekday_and_slot(events.seconds, timezone)
    event_columns = EventColumns(weekday=weekday, slot=slot, timestamp=events.seconds, user=events.user, **ids)
    windows, window_counts = cut_windows(event_columns, cutoffs)
    _refuse(_empty_splits(windows, split, cutoffs))
    source = {
        "kind": "log",
        "input": path.name,
        "sha256": sha256_of(path),
        "columns": columns.named(),
        "timezone": timezone,
        "time_unit": time_unit,
        "split": list(split),
        "seed": seed,
        "first_event": _iso(int(events.seconds.min())),
        "last_event": _iso(int(events.seconds.max())),
    }
    return write_dataset(
        out,
        windows,
        vocabularies,
        name=out.name,
        source=source,
        counts={**counts, **times.counts, **split_counts, **window_counts},
        cutoffs={"val": _iso(cutoffs[0]), "test": _iso(cutoffs[1])},
        seed=seed,
    )


def find_split_problems(split: Shares) -> list[str]:
    """Return the problem with the shares of train, val and test, if there is one."""
    if all(share > 0 for share in split) and math.isclose(sum(split), 1, abs_tol=1e-6):
        return []
    shown = " ".join(f"{share:g}" for share in split)
    hint = " Did you mean 0.7 0.15 0.15?" if math.isclose(sum(split), 100, abs_tol=1e-3) else ""
    return [f"--split {shown}: must be three shares above 0 that add up to 1, not {sum(split):g}.{hint}"]


def _number_values(
    events: Events, values: dict[str, pa.Array], split: np.ndarray
) -> tuple[dict[str, Vocabulary], dict[str, Any], dict[str, int]]:
    """Return the vocabularies of the training events, every event's ids, and the counts of each split."""
    counts = {f"events_{name}": int((split == index).sum()) for index, name in enumerate(SPLITS)}
    vocabularies, ids = {}, {}
    for column in VOCABULARIES:
        texts = values.get(column, pa.array([], pa.string()))
        vocabularies[column], ids[column] = learn_vocabulary(getattr(events, column), texts, split == 0)
        for index, name in enumerate(SPLITS[1:], start=1):
            counts[f"other_{column}_{name}"] = int((ids[column][split == index] == OTHER_ID).sum())
    return vocabularies, ids, counts


def _empty_splits(windows: dict[str, Windows], split: Shares, cutoffs: tuple[int, int]) -> list[str]:
    shown = " ".join(f"{share:g}" for share in split)
    begins = f"val begins at {_iso(cutoffs[0])}, test at {_iso(cutoffs[1])}"
    return [
        f"--split {shown}: {name} has no event with a behaviour to predict ({begins}); give {name} a larger share"
        for name, part in windows.items()
        if len(part) == 0
    ]


def _refuse(problems: list[str]) -> None:
    if problems:
        raise InputError(*problems)


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
