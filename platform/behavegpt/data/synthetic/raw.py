"""Write a generated log as a raw file, as users bring them to jobs/ingest.py: one row per event, ids as text.

In: a configuration. Out: a CSV (`.gz` too) or Parquet file with the columns user, timestamp, event, behavior and
location, of all splits. Rows lie in runs of some users' events by time, so a user's rows are spread over the runs.
"""

import gzip
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.csv import CSVWriter, WriteOptions

from behavegpt.data.ingest.executor import Executor
from behavegpt.data.synthetic.chunks import Chunk, draw_events, group_chunks, windows_per_user
from behavegpt.data.synthetic.config import GeneratorConfig
from behavegpt.data.synthetic.generator import DRAWN_IN_ORDER, one_by_one, plan_split
from behavegpt.data.synthetic.tally import name_values, num_values
from behavegpt.errors import InputError
from behavegpt.files import fsync
from behavegpt.schema import NUM_INPUTS

RAW_SUFFIXES = (".csv", ".csv.gz", ".parquet")
SECONDS_PER_DAY = 86_400
ISO_LENGTH = len("2024-01-01T00:00:00Z")


def find_raw_problems(path: Path) -> list[str]:
    """Return why no raw log can be written at `path`; an empty list when one can."""
    if not path.name.endswith(RAW_SUFFIXES):
        return [f"--raw {path}: the name ends in none of the formats; allowed: {', '.join(RAW_SUFFIXES)}"]
    if path.exists() or path.is_symlink():
        return [f"--raw {path}: exists already; choose another --raw or remove it first"]
    nearest = next(p for p in path.absolute().parents if p.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        return [f"--raw {path}: {nearest} is not a writable directory; choose another --raw"]
    return []


def write_raw_log(path: Path, config: GeneratorConfig, *, epoch: bool = False, run: Executor = one_by_one) -> int:
    """Write the log in bounded memory and return its rows; the bytes do not depend on `run`.

    Args:
        path: Ends in .csv, .csv.gz or .parquet; it appears complete, or not at all.
        epoch: Write times as whole seconds since 1970 in place of ISO 8601 text (in Parquet, of timestamps).
        run: Runs the pass over the chunks; one by one unless told otherwise.

    Raises:
        InputError: `path` exists already, or has another suffix.
    """
    if problems := find_raw_problems(path):
        raise InputError(*problems)
    is_parquet = path.suffix == ".parquet"
    text = pa.dictionary(pa.int32(), pa.string()) if is_parquet else pa.string()
    time = pa.int64() if epoch else pa.timestamp("ms", "UTC") if is_parquet else pa.string()
    schema = pa.schema({"user": text, "timestamp": time, "event": text, "behavior": text, "location": text})
    num_rows, last_second = 0, 0
    with _new_file(path) as partial_path, _open_writer(partial_path, path.suffix, schema) as write:
        for split in DRAWN_IN_ORDER:
            groups = group_chunks(plan_split(config, split, last_second))
            for table, last in run(partial(_draw_rows, schema), groups, f"drawing {split}"):
                write(table)
                num_rows += table.num_rows
                last_second = max(last_second, last) if split == "val" else last_second
    return num_rows


@contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """Give a name beside `path`; at the end the file gets its own, after an error it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        yield temporary
        fsync(temporary)
        temporary.rename(path)
        fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _open_writer(path: Path, suffix: str, schema: pa.Schema) -> Iterator[Callable[[pa.Table], Any]]:
    if suffix == ".parquet":
        # Dictionaries are a matter of speed: without Arrow's own schema, readers see texts.
        with pq.ParquetWriter(path, schema, store_schema=False) as writer:
            yield writer.write_table
        return
    options = WriteOptions(quoting_style="none")
    with path.open("wb") as raw:
        # Level 1: at higher ones compression takes longer than all the rest.
        file = gzip.GzipFile("", "wb", 1, raw, mtime=0) if suffix == ".gz" else raw
        with file, CSVWriter(file, schema, write_options=options) as writer:
            yield writer.write_table


def _draw_rows(schema: pa.Schema, group: tuple[Chunk, ...]) -> tuple[pa.Table, int]:
    """Return the events of some chunks by time, and their last second."""
    config = group[0].config
    parts: dict[str, list[np.ndarray]] = {name: [] for name in schema.names}
    for chunk in group:
        stream, num_windows = draw_events(chunk), windows_per_user(chunk)
        own = np.arange(stream.second.shape[1]) <= num_windows[:, None] * NUM_INPUTS
        parts["user"].append(np.nonzero(own)[0] + (chunk.first_user - group[0].first_user))
        columns = (stream.second, stream.event, stream.behavior, stream.place)
        for name, values in zip(schema.names[1:], columns, strict=True):
            parts[name].append(values[own])
    rows = {name: np.concatenate(values) for name, values in parts.items()}
    second = rows["timestamp"]
    order = np.argsort(second, kind="stable")
    width = len(str(config.num_users - 1))
    texts = {column: name_values(column, size) for column, size in num_values(config).items()}
    texts["user"] = [f"user-{u:0{width}d}" for u in range(group[0].first_user, group[-1].end_user)]
    columns = {name: _texts(rows[name][order], values, schema.field(name).type) for name, values in texts.items()}
    columns["timestamp"] = _times(second[order], schema.field("timestamp").type)
    return pa.table(columns, schema=schema), int(second.max())


def _texts(values: np.ndarray, texts: list[str], text_type: pa.DataType) -> pa.Array:
    array = pa.DictionaryArray.from_arrays(pa.array(values, pa.int32()), pa.array(texts))
    return array if pa.types.is_dictionary(text_type) else array.dictionary.take(array.indices)


def _times(second: np.ndarray, time_type: pa.DataType) -> pa.Array:
    if pa.types.is_string(time_type):
        return _iso_texts(second)
    return pa.array(second if pa.types.is_integer(time_type) else second * 1000, time_type)


def _iso_texts(second: np.ndarray) -> pa.Array:
    """Return ISO 8601 texts in UTC, put together from tables of days and of times: ten times as fast as formatting."""
    day = second // SECONDS_PER_DAY
    first = day.min()
    days = np.datetime_as_string(np.arange(first, day.max() + 1).astype("datetime64[D]")).astype("S10")
    text = np.empty((len(second), 2), dtype="S10")
    text[:, 0] = days[day - first]
    text[:, 1] = _clock()[second - day * SECONDS_PER_DAY]
    offsets = np.arange(len(second) + 1, dtype=np.int32) * ISO_LENGTH
    return pa.StringArray.from_buffers(len(second), pa.py_buffer(offsets), pa.py_buffer(text))


@cache
def _clock() -> np.ndarray:
    """Return (86400,) texts of ten bytes: T00:00:00Z and on, second by second."""
    instants = np.datetime_as_string(np.arange(SECONDS_PER_DAY).astype("datetime64[s]"))
    return np.array([instant[10:] + "Z" for instant in instants.tolist()], dtype="S10")
