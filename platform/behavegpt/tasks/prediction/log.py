"""The histories of a raw log's users: of each the last 90 usable events, in the order in which users first appear.

In: a log, the vocabulary of a model, scratch. Out: a source of histories, and counts. The log is read, put in order and
freed of duplicates by the passes of data/ingest, a bucket of users at a time, so memory does not grow with it; nothing
is learned from it. What first appears is a user's first usable row: files by name, rows as they lie in them.

Legend: R events and U users of a bucket, V distinct values of a column, I = NUM_INPUTS positions.
"""

# Arrow makes its compute functions at import, where a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavegpt.data.arrays import load_array
from behavegpt.data.ingest.batches import read_part, read_texts, write_texts
from behavegpt.data.ingest.clean import CleanTask, read_bucket, sort_events
from behavegpt.data.ingest.count import FOLDED, SLOTS_PER_DAY
from behavegpt.data.ingest.executor import Executor
from behavegpt.data.ingest.job import Job
from behavegpt.data.ingest.options import IngestOptions
from behavegpt.data.ingest.passes import merge_log_values, scatter_log
from behavegpt.data.ingest.pseudonyms import KEY_BYTES
from behavegpt.data.ingest.scatter import add_counts
from behavegpt.data.sources.plan import plan_pieces
from behavegpt.data.sources.spec import LogSpec
from behavegpt.data.vocab import folded_events
from behavegpt.errors import InputError
from behavegpt.schema import FEATURES, FIRST_KNOWN_ID, NUM_INPUTS, OTHER_ID, PADDING_ID
from behavegpt.tasks.prediction.histories import to_table

USERS_PER_READ = 1 << 15
"""Some 20 MB of histories; as many are put together at a time."""
BLOCK_SHIFT = 32
"""Where the number of a block begins in a place of the log; below it is that of the row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogSource:
    """Buckets of histories on disk."""

    directory: Path
    buckets: tuple[int, ...]
    kind: np.dtype
    """Of a history's record: its length, and (I,) of FEATURES."""
    places: np.ndarray
    """(num_reads,) int64 place in the log of the first user of each read, rising."""
    num_users: int

    @property
    def num_reads(self) -> int:
        """Return the number of parts of USERS_PER_READ users."""
        return len(self.places)

    def read(self, index: int) -> pa.Table:
        """Return the histories of some users."""
        begin, end = np.append(self.places, np.iinfo(np.int64).max)[index : index + 2]
        parts = [self._read_slice(self.directory / f"{bucket:06d}", begin, end) for bucket in self.buckets]
        places, records = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        users, order = pa.concat_arrays([part[2] for part in parts]), np.argsort(places)
        columns = {name: records[name][order] for name in FEATURES}
        return to_table(users.take(pa.array(order)), columns, records["length"][order])

    def _read_slice(self, path: Path, begin: int, end: int) -> tuple[np.ndarray, np.ndarray, pa.Array]:
        """Return the places, records and users of a bucket whose place is in [begin, end)."""
        places = load_array(Path(f"{path}.places.npy"))
        first, last = np.searchsorted(places, [begin, end]).tolist()
        size = self.kind.itemsize
        records = np.fromfile(f"{path}.records", self.kind, count=last - first, offset=first * size)
        # Mapped, and left when the users are taken together: memory holds a slice, whatever the size of the bucket.
        with pa.memory_map(f"{path}.users") as file:
            users = pa.ipc.open_file(file).get_batch(0).column(0).slice(first, last - first)
        return np.array(places[first:last]), records, users


def read_log(
    spec: LogSpec,
    values: Mapping[str, Sequence[str]],
    work: Path,
    *,
    key: bytes | None,
    options: IngestOptions,
    run: Executor,
) -> tuple[LogSource, dict[str, int]]:
    """Read a log into histories.

    Args:
        values: The vocabulary of the model, as `Served` has it.
        work: Scratch, which must stay while the source is read.
        key: Of the pseudonyms by which users are named; without it, by their ids.
        options: Of which max_dropped, memory_gb and num_workers count.

    Raises:
        InputError: The log or its mapping is wrong, or no user has a usable event.
    """
    job = Job(spec=spec, options=options, run=run, work=work)
    # Without a key of the user's, a passing one spreads the users over the buckets.
    taken = key or secrets.token_bytes(KEY_BYTES)
    blocks, num_buckets, counts = scatter_log(job, plan_pieces(spec), taken, all_users=True, keep_ids=key is None)
    texts = merge_log_values(job, blocks)
    ids = {name: number_texts(texts[name], values[name]) for name in ("event", "location") if name in texts}
    if "behavior" in texts and (folded := folded_events(values["event"], set(values["behavior"]))):
        ids[FOLDED] = number_folded(texts["behavior"], folded)
    job.cleaned.mkdir()
    places, found = [], {}
    tasks = [
        CleanTask(index=index, blocks=blocks, columns=job.columns, scattered=job.scattered, cleaned=job.cleaned)
        for index in range(num_buckets)
    ]
    for of_bucket, of_counts in run(partial(_gather_bucket, ids, key is None), tasks, "gather"):
        places.append(of_bucket)
        found = add_counts(found, of_counts)
    shutil.rmtree(job.scattered)
    every = np.sort(np.concatenate(places))
    if not len(every):
        raise InputError(f"--input {' '.join(spec.inputs)}: no user has a usable event")
    source = LogSource(
        directory=job.cleaned,
        buckets=tuple(index for index, of_bucket in enumerate(places) if len(of_bucket)),
        kind=_kind(ids),
        places=every[::USERS_PER_READ].copy(),
        num_users=len(every),
    )
    return source, counts | found


