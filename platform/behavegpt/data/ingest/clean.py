"""Pass 2: bring the events of one bucket in order, and drop duplicates and users with a single event.

In: the bucket's part of every block. Out: in scratch, `.rows` (sorted by user, then time, ties broken by the values, so
that the input's order leaves no trace) and `.users` (pseudonym and number of events), and what was counted.

Legend: R rows of the bucket, U users of the bucket.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from behavegpt.data.ingest.batches import read_part, write_columns
from behavegpt.data.ingest.values import read_codes
from behavegpt.errors import InputError

MICROS = 1_000_000
HOUR_S = 3600
LONG_GAP_S = 30 * 86_400


@dataclass(frozen=True, kw_only=True, slots=True)
class CleanTask:
    """One bucket."""

    index: int
    blocks: tuple[str, ...]
    columns: tuple[str, ...]
    scattered: Path
    """Directory of the blocks."""
    cleaned: Path
    """Directory for the bucket's clean files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cleaned:
    """What became of one bucket."""

    index: int
    counts: dict[str, int]
    first_hour: int
    """Hours since 1970 UTC of the bucket's first event."""
    events_per_hour: np.ndarray
    """Number of events in each hour from the first on."""
    first: int
    """Seconds since 1970 UTC of the first event, and of the last."""
    last: int
    num_users: int


def clean_bucket(task: CleanTask) -> Cleaned:
    """Clean one bucket; one that has no users left writes nothing."""
    users, rows = read_bucket(task)
    order, counts = sort_events(rows)
    single = np.bincount(rows["user"][order], minlength=len(users)) == 1
    order = order[~single[rows["user"][order]]]
    user = rows["user"][order]
    num_events = np.bincount(user, minlength=len(users))
    present = np.flatnonzero(num_events)
    counts |= {"users_with_one_event": int(single.sum()), "events_kept": len(order), "users": len(present)}
    behavior = rows.get("behavior", rows["event"])[order]
    counts["missing_behavior"] = int((behavior < 0).sum())
    if not len(order):
        return Cleaned(
            index=task.index, counts=counts, first_hour=0, events_per_hour=np.zeros(0), first=0, last=0, num_users=0
        )
    seconds = rows["micros"][order] // MICROS
    counts["gaps_over_30_days"] = int(((np.diff(seconds) > LONG_GAP_S) & (user[1:] == user[:-1])).sum())
    kept = {"seconds": seconds} | {name: rows[name][order] for name in ("week_slot", *task.columns)}
    write_columns(task.cleaned / f"{task.index:06d}.rows", kept)
    clean_users = {"user": users[present], "num_events": num_events[present]}
    write_columns(task.cleaned / f"{task.index:06d}.users", clean_users)
    hours = seconds // HOUR_S
    first_hour = int(hours.min())
    return Cleaned(
        index=task.index,
        counts=counts,
        first_hour=first_hour,
        events_per_hour=np.bincount(hours - first_hour),
        first=int(seconds.min()),
        last=int(seconds.max()),
        num_users=len(present),
    )


def read_clean(directory: Path, index: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return a clean bucket: columns user and num_events (U,), and columns seconds, week_slot and codes (R,)."""
    return read_part(directory / f"{index:06d}.users"), read_part(directory / f"{index:06d}.rows")


def read_bucket(task: CleanTask) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the (U,) pseudonyms, ascending, and the rows' columns, with `user` as an index into them."""
    users = [read_part(task.scattered / f"{name}.users", task.index) for name in task.blocks]
    high, low, num_rows = (np.concatenate([part[c] for part in users]) for c in ("high", "low", "num_rows"))
    distinct, first, rank = np.unique(high, return_index=True, return_inverse=True)
    if (low[first][rank] != low).any():
        raise InputError("--key-file: two users have the same pseudonym of 8 bytes under this key; use another key")
    parts = [_read_rows(task, name) for name in task.blocks]
    rows = {column: np.concatenate([part.pop(column) for part in parts]) for column in list(parts[0])}
    return distinct, rows | {"user": np.repeat(rank, num_rows)}


def _read_rows(task: CleanTask, name: str) -> dict[str, np.ndarray]:
    rows = read_part(task.scattered / f"{name}.rows", task.index)
    for column in task.columns:
        rows[column] = read_codes(task.scattered, name, column)[rows[column]]
    return rows


def sort_events(rows: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, int]]:
    """Return the rows by user and time without duplicates, and how many those were."""
    key = _time_key(rows)
    # Not stable, and three times as fast; equal keys are put in order afterwards.
    order = np.argsort(key)
    tied = key[order[1:]] == key[order[:-1]]
    within = np.flatnonzero(np.append(tied, False) | np.append(False, tied)) if len(order) else order
    ties = ["micros", *(c for c in ("event", "behavior", "location") if c in rows), "week_slot"]
    candidates = order[within]
    order[within] = candidates[np.lexsort([rows[c][candidates] for c in reversed(ties)] + [key[candidates]])]

    second = np.flatnonzero(tied) + 1
    this, previous = order[second], order[second - 1]
    repeats = np.logical_and.reduce([rows[c][this] == rows[c][previous] for c in ties])
    distinct = np.ones(len(order), bool)
    distinct[second[repeats]] = False
    return order[distinct], {"duplicates": int(repeats.sum())}


def _time_key(rows: dict[str, np.ndarray]) -> np.ndarray:
    """Return (R,) uint64 that sort by user, then second."""
    if not len(rows["micros"]):
        return np.zeros(0, np.uint64)
    seconds = rows["micros"] // MICROS
    seconds -= seconds.min()
    bits = int(seconds.max()).bit_length()
    assert int(rows["user"].max()).bit_length() + bits <= 64
    return rows["user"].astype(np.uint64) << np.uint64(bits) | seconds.astype(np.uint64)
