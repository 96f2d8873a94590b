"""Read the columns of a raw behaviour log that the user named: one CSV or Parquet file, one event a row.

In: a path and which column means what. Out: an Arrow table of those columns, ids as text (007 stays 007), times as
the file has them; clean.py and times.py take it from there. No message repeats a row: rows hold user ids.
"""

# Arrow makes its compute functions at import, where a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import csv
import gzip
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from behavegpt.errors import InputError, did_you_mean

SUFFIXES = (".csv", ".csv.gz", ".parquet")


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Which column of the log holds what."""

    user: str
    """Who acted. The values are replaced by a pseudonymous index and written nowhere."""
    timestamp: str
    event: str
    """What happened; its values are stored in the dataset's vocabulary."""
    behavior: str | None = None
    """The class to predict, stored too; without it, the event itself."""
    location: str | None = None
    """Where it happened, stored too; without it, every location is missing."""

    def named(self) -> dict[str, str]:
        """Return role -> column name, for the roles that have a column."""
        return {role: name for role, name in asdict(self).items() if name is not None}

    def resolved(self) -> dict[str, str | None]:
        """Return the column of event, behavior and location, with the default for behavior filled in."""
        return {"event": self.event, "behavior": self.behavior or self.event, "location": self.location}


@dataclass(frozen=True, kw_only=True, slots=True)
class Log:
    """The mapped columns of one file."""

    path: Path
    table: pa.Table
    first_row: int
    """Number of the table's first row in the file: 2 below a CSV header, 1 in Parquet."""

    def at(self, column: str, row: int) -> str:
        """Return 'file: column x, row n' for a message about the table's row at index `row`."""
        return f"{self.path}: column {column!r}, row {row + self.first_row}"


def find_mapping_problems(path: Path, columns: Columns) -> list[str]:
    """Return every problem of the file's name and of the mapping onto its columns; an empty list when all is well."""
    suffix = _suffix(path)
    if suffix is None:
        return [f"--input {path}: not a log; a log's name ends in {', '.join(SUFFIXES)}"]
    if not path.is_file():
        siblings = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
        return [f"--input {path}: no such file.{did_you_mean(path.name, siblings)}"]
    try:
        present = pq.read_schema(path).names if suffix == ".parquet" else _csv_header(path)
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        return [f"{path}: not readable as {suffix} ({_without_row(error)})"]
    return [*_column_problems(path, columns, present), *_privacy_problems(columns)]


def read_log(path: Path, columns: Columns) -> Log:
    """Return the mapped columns of the log at `path`.

    Raises:
        InputError: The file is missing or unreadable, or lacks a mapped column; names all of them.
    """
    problems = find_mapping_problems(path, columns)
    if problems:
        raise InputError(*problems)
    names = list(dict.fromkeys(columns.named().values()))
    parquet = _suffix(path) == ".parquet"
    try:
        table = _read_parquet(path, names) if parquet else _read_csv(path, names)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not readable ({_without_row(error)})") from None
    if table.num_rows == 0:
        raise InputError(f"{path}: has columns but no rows")
    return Log(path=path, table=table, first_row=1 if parquet else 2)


def id_text(log: Log, column: str) -> pa.ChunkedArray:
    """Return an id column as text.

    Raises:
        InputError: The column is neither text nor numbers.
    """
    values = log.table[column]
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
        # A column of integers with gaps comes out of pandas as floats: 7.0 is the id 7.
        whole = pc.and_(pc.equal(pc.trunc(values), values), pc.less(pc.abs(values), 2**53))
        values = values.cast(pa.int64()) if pc.all(whole, min_count=0).as_py() else values
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return values
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return values.cast(pa.string())
    raise InputError(f"{log.path}: column {column!r} has type {kind}; an id column holds text or integers")


def _suffix(path: Path) -> str | None:
    return next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)


def _csv_header(path: Path) -> list[str]:
    opened = gzip.open if _is_gzip(path) else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), None)
    if header is None:
        raise EOFError("the file is empty")
    return header


def _column_problems(path: Path, columns: Columns, present: list[str]) -> Iterator[str]:
    shown = ", ".join(repr(name) for name in present[:12]) + (", ..." if len(present) > 12 else "")
    for role, name in columns.named().items():
        if name not in present:
            yield f"--{role} {name}: {path} has no such column; it has {shown}.{did_you_mean(name, present)}"
        elif present.count(name) > 1:
            yield f"--{role} {name}: {path} has {present.count(name)} columns of that name; rename all but one"


def _privacy_problems(columns: Columns) -> Iterator[str]:
    for role, name in columns.named().items():
        if role != "user" and name == columns.user:
            yield f"--{role} {name}: is the --user column too; user ids are never stored, so map another column"


def _read_parquet(path: Path, names: list[str]) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read(columns=names)


def _read_csv(path: Path, names: list[str]) -> pa.Table:
    parse = pacsv.ParseOptions(newlines_in_values=True)
    convert = pacsv.ConvertOptions(include_columns=names, column_types=dict.fromkeys(names, pa.string()))

    def read(*, use_threads: bool) -> pa.Table:
        options = pacsv.ReadOptions(use_threads=use_threads)
        with pa.input_stream(str(path), compression="gzip" if _is_gzip(path) else None) as stream:
            return pacsv.read_csv(stream, read_options=options, parse_options=parse, convert_options=convert)

    try:
        return read(use_threads=True)
    except pa.ArrowInvalid:
        # Only the serial reader can name the row.
        return read(use_threads=False)


def _is_gzip(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _without_row(error: Exception) -> str:
    """Return the error's message up to the text of the offending row, which Arrow appends."""
    return re.sub(r"(columns, got \d+):.*", r"\1", str(error), flags=re.DOTALL)
