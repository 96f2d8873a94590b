"""The yardstick of ingest: the same transformation as a good script would do it, by hand, with polars in memory.

In: a CSV with the columns user, timestamp (ISO 8601, UTC), event, behavior and location. Out: shards of windows as
`window_schema` has them, with a sha256 each, and the counts that ingest must match. It shares no code with ingest but
the constants and the schema of the shards, so that the comparison of counts means something.

It leaves out what a script leaves out: it holds the whole log in memory, writes no manifest, reports no row that it
drops, and its bytes depend on the order of the rows. So it is a harder yardstick than a fair one.
"""

import hashlib
import hmac
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from behavegpt.schema import FIRST_KNOWN_ID, NUM_INPUTS, OTHER_ID, SPLITS, VOCABULARIES, WINDOW_LENGTH, window_schema

WINDOWS_PER_SHARD = 16_384
NUM_THREADS = 2


class Cut(NamedTuple):
    """W windows of one split, as rows of the sorted events."""

    start: np.ndarray
    """(W,) first event."""
    first_target: np.ndarray
    """(W,)"""
    length: np.ndarray
    """(W,)"""
    number: np.ndarray
    """(W,) the window's place in its user's grid."""
    num_targets: np.ndarray
    """(W,)"""


def transform(
    csv: Path, out: Path, *, key: bytes = bytes(32), split: tuple[float, float, float], min_users: int
) -> dict[str, int]:
    """Write the shards of the log and return the counts."""
    frame = pl.scan_csv(csv, infer_schema=False).with_columns(
        pl.col("timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us"),
        pl.col("user", "event", "behavior", "location").cast(pl.Categorical),
    )
    frame = frame.collect()
    counts = {"rows_read": frame.height}
    frame = _sort(frame.drop_nulls(["user", "timestamp", "event"]), key)
    in_order = frame.height
    frame = frame.filter(
        pl.any_horizontal(pl.col(column).ne_missing(pl.col(column).shift()) for column in frame.columns)
    )
    counts["duplicates"] = in_order - frame.height
    frame = frame.filter(pl.len().over("user") > 1)
    counts |= {"events_kept": frame.height, "users": frame["user"].n_unique()}
    frame, sizes = _number_values(frame, split, min_users)
    cuts = list(_cut(frame))
    for name, cut in zip(SPLITS, cuts, strict=True):
        counts |= {f"windows_{name}": len(cut.start), f"targets_{name}": int(cut.num_targets.sum())}
    counts |= {f"values_{column}": sizes[column] - FIRST_KNOWN_ID for column in VOCABULARIES}
    _write(out, frame, cuts, window_schema({"weekday": 8, "slot": 49, **sizes}))
    return counts


def _sort(frame: pl.DataFrame, key: bytes) -> pl.DataFrame:
    """Return the events with pseudonyms for users and numbers for values, by user and time."""
    codes = frame["user"].to_physical()
    names = frame.select("user", code=codes).unique()
    table = np.zeros(int(names["code"].max()) + 1, np.uint64)  # pyright: ignore[reportArgumentType]
    digests = [hmac.digest(key, name.encode(), "sha256")[:8] for name in names["user"].cast(pl.String)]
    table[names["code"].to_numpy()] = np.frombuffer(b"".join(digests), ">u8")
    columns = ["user", "timestamp", "event", "behavior", "location"]
    return frame.select(
        pl.Series("user", table[codes.to_numpy()]),
        pl.col("timestamp"),
        pl.col("event", "behavior", "location").to_physical(),
    ).sort(columns)


