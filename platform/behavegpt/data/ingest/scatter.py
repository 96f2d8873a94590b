"""Pass 1: read pieces of the log, replace users by pseudonyms, and send every event to its user's bucket.

In: a piece of the log. Out: for each of its blocks, in scratch: `.rows` (one record batch a bucket; the events of each
user side by side), `.users` (one record batch a bucket: pseudonym, number of rows and the first of them), and the texts
of each column behind the rows' codes. A bucket is a range of pseudonyms, so that all events of a user end up in one.

Legend: R rows of a block, U users of a block, B buckets.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from behavegpt.data.ingest.batches import write_parts, write_text_parts, write_texts
from behavegpt.data.ingest.drops import codes_of, count_reasons, find_reasons, first_rows
from behavegpt.data.ingest.progress import Progress
from behavegpt.data.ingest.pseudonyms import pseudonyms
from behavegpt.data.sources.blocks import EventBlock, read_blocks
from behavegpt.data.sources.plan import Piece
from behavegpt.data.sources.spec import LogSpec

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScatterTask:
    """One piece of the log, to be scattered into B = 2 ** bucket_bits buckets."""

    index: int
    piece: Piece
    spec: LogSpec
    columns: tuple[str, ...]
    """Those of event, behavior and location that the log has."""
    directory: Path
    key: bytes
    bucket_bits: int
    held_out: frozenset[str]
    all_users: bool = False
    """`.users` has those without a usable row too."""
    keep_ids: bool = False
    """Write the ids behind the pseudonyms to `.ids`, in the order of `.users`: for a job that names its users."""

    def __repr__(self) -> str:
        """Return a text for logs, without the key."""
        return f"ScatterTask({self.piece.label!r})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scattered:
    """What became of one piece."""

    blocks: tuple[str, ...]
    """Names of the blocks, to which the suffixes of their files are added."""
    counts: dict[str, int]
    first_dropped: dict[str, str]
    """Reason -> sentence about the first row dropped for it."""


def scatter_piece(task: ScatterTask) -> Scattered:
    """Scatter one piece, a block at a time; the next block is read meanwhile."""
    blocks: list[str] = []
    counts: dict[str, int] = {}
    first_dropped: dict[str, str] = {}
    # A file that cannot be divided, such as a compressed one, is a long piece.
    progress = Progress("read", every_s=30.0)
    for block in _read_ahead(read_blocks(task.piece, task.spec)):
        reasons = find_reasons(block, task.held_out)
        first_dropped = first_rows(block, reasons, task.spec) | first_dropped
        name = f"{task.index:06d}-{len(blocks):06d}"
        out_of_order = _write_block(task, name, block, np.flatnonzero(reasons == 0))
        blocks.append(name)
        dropped = count_reasons(reasons)
        num_rows = len(reasons) + block.counts["malformed_rows"]
        found = {"rows_read": num_rows, "rows_out_of_order": out_of_order, **dropped, **block.counts}
        counts = add_counts(counts, found)
        progress.say(f"{counts['rows_read']:,} rows of {task.piece.label}")
    return Scattered(blocks=tuple(blocks), counts=counts, first_dropped=first_dropped)


def add_counts(counts: dict[str, int], more: dict[str, int]) -> dict[str, int]:
    """Return the sums of both, name by name."""
    return {name: counts.get(name, 0) + more.get(name, 0) for name in (counts | more)}


def _write_block(task: ScatterTask, name: str, block: EventBlock, kept: np.ndarray) -> int:
    """Write the files of a block's usable rows; return how many of them come before an earlier row of their user."""
    names = pseudonyms(task.key, block.user.dictionary)
    by_name = np.lexsort((names[:, 1], names[:, 0]))
    rank = np.empty(len(names), np.uint64)
    rank[by_name] = np.arange(len(names), dtype=np.uint64)
    # One sort of numbers that hold both brings each user's rows together, in the order of the file.
    packed = rank[codes_of(block.user)[kept]] << np.uint64(32) | kept.astype(np.uint64)
    packed.sort()
    rows = (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)
    user = (packed >> np.uint64(32)).astype(np.int64)

    num_rows = np.bincount(user, minlength=len(names))
    codes = codes_of(block.user)
    present = np.unique(rank[codes[codes >= 0]]) if task.all_users else np.flatnonzero(num_rows)
    first = np.append(rows, 0)[(np.cumsum(num_rows) - num_rows)[present]]
    names, num_rows = names[by_name][present], num_rows[present]
    user_bounds = _bucket_bounds(names[:, 0], task.bucket_bits)
    row_bounds = np.concatenate([[0], np.cumsum(num_rows)])[user_bounds]
    columns = {column: getattr(block, column) for column in task.columns}
    data = {"micros": block.micros[rows], "week_slot": block.week_slot[rows]}
    data |= {column: codes_of(values)[rows].astype(np.int32) for column, values in columns.items()}
    write_parts(task.directory / f"{name}.rows", data, row_bounds)
    users = {"high": names[:, 0], "low": names[:, 1], "num_rows": num_rows, "first": first}
    write_parts(task.directory / f"{name}.users", users, user_bounds)
    if task.keep_ids:
        ids = block.user.dictionary.take(pa.array(by_name[present]))
        write_text_parts(task.directory / f"{name}.ids", ids, user_bounds)
    for column, values in columns.items():
        write_texts(task.directory / f"{name}.{column}", values.dictionary)
    backwards = np.diff(data["micros"]) < 0
    return int((backwards & (user[1:] == user[:-1])).sum())


def _bucket_bounds(high: np.ndarray, bucket_bits: int) -> np.ndarray:
    """Return (B + 1,) where each bucket's users begin in the ascending first halves of pseudonyms."""
    starts = np.arange(1 << bucket_bits, dtype=np.uint64) << np.uint64(64 - bucket_bits if bucket_bits else 0)
    return np.append(np.searchsorted(high, starts), len(high))


def _read_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the items while the next one is made in a thread."""
    with ThreadPoolExecutor(1, thread_name_prefix="read") as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
