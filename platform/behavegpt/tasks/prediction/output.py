"""The file of predictions: one row a user, in the order of the input, in row groups of one size.

In: tables of predictions, cut anyhow. Out: a Parquet file that depends on the rows alone, and what they add up to.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from behavegpt.tasks.prediction.predictor import COUNTS

ROWS_PER_GROUP = 8192


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What a file of predictions holds."""

    num_users: int
    counts: dict[str, int]
    """Sums of COUNTS."""


def output_schema(user: pa.DataType, *, top_k: int | None, width: int) -> pa.Schema:
    """Return the columns of a file of predictions.

    Args:
        user: Text for ids, uint64 for pseudonyms.
        top_k: None for embeddings, of `width` numbers.
    """
    if top_k is None:
        predicted = [pa.field("embedding", pa.list_(pa.float32(), width))]
    else:
        predicted = [
            pa.field("behaviors", pa.list_(pa.string(), top_k)),  # likeliest first
            pa.field("probabilities", pa.list_(pa.float32(), top_k)),
        ]
    counts = [pa.field(name, pa.uint8()) for name in COUNTS]  # of the events that the model read
    return pa.schema([pa.field("user", user), *predicted, *counts])


def write_predictions(path: Path, tables: Iterable[pa.Table], schema: pa.Schema) -> Written:
    """Write the tables, one after the other, in bounded memory."""
    num_users = 0
    counts: dict[str, int] = dict.fromkeys(COUNTS, 0)
    with pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer:
        for table in _cut(tables, ROWS_PER_GROUP):
            # One chunk a column, whatever it was put together from: pages end where chunks do.
            writer.write_table(table.select(schema.names).cast(schema).combine_chunks(), row_group_size=ROWS_PER_GROUP)
            num_users += table.num_rows
            counts = {name: total + int(np.sum(table[name].to_numpy())) for name, total in counts.items()}
    return Written(num_users=num_users, counts=counts)


def _cut(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """Yield the rows `size` at a time, and the rest."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        while sum(part.num_rows for part in waiting) >= size:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, size)
            waiting = [whole.slice(size)]
    if sum(part.num_rows for part in waiting):
        yield pa.concat_tables(waiting)
