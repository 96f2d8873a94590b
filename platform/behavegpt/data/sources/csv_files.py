"""Read CSV: values between delimiters, a row a line.

In: blocks of text. Out: tables of the wanted columns; rows with another number of values are skipped and counted.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from behavegpt.data.sources.files import LogFile
from behavegpt.data.sources.spec import WHITESPACE
from behavegpt.data.sources.text_files import (
    Place,
    RawBlock,
    TextRange,
    blank_rows,
    one_line,
    refuse_wrong_utf8,
    text_blocks,
    to_utf8,
)
from behavegpt.errors import InputError

UNIT_SEPARATOR = b"\x1f"
"""Stands in for delimiters of several characters, which Arrow does not read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """How the text of a CSV file is put together."""

    delimiter: str
    """One character or more, or WHITESPACE."""
    quoted: bool
    encoding: str


def read_csv(
    file: LogFile,
    part: TextRange,
    dialect: Dialect,
    names: tuple[str, ...],
    types: Mapping[str, pa.DataType],
    block_bytes: int,
) -> Iterator[RawBlock]:
    """Yield the wanted columns of a piece of a CSV file.

    Args:
        names: Of all the file's columns, in order.
        types: The wanted columns; of a type other than text, a column is read as text from the block on where it fails.

    Raises:
        InputError: The text cannot be read on; names file and row.
    """
    quoted = dialect.quoted
    place = Place(row=part.first_row)
    for text in text_blocks(file, part, place, block_bytes, quoted=quoted):
        first_row = place.row
        blank = blank_rows(text, quoted=quoted)
        plain = plain_text(to_utf8(text, dialect.encoding, file.name, first_row, quoted=quoted), dialect, file.name)
        try:
            table, wrong = parse_csv(plain, dialect, names, types)
        except pa.ArrowInvalid:
            refuse_wrong_utf8(plain, file.name, first_row, quoted=quoted)
            types = {name: pa.string() if _is_value(kind) else kind for name, kind in types.items()}
            try:
                table, wrong = parse_csv(plain, dialect, names, types)
            except pa.ArrowInvalid as error:
                raise InputError(f"{file.name}: not readable after row {first_row} ({_no_cells(error)})") from None
        block = _raw_block(table, first_row, blank, wrong, len(names), file.name)
        place.row += table.num_rows + len(block.skipped)
        yield block


def parse_csv(
    text: memoryview, dialect: Dialect, names: tuple[str, ...], types: Mapping[str, pa.DataType]
) -> tuple[pa.Table, list[tuple[int, int]]]:
    """Return the wanted columns of a block, and (index among the rows that are not blank, values) of malformed rows."""
    wrong = []

    def skip(row: pacsv.InvalidRow) -> str:
        wrong.append((row.number - 1, row.actual_columns))
        return "skip"

    # Columns go by number, because a header may hold a name twice.
    wanted = {str(names.index(name)): kind for name, kind in types.items()}
    if not bytes(text[:1024]).strip() and not bytes(text).strip():
        return pa.table({name: pa.array([], kind) for name, kind in types.items()}), wrong
    table = pacsv.read_csv(
        pa.BufferReader(pa.py_buffer(text)),
        read_options=pacsv.ReadOptions(
            use_threads=False, block_size=len(text) + 1, column_names=[str(i) for i in range(len(names))]
        ),
        parse_options=pacsv.ParseOptions(
            delimiter=_arrow_delimiter(dialect),
            quote_char='"' if dialect.quoted else False,
            newlines_in_values=dialect.quoted,
            invalid_row_handler=skip,
        ),
        convert_options=pacsv.ConvertOptions(include_columns=list(wanted), column_types=wanted, null_values=[""]),
    )
    return table.rename_columns(list(types)).combine_chunks(), wrong


def parse_header(text: memoryview, dialect: Dialect, file: str) -> tuple[str, ...]:
    """Return the values of one row of UTF-8 text."""
    plain = plain_text(memoryview(bytes(text) + b"\n"), dialect, file)
    table = pacsv.read_csv(
        pa.BufferReader(pa.py_buffer(plain)),
        read_options=pacsv.ReadOptions(use_threads=False, block_size=len(plain) + 1, autogenerate_column_names=True),
        parse_options=pacsv.ParseOptions(
            delimiter=_arrow_delimiter(dialect),
            quote_char='"' if dialect.quoted else False,
            newlines_in_values=dialect.quoted,
        ),
        convert_options=pacsv.ConvertOptions(null_values=[], true_values=[], false_values=[]),
    )
    return tuple(str(column[0].as_py()) for column in table.columns)


def plain_text(text: memoryview, dialect: Dialect, file: str) -> memoryview:
    """Return text with a delimiter of one character."""
    if dialect.delimiter == WHITESPACE:
        return _squeeze(np.frombuffer(text, np.uint8)).data
    if len(dialect.delimiter) == 1:
        return text
    whole = bytes(text)
    if UNIT_SEPARATOR in whole:
        raise InputError(
            f"{file}: holds the character U+001F, which no log with the delimiter {dialect.delimiter!r} may"
        )
    return memoryview(whole.replace(dialect.delimiter.encode(), UNIT_SEPARATOR))


def _squeeze(view: np.ndarray) -> np.ndarray:
    """Return text with one space for every run of spaces and tabs, and none at the ends of lines."""
    space = (view == 32) | (view == 9)
    line = (view == 10) | (view == 13)
    drop = np.zeros(len(view), bool)
    # A space goes where another, a line end or nothing stands before it.
    drop[1:] = space[1:] & (space[:-1] | line[:-1])
    drop[0] = space[0]
    kept = np.where(space, np.uint8(32), view)[~drop]
    trailing = np.zeros(len(kept), bool)
    trailing[:-1] = (kept[:-1] == 32) & ((kept[1:] == 10) | (kept[1:] == 13))
    trailing[-1] = kept[-1] == 32
    return np.ascontiguousarray(kept[~trailing])


def _arrow_delimiter(dialect: Dialect) -> str:
    if dialect.delimiter == WHITESPACE:
        return " "
    return dialect.delimiter if len(dialect.delimiter) == 1 else UNIT_SEPARATOR.decode()


def _raw_block(
    table: pa.Table, first_row: int, blank: np.ndarray, wrong: list[tuple[int, int]], num_columns: int, file: str
) -> RawBlock:
    malformed = np.array([index for index, _ in wrong], np.int64)
    if len(blank):
        # Arrow numbers the rows as if no line were blank: number i is the i-th line that is not.
        malformed += np.searchsorted(blank - np.arange(len(blank)), malformed, side="right")
    sentence = None
    if wrong:
        values = f"{wrong[0][1]} value{'' if wrong[0][1] == 1 else 's'}"
        sentence = f"{file}: row {first_row + malformed[0]} has {values} where the file has {num_columns} columns"
    return RawBlock(
        table=table,
        first_row=first_row,
        skipped=np.sort(np.concatenate([blank, malformed])) + first_row,
        blank=len(blank),
        first_malformed=sentence,
    )


def _is_value(kind: pa.DataType) -> bool:
    return not (pa.types.is_dictionary(kind) or pa.types.is_string(kind))


def _no_cells(error: Exception) -> str:
    """Return the error's message without the text of a cell or row, which Arrow puts in or after quotes."""
    return re.sub(r"'.*|(columns, got \d+):.*", r"\1", one_line(error), flags=re.DOTALL)