def _number_values(
    frame: pl.DataFrame, split: tuple[float, float, float], min_users: int
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the events with their split, weekday, slot and ids, and the sizes of the id tables."""
    seconds = frame["timestamp"].dt.epoch("s").to_numpy()
    ranks = [min(round(len(seconds) * share), len(seconds) - 1) for share in (split[0], split[0] + split[1])]
    cutoffs = np.partition(seconds, ranks)[ranks]
    frame = frame.with_columns(
        pl.Series("seconds", seconds),
        pl.Series("split", (seconds >= cutoffs[0]).astype(np.uint8) + (seconds >= cutoffs[1])),
        pl.col("timestamp").dt.weekday().cast(pl.UInt8).alias("weekday"),
        (pl.col("timestamp").dt.hour() * 2 + pl.col("timestamp").dt.minute() // 30 + 1).cast(pl.UInt8).alias("slot"),
    )
    train, sizes = frame.filter(pl.col("split") == 0), {}
    for column in VOCABULARIES:
        known = train.drop_nulls(column).group_by(column).agg(pl.len(), users=pl.col("user").n_unique())
        if column != "behavior":
            known = known.filter(pl.col("users") >= min_users)
        known = known.sort(["len", column], descending=[True, False])
        ids = np.full(int(frame[column].max() or 0) + 1, OTHER_ID, np.uint32)  # pyright: ignore[reportArgumentType]
        ids[known[column].to_numpy()] = np.arange(FIRST_KNOWN_ID, FIRST_KNOWN_ID + known.height)
        missing = frame[column].is_null().to_numpy()
        codes = frame[column].fill_null(0).to_numpy()
        sizes[column] = known.height + FIRST_KNOWN_ID
        frame = frame.with_columns(pl.Series(column, np.where(missing, 0, ids[codes]).astype(_id_type(sizes[column]))))
    return frame, sizes


def _id_type(size: int) -> type[np.unsignedinteger]:
    return np.uint8 if size <= 1 << 8 else np.uint16 if size <= 1 << 16 else np.uint32


def _cut(frame: pl.DataFrame) -> Iterator[Cut]:
    """Yield the windows of each split: 91 events every 90 of a user, but for those with no behaviour to predict."""
    user, split = frame["user"].to_numpy(), frame["split"].to_numpy()
    first = np.flatnonzero(np.append(True, user[1:] != user[:-1]))
    num_events = np.diff(np.append(first, len(user)))
    num_windows = (num_events - 1 + NUM_INPUTS - 1) // NUM_INPUTS
    owner = np.repeat(np.arange(len(first)), num_windows)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(num_windows) - num_windows, num_windows)
    start = first[owner] + number * NUM_INPUTS
    stop = np.minimum(start + WINDOW_LENGTH, first[owner] + num_events[owner])
    known = np.append(0, np.cumsum(frame["behavior"].to_numpy() > 0))
    begin = np.zeros_like(start)
    for index in range(len(SPLITS)):
        before = np.append(0, np.cumsum(split <= index))
        end = before[stop] - before[start]
        first_target = np.maximum(begin, 1)
        num_targets = known[start + end] - known[start + np.minimum(first_target, end)]
        keep = num_targets > 0
        yield Cut(*(values[keep] for values in (start, first_target, end, number, num_targets)))
        begin = end


def _write(out: Path, frame: pl.DataFrame, cuts: list[Cut], schema: pa.Schema) -> dict[str, str]:
    """Write every split's windows in the order of a hash, and return the sha256 of each shard."""
    columns = {name: frame[name].to_numpy() for name in ("weekday", "slot", *VOCABULARIES, "seconds", "user")}
    tasks: list[tuple[Path, Cut, int]] = []
    for index, cut in enumerate(cuts):
        (out / SPLITS[index]).mkdir(parents=True)
        with np.errstate(over="ignore"):
            mixed = (columns["user"][cut.start] ^ cut.number.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        order = np.argsort(mixed ^ mixed >> np.uint64(29), kind="stable")
        for shard, at in enumerate(range(0, len(order), WINDOWS_PER_SHARD)):
            rows = order[at : at + WINDOWS_PER_SHARD]
            tasks.append((out / SPLITS[index] / f"part-{shard:05d}.parquet", Cut._make(part[rows] for part in cut), at))
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return dict(pool.map(lambda task: _write_shard(*task, columns=columns, schema=schema), tasks))


def _write_shard(
    path: Path, cut: Cut, first_id: int, columns: dict[str, np.ndarray], schema: pa.Schema
) -> tuple[str, str]:
    position = np.arange(WINDOW_LENGTH)
    filled = position < cut.length[:, None]
    at = np.where(filled, cut.start[:, None] + position, 0)
    given: dict[str, Any] = {
        "length": cut.length,
        "first_target": cut.first_target,
        "num_targets": cut.num_targets,
        "user": columns["user"][cut.start],
        "number": cut.number,
        "window_id": np.arange(first_id, first_id + len(cut.start)),
    }
    arrays = []
    for field in schema:
        if field.name in given:
            arrays.append(pa.array(given[field.name]).cast(field.type))
            continue
        values = columns["seconds" if field.name == "timestamp" else field.name]
        flat = pa.array(np.where(filled, values[at], values.dtype.type(0)).reshape(-1))
        arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type))
    table = pa.table(arrays, schema=schema)
    # As ingest writes them, so that neither side saves time on a lighter encoding.
    pq.write_table(
        table,
        path,
        row_group_size=512,
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    )
    return path.name, hashlib.sha256(path.read_bytes()).hexdigest()
