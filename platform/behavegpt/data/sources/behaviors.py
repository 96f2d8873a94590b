"""A second file that says which behaviour an event is.

In: a table of events and behaviours. Out: the behaviour of every row's event, found once per distinct event.
"""

# Arrow makes its compute functions at import, where a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavegpt.data.sources.csv_files import Dialect, read_csv
from behavegpt.data.sources.csv_layout import csv_layout
from behavegpt.data.sources.files import find_files
from behavegpt.data.sources.ids import ID_TYPE, encode_ids
from behavegpt.data.sources.spec import BehaviorTable
from behavegpt.errors import InputError, did_you_mean


@dataclass(frozen=True, kw_only=True, slots=True)
class Behaviors:
    """Which behaviour an event is."""

    events: pa.Array
    """Distinct texts."""
    behaviors: pa.DictionaryArray
    """The behaviour of each."""


def read_behaviors(table: BehaviorTable) -> Behaviors:
    """Return the events and behaviours of a table; rows without one of them say nothing.

    Raises:
        InputError: The table cannot be read, lacks a column, or gives an event two behaviours.
    """
    files, problems = find_files((table.input,), "csv")
    if problems or len(files) != 1:
        shown = [problem.replace("--input", "--behavior-table") for problem in problems]
        raise InputError(*(shown or [f"--behavior-table {table.input}: must be one file, not {len(files)}"]))
    file = files[0]
    dialect = Dialect(delimiter=table.delimiter or ("\t" if file.tabs else ","), quoted=True, encoding=table.encoding)
    names, part, _ = csv_layout(file, dialect, table.column_names)
    missing = [
        f"--behavior-table {file.name}: has no column {name!r}.{did_you_mean(name, names)}"
        for name in (table.event, table.behavior)
        if name not in names
    ]
    if missing:
        raise InputError(*missing)
    types = dict.fromkeys((table.event, table.behavior), ID_TYPE)
    blocks = list(read_csv(file, part, dialect, names, types, 32 << 20))
    bad = next((block.first_malformed for block in blocks if block.first_malformed), None)
    if bad:
        raise InputError(bad)
    rows = [
        pa.table([encode_ids(block.table[c].combine_chunks()).cast(pa.string()) for c in types], ["event", "behavior"])
        for block in blocks
    ]
    pairs = pa.concat_tables(rows) if rows else pa.table({"event": pa.array([], pa.string()), "behavior": []})
    pairs = pairs.drop_null().group_by(["event", "behavior"]).aggregate([]).sort_by([("event", "ascending")])
    return _distinct(pairs, file.name)


def encode_behaviors(event: pa.DictionaryArray, behaviors: Behaviors) -> tuple[pa.DictionaryArray, int]:
    """Return the behaviour of every row's event, and how many rows have an event without one."""
    entry = pc.index_in(event.dictionary, behaviors.events)
    code = behaviors.behaviors.indices.take(entry).take(event.indices)
    encoded = pa.DictionaryArray.from_arrays(code, behaviors.behaviors.dictionary)
    return encoded, code.null_count - event.indices.null_count


def _distinct(pairs: pa.Table, name: str) -> Behaviors:
    events = pairs["event"].combine_chunks()
    counted = events.value_counts()
    twice = np.asarray(counted.field("counts")) > 1
    if twice.any():
        shown = ", ".join(repr(event) for event in counted.field("values").filter(pa.array(twice))[:5].to_pylist())
        raise InputError(
            f"--behavior-table {name}: gives {twice.sum():,} events several behaviours ({shown}); one each"
        )
    if len(events) == 0:
        raise InputError(f"--behavior-table {name}: holds no event with a behaviour")
    return Behaviors(events=events, behaviors=pairs["behavior"].combine_chunks().dictionary_encode())