def number_texts(texts: pa.Array, values: Sequence[str]) -> np.ndarray:
    """Return (V + 1,) the id of each text, OTHER_ID where the vocabulary does not have it; the last is PADDING_ID."""
    at = pc.index_in(texts, value_set=pa.array(values, pa.string()))
    ids = pc.fill_null(pc.add(at, FIRST_KNOWN_ID), OTHER_ID).to_numpy(zero_copy_only=False)
    return np.append(ids, PADDING_ID).astype(np.min_scalar_type(FIRST_KNOWN_ID + len(values)))


def number_folded(behaviors: pa.Array, folded: Mapping[str, int]) -> np.ndarray:
    """Return (B + 1,) the id of an event that has none of its own, by the code of its behaviour; -1 is a missing one.

    Args:
        behaviors: (B,) texts.
        folded: As `folded_events` has it.
    """
    at = pc.index_in(behaviors, value_set=pa.array(list(folded), pa.string())).fill_null(len(folded))
    ids = np.array([*folded.values(), OTHER_ID])[at.to_numpy(zero_copy_only=False)]
    return np.append(ids, OTHER_ID)


def _kind(ids: Mapping[str, np.ndarray]) -> np.dtype:
    of_feature = {name: ids[name].dtype if name in ids else np.dtype(np.uint8) for name in FEATURES}
    return np.dtype([("length", np.uint8), *((name, kind, NUM_INPUTS) for name, kind in of_feature.items())])


def _gather_bucket(ids: Mapping[str, np.ndarray], named: bool, task: CleanTask) -> tuple[np.ndarray, dict[str, int]]:
    """Write the histories of one bucket by place; return the places at which its U users first appear, and counts."""
    _, rows = read_bucket(task)
    order, counts = sort_events(rows)
    places, rank, names, without = _read_users(task, named)
    counts |= {"users": len(places), "users_without_usable_event": without}
    if not len(places):
        return places, counts
    columns = {name: codes[rows[name][order]] for name, codes in ids.items() if name != FOLDED}
    if FOLDED in ids:
        of_behavior = ids[FOLDED][rows["behavior"][order]].astype(columns["event"].dtype)
        columns["event"] = np.where(columns["event"] == OTHER_ID, of_behavior, columns["event"])
    week_slot = rows["week_slot"][order]
    columns["weekday"], columns["slot"] = week_slot // SLOTS_PER_DAY + 1, week_slot % SLOTS_PER_DAY + 1
    end = np.cumsum(np.bincount(rows["user"][order]))
    begin = np.maximum(np.append(0, end[:-1]), end - NUM_INPUTS)
    path = task.cleaned / f"{task.index:06d}"
    with open(f"{path}.records", "wb") as file:
        for first in range(0, len(places), USERS_PER_READ):
            of = rank[first : first + USERS_PER_READ]
            _gather(columns, begin[of], end[of], _kind(ids)).tofile(file)
    np.save(f"{path}.places.npy", places)
    write_texts(Path(f"{path}.users"), names)
    return places, counts


def _gather(columns: Mapping[str, np.ndarray], begin: np.ndarray, end: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Return the records of the users whose last events are the rows begin .. end (exclusive), in order of time."""
    source = begin[:, None] + np.arange(NUM_INPUTS)
    inside = source < end[:, None]
    source = np.where(inside, source, 0)
    records = np.zeros(len(begin), kind)
    records["length"] = end - begin
    for name, values in columns.items():
        records[name] = np.where(inside, values[source], PADDING_ID)
    return records


def _read_users(task: CleanTask, named: bool) -> tuple[np.ndarray, np.ndarray, pa.Array, int]:
    """Return the U users of a bucket that have usable rows, by the place at which they first appear, and who has none.

    Returns:
        (U,) places; (U,) rank of each among all pseudonyms of the bucket; (U,) ids if `named`, else pseudonyms; the
        number of users without a usable row.
    """
    paths = [task.scattered / name for name in task.blocks]
    parts = [read_part(Path(f"{path}.users"), task.index) for path in paths]
    high, first, num_rows = (np.concatenate([part[name] for part in parts]) for name in ("high", "first", "num_rows"))
    block = np.repeat(np.arange(len(parts)), [len(part["high"]) for part in parts])
    every, usable = np.unique(high), np.flatnonzero(num_rows)
    # Blocks lie in the order of the log, so the first entry of a user is where the user first appears.
    users, entry = np.unique(high[usable], return_index=True)
    entry = usable[entry]
    places = (block[entry] << BLOCK_SHIFT) | first[entry]
    order = np.argsort(places)
    names = pa.array(high)
    if named:
        names = pa.concat_arrays([read_texts(Path(f"{path}.ids"), task.index) for path in paths])
    rank = np.searchsorted(every, users)
    return places[order], rank[order], names.take(pa.array(entry[order])), len(every) - len(users)
