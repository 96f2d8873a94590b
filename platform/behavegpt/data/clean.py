"""Clean a raw log: drop rows that cannot be used, each counted under one reason, and bring the rest in order.

In: the log's columns as files have them. Out: `Events`, sorted by (user, time) with ties broken by the values, so that
the order of the rows in the file leaves no trace; and user numbers that say nothing about the users' ids.
"""

# Arrow makes its compute functions at import, where a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavegpt.data.logs import Columns, Log, id_text
from behavegpt.data.times import MICROS, Times
from behavegpt.errors import InputError

MISSING = -1
"""The code of a value that is absent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ids:
    """One column of ids, dictionary-coded."""

    codes: np.ndarray
    """(R,) int32 index into values, or MISSING where the cell is empty or blank."""
    values: pa.Array
    """Distinct texts in ascending order of their UTF-8 bytes, so that codes order rows as values do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Events:
    """R usable rows, sorted by user, then time; users are numbered 0, 1, ... without gaps."""

    user: np.ndarray
    """(R,) pseudonymous index."""
    seconds: np.ndarray
    """(R,) int64 since 1970 UTC, rounded down."""
    event: np.ndarray
    """(R,) codes, like behavior and location."""
    behavior: np.ndarray
    location: np.ndarray

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Complete rows before they are sorted; the fields in the order in which they sort."""

    user: np.ndarray
    micros: np.ndarray
    event: np.ndarray
    behavior: np.ndarray
    location: np.ndarray

    def take(self, rows: np.ndarray) -> "_Rows":
        return _Rows(**{name: column[rows] for name, column in self.columns().items()})

    def columns(self) -> dict[str, np.ndarray]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


def encode_ids(text: pa.ChunkedArray) -> Ids:
    """Return a text column as codes; blank cells are missing, every other text stays exactly as it is."""
    encoded = text.dictionary_encode().combine_chunks()
    values = encoded.dictionary
    order = pc.array_sort_indices(values).to_numpy()
    rank = np.empty(len(values) + 1, np.int32)
    rank[order] = np.arange(len(values))
    blank = pc.equal(pc.utf8_trim_whitespace(values), "").to_numpy(zero_copy_only=False)
    rank[:-1][blank] = MISSING
    rank[-1] = MISSING
    indices = pc.fill_null(encoded.indices, len(values)).to_numpy(zero_copy_only=False)
    return Ids(codes=rank[indices], values=values.take(pa.array(order)))


def clean(log: Log, columns: Columns, times: Times, seed: int) -> tuple[Events, dict[str, pa.Array], dict[str, int]]:
    """Return the usable events, the values behind their codes by column, and the counts of what was dropped.

    A row counts under the first reason that applies: no user, no time, no event, a duplicate of another row in every
    mapped column, the only row of its user (no event follows, so there is nothing to predict).

    Raises:
        InputError: Fewer than two users have at least two events.
    """
    ids = {name: encode_ids(id_text(log, c)) for name, c in columns.resolved().items() if c is not None}
    users = encode_ids(id_text(log, columns.user)).codes
    num_rows = log.table.num_rows
    location = ids["location"].codes if "location" in ids else np.full(num_rows, MISSING, np.int32)
    rows = _Rows(users, times.micros, ids["event"].codes, ids["behavior"].codes, location)
    rows, counts = _drop_incomplete(rows, times.missing)
    rows = rows.take(np.lexsort(list(reversed(rows.columns().values()))))
    rows, counts["duplicates"] = _drop_duplicates(rows)
    rows, counts["users_with_one_event"] = _drop_single_events(rows)
    events = _number_users(rows, seed)
    counts |= {"events_kept": len(events), "missing_behavior": int((events.behavior == MISSING).sum())}
    counts["users"] = int(events.user[-1]) + 1 if len(events) else 0
    if counts["users"] < 2:
        raise InputError(
            f"--user {columns.user}: in the {num_rows:,} rows of {log.path}, the users with two events or more number "
            f"{counts['users']}; at least 2 are needed (dropped: {_dropped(counts)})"
        )
    return events, {name: column.values for name, column in ids.items()}, {"rows_read": num_rows, **counts}


def _drop_incomplete(rows: _Rows, no_time: np.ndarray) -> tuple[_Rows, dict[str, int]]:
    no_user, no_event = rows.user == MISSING, rows.event == MISSING
    reason = np.select([no_user, no_time, no_event], [1, 2, 3], default=0)
    _, user, time, event = np.bincount(reason, minlength=4).tolist()
    return rows.take(reason == 0), {"missing_user": user, "missing_time": time, "missing_event": event}


def _drop_duplicates(rows: _Rows) -> tuple[_Rows, int]:
    """Keep the first of equal neighbours in sorted rows."""
    repeats = np.zeros(len(rows.user), bool)
    repeats[1:] = np.logical_and.reduce([c[1:] == c[:-1] for c in rows.columns().values()])
    return rows.take(~repeats), int(repeats.sum())


def _drop_single_events(rows: _Rows) -> tuple[_Rows, int]:
    single = np.bincount(rows.user, minlength=1) == 1
    return rows.take(~single[rows.user]), int(single.sum())


def _number_users(rows: _Rows, seed: int) -> Events:
    """Return the events with users numbered by a seeded permutation, in the order of the numbers."""
    distinct, user = np.unique(rows.user, return_inverse=True)
    user = np.random.default_rng([seed, len(distinct)]).permutation(len(distinct))[user]
    rows = rows.take(np.argsort(user, kind="stable"))
    return Events(
        user=np.sort(user),
        seconds=rows.micros // MICROS,
        event=rows.event,
        behavior=rows.behavior,
        location=rows.location,
    )


def _dropped(counts: dict[str, int]) -> str:
    reasons = ("missing_user", "missing_time", "missing_event", "duplicates", "users_with_one_event")
    return ", ".join(f"{counts[r]:,} {r.replace('_', ' ')}" for r in reasons)
