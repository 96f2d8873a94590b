"""Look at the beginning of every file: which columns it has, and how it writes times.

In: one file. Out: a `Head`, or an InputError; nothing of the file beyond its first mebibyte, or footer, is read.
"""

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from behavegpt.data.sources.csv_files import Dialect, parse_csv, plain_text
from behavegpt.data.sources.csv_layout import HEAD_BYTES, csv_layout, read_first_lines
from behavegpt.data.sources.files import LogFile, open_file
from behavegpt.data.sources.ids import decode_text, is_encoded_text
from behavegpt.data.sources.json_files import find_types
from behavegpt.data.sources.lines import last_line_end
from behavegpt.data.sources.parquet_guard import check_pages, find_size_problems, open_parquet
from behavegpt.data.sources.spec import WHITESPACE, LogSpec
from behavegpt.data.sources.text_files import TextRange, one_line, to_utf8
from behavegpt.errors import InputError

_SAMPLE_ROWS = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """What the beginning of a file tells."""

    file: LogFile
    names: tuple[str, ...]
    """Its columns, in order."""
    types: dict[str, pa.DataType]
    """Of the mapped columns that it has; all text in CSV."""
    part: TextRange
    """Its rows; of Parquet, only the number of the first row counts."""
    groups: tuple[tuple[int, int], ...]
    """Rows, and bytes of the mapped columns before compression, of each row group of Parquet."""
    times: pa.Array | None
    """The first cells of the time column; None where there is no such column."""
    has_rows: bool


def read_head(file: LogFile, spec: LogSpec) -> Head:
    """Return what the beginning of a file tells.

    Raises:
        InputError: The file is not readable as its format.
    """
    readers = {"csv": _csv_head, "jsonl": _json_head, "parquet": _parquet_head}
    try:
        return readers[file.format](file, spec)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file.name}: not readable as {file.format} ({one_line(error)})") from None


def find_dialect(file: LogFile, spec: LogSpec) -> Dialect:
    """Return how the text of a CSV file of the log is put together."""
    delimiter = spec.delimiter or ("\t" if file.tabs else ",")
    return Dialect(delimiter=delimiter, quoted=spec.quoted, encoding=spec.encoding)


def mapped_columns(spec: LogSpec) -> list[str]:
    """Return the names of the columns that have a role, each once."""
    return list(dict.fromkeys(spec.columns.named().values()))


def _csv_head(file: LogFile, spec: LogSpec) -> Head:
    dialect = find_dialect(file, spec)
    names, part, text = csv_layout(file, dialect, spec.column_names)
    present = [name for name in mapped_columns(spec) if name in names]
    times = spec.columns.timestamp if spec.columns.timestamp in present else None
    sample = None
    has_rows = bool(bytes(text).strip())
    if present and has_rows:
        wanted = {times or present[0]: pa.string()}
        table, wrong = parse_csv(plain_text(text, dialect, file.name), dialect, names, wanted)
        if wrong and table.num_rows == 0:
            shown = "spaces or tabs" if dialect.delimiter == WHITESPACE else repr(dialect.delimiter)
            raise InputError(
                f"{file.name}: row {part.first_row} has {wrong[0][1]} values between its delimiters ({shown}) where "
                f"there are {len(names)} columns, and no other row has that many"
            )
        sample = table.column(0)[:_SAMPLE_ROWS].combine_chunks() if times else None
    types = dict.fromkeys(present, pa.string())
    return Head(file=file, names=names, types=types, part=part, groups=(), times=sample, has_rows=has_rows)


def _json_head(file: LogFile, spec: LogSpec) -> Head:
    text, start, whole = read_first_lines(file, spec.encoding)
    if not whole:
        text = text[: last_line_end(text, quoted=False)]
        if len(text) == 0:
            raise InputError(f"{file.name}: row 1 does not end within {HEAD_BYTES >> 20} MiB")
    utf8 = bytes(to_utf8(text, spec.encoding, file.name, 1, quoted=False))
    rows = [_json_object(line) for line in utf8.split(b"\n")[:_SAMPLE_ROWS]]
    found = find_types(rows)
    if utf8.strip() and not found:
        raise InputError(f"{file.name}: none of the first {len(rows):,} lines is a JSON object with fields")
    types = {name: found[name] or pa.string() for name in mapped_columns(spec) if name in found}
    name = spec.columns.timestamp
    times = pa.array([_cell(row, name, types[name]) for row in rows], types[name]) if name in types else None
    part = TextRange(start=start, stop=None, first_row=1)
    return Head(
        file=file, names=tuple(found), types=types, part=part, groups=(), times=times, has_rows=bool(utf8.strip())
    )


def _parquet_head(file: LogFile, spec: LogSpec) -> Head:
    with open_file(file) as source:
        parquet, footer = open_parquet(source, file.name)
        schema = parquet.schema_arrow
        present = [name for name in mapped_columns(spec) if schema.names.count(name) == 1]
        problems = find_size_problems(footer, present, file.name)
        if problems:
            raise InputError(*problems)
        name, times = spec.columns.timestamp, None
        first = next((number for number, group in enumerate(footer.groups) if group.num_rows), None)
        if name in present and first is not None:
            check_pages(source, footer, first, [name], file.name)
            batches = parquet.iter_batches(_SAMPLE_ROWS, row_groups=[first], columns=[name], use_threads=False)
            batch = next(batches, None)
            if batch is None:
                raise InputError(f"{file.name}: row group {first} holds no row where it claims some")
            batch.validate(full=True)
            times = decode_text(batch.column(0)) if is_encoded_text(batch.schema[0].type) else batch.column(0)
    groups = tuple(
        (group.num_rows, sum(c.unpacked_bytes for column, c in group.chunks.items() if column in present))
        for group in footer.groups
    )
    return Head(
        file=file,
        names=tuple(schema.names),
        types={name: schema.field(name).type for name in present},
        part=TextRange(start=0, stop=None, first_row=1),
        groups=groups,
        times=times,
        has_rows=first is not None,
    )


def _json_object(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _cell(row: dict[str, Any], name: str, kind: pa.DataType) -> object:
    """Return a cell of the sample; None where it is of another type than the first ones, or too large for it."""
    try:
        return pa.scalar(row.get(name), kind).as_py()
    except (pa.ArrowException, OverflowError, TypeError):
        return None
