"""Columns of a table file: a .csv or .parquet file in, Arrow columns as numbers or safe text out, or what is wrong."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from behavegpt.errors import InputError, did_you_mean

_MAX_PROBLEMS = 20


def read_arrow(path: Path) -> pa.Table:
    """Return the whole file as an Arrow table, or say what is wrong with it."""
    name = path.name.lower()
    if not path.exists():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file.{did_you_mean(path.name, siblings)}")
    if path.is_dir():
        raise InputError(f"{path}: is a directory; give the table inside it, such as {path / 'results.parquet'}.")
    if not name.endswith((".csv", ".csv.gz", ".parquet")):
        raise InputError(f"{path}: a table's name must end in .csv, .csv.gz or .parquet.")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty.")
    try:
        table = pq.read_table(path) if name.endswith(".parquet") else pa_csv.read_csv(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        kind = "Parquet" if name.endswith(".parquet") else "CSV"
        # Arrow quotes the bytes it stumbled over, which need not be text.
        why = "".join(letter for letter in str(error) if letter.isprintable() and letter != "\ufffd")[:200]
        raise InputError(f"{path}: cannot be read as {kind}: {why}") from error
    if table.num_rows == 0:
        raise InputError(f"{path}: the table has no rows.")
    return table


def numbers(path: Path, table: pa.Table, name: str) -> np.ndarray:
    """Return a column as float64, NaN where it is null."""
    column = table.column(name)
    kind = column.type
    if _is_number(kind):
        return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(f"{path}: column {name!r} holds {kind}, not numbers.")
    values, problems = np.full(table.num_rows, math.nan), []
    for row, text in enumerate(column.to_pylist()):
        try:
            values[row] = float((text or "").strip() or "nan")
        except ValueError:
            problems.append(f"{path}: row {row + 1}: {name} is {str(text)[:60]!r}, not a number.")
    raise_all(problems)
    return values


def optional(path: Path, table: pa.Table, name: str, default: float) -> np.ndarray:
    """Return a column that a table may have; one of another kind is not ours, whatever its name."""
    known = table.column_names.count(name) == 1 and _is_number(table.schema.field(name).type)
    return numbers(path, table, name) if known else np.full(table.num_rows, default)


def labels(table: pa.Table, name: str) -> list[str]:
    """Return a column as text that is safe to print: control characters could steer a terminal."""
    texts = ["" if value is None else str(value) for value in table.column(name).to_pylist()]
    return ["".join(letter if letter.isprintable() else "?" for letter in text) for text in texts]


def missing(path: Path, table: pa.Table, name: str, flag: str) -> list[str]:
    """Return what is wrong with a column that the user named; empty when it is there once."""
    if table.column_names.count(name) == 1:
        return []
    often = "is there more than once" if name in table.column_names else "is not in the table"
    hint = did_you_mean(name, set(table.column_names) - {name})
    return [f"{path}: column {name!r} ({flag}) {often}; it has {table.column_names}.{hint}"]


def raise_all(problems: list[str]) -> None:
    """Raise the problems at once, the first twenty of them."""
    if len(problems) > _MAX_PROBLEMS:
        problems = [*problems[:_MAX_PROBLEMS], f"... and {len(problems) - _MAX_PROBLEMS} more."]
    if problems:
        raise InputError(*problems)


def _is_number(kind: pa.DataType) -> bool:
    return (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    )
