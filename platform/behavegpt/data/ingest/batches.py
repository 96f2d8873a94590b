"""Columns of numbers on disk between two passes: one Arrow IPC file, one record batch for each part of the rows.

Files are read a batch at a time and never mapped: a mapped page would count as memory of this process.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa


def write_parts(path: Path, columns: Mapping[str, np.ndarray], bounds: np.ndarray) -> None:
    """Write `columns` as len(bounds) - 1 record batches: batch i holds rows bounds[i] .. bounds[i + 1].

    Args:
        columns: Name -> (R,) values.
        bounds: Row numbers, ascending, from 0 to R.
    """
    table = pa.RecordBatch.from_arrays([pa.array(values) for values in columns.values()], names=list(columns))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            writer.write_batch(table.slice(start, end - start))


def write_columns(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write `columns` as one record batch."""
    write_parts(path, columns, np.array([0, len(next(iter(columns.values())))]))


def read_part(path: Path, index: int = 0, *, columns: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Return the columns of record batch `index`, or only those named."""
    with pa.OSFile(str(path), "rb") as source:
        reader = pa.ipc.open_file(source)
        if columns is not None:
            fields = [reader.schema.get_field_index(name) for name in columns]
            reader = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=fields))
        batch = reader.get_batch(index)
    return {name: batch.column(name).to_numpy() for name in batch.schema.names}


def write_texts(path: Path, texts: pa.Array) -> None:
    """Write one array of texts."""
    write_text_parts(path, texts, np.array([0, len(texts)]))


def write_text_parts(path: Path, texts: pa.Array, bounds: np.ndarray) -> None:
    """Write texts as len(bounds) - 1 record batches, as `write_parts` does."""
    batch = pa.RecordBatch.from_arrays([texts], names=["text"])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            writer.write_batch(batch.slice(start, end - start))


def read_texts(path: Path, index: int = 0) -> pa.Array:
    """Return the texts of record batch `index`."""
    with pa.OSFile(str(path), "rb") as source:
        return pa.ipc.open_file(source).get_batch(index).column("text")
