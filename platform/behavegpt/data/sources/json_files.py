"""Read JSON lines: an object a line.

In: blocks of text. Out: tables of the wanted fields; lines that are no such objects are skipped and counted.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pajson

from behavegpt.data.sources.files import LogFile
from behavegpt.data.sources.lines import NEWLINE
from behavegpt.data.sources.text_files import (
    Place,
    RawBlock,
    TextRange,
    blank_rows,
    refuse_wrong_utf8,
    text_blocks,
    to_utf8,
)
from behavegpt.errors import InputError

MAX_MALFORMED = 1000
"""Per block; a file with more is not what it says it is."""
_NO_VALUE = pa.list_(pa.null())
"""Stands for objects and arrays, which no column of a log holds."""
_TYPES = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}


def read_json(
    file: LogFile, part: TextRange, encoding: str, types: Mapping[str, pa.DataType], block_bytes: int
) -> Iterator[RawBlock]:
    """Yield the wanted fields of a piece of a file of JSON lines.

    Raises:
        InputError: The text cannot be read on, or too many lines are no JSON; names file and row.
    """
    schema = pa.schema(list(types.items()))
    place = Place(row=part.first_row)
    for text in text_blocks(file, part, place, block_bytes, quoted=False):
        first_row = place.row
        plain = to_utf8(text, encoding, file.name, first_row, quoted=False)
        blank = blank_rows(text, quoted=False)
        refuse_wrong_utf8(plain, file.name, first_row, quoted=False)
        tables, wrong = _parse_lines(plain, schema, file.name, first_row)
        table = pa.concat_tables(tables).combine_chunks()
        place.row += table.num_rows + len(blank) + len(wrong)
        yield RawBlock(
            table=table,
            first_row=first_row,
            skipped=np.sort(np.concatenate([blank, np.array(wrong, np.int64)])) + first_row,
            blank=len(blank),
            first_malformed=f"{file.name}: row {first_row + wrong[0]} is no JSON object with "
            f"{_shown(types)} as in the first rows"
            if wrong
            else None,
        )


def find_types(rows: list[dict[str, Any]]) -> dict[str, pa.DataType | None]:
    """Return field -> type over some objects; None where it is always null.

    A field that holds both whole and other numbers has floating point; of other mixtures, the first type counts.
    """
    found: dict[str, pa.DataType | None] = {}
    for row in rows:
        for name, value in row.items():
            kind = None if value is None else _TYPES.get(type(value), _NO_VALUE)
            known = found.get(name)
            both_numbers = {known, kind} == {pa.int64(), pa.float64()}
            found[name] = pa.float64() if both_numbers else (known or kind)
    return found


def _parse_lines(text: memoryview, schema: pa.Schema, file: str, first_row: int) -> tuple[list[pa.Table], list[int]]:
    """Return tables in order, and the indices of malformed lines; halves the text until what fails is one line."""
    try:
        return [_parse(text, schema)], []
    except pa.ArrowInvalid:
        pass
    ends = np.append(np.flatnonzero(np.frombuffer(text, np.uint8) == NEWLINE) + 1, len(text))
    ends = np.unique(ends)
    starts = np.concatenate([[0], ends[:-1]])
    todo, tables, wrong = [(0, len(ends))], [schema.empty_table()], []
    while todo:
        low, high = todo.pop()
        try:
            tables.append(_parse(text[starts[low] : ends[high - 1]], schema))
        except pa.ArrowInvalid:
            if high - low > 1:
                middle = (low + high) // 2
                todo += [(middle, high), (low, middle)]
                continue
            wrong.append(low)
            if len(wrong) > MAX_MALFORMED:
                raise InputError(
                    f"{file}: from row {first_row + wrong[0]} on, more than {MAX_MALFORMED:,} lines are no JSON object "
                    f"with {_shown(dict(zip(schema.names, schema.types, strict=True)))} as in the first rows"
                ) from None
    return tables, wrong


def _parse(text: memoryview, schema: pa.Schema) -> pa.Table:
    if not bytes(text[:1024]).strip() and not bytes(text).strip():
        return schema.empty_table()
    table = pajson.read_json(
        pa.BufferReader(pa.py_buffer(text)),
        read_options=pajson.ReadOptions(use_threads=False, block_size=len(text) + 1),
        parse_options=pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )
    return table.select(schema.names)


def _shown(types: Mapping[str, pa.DataType]) -> str:
    words = {pa.string(): "text", pa.bool_(): "true or false"}
    return ", ".join(f"{name!r} as {words.get(kind, 'number')}" for name, kind in types.items())
