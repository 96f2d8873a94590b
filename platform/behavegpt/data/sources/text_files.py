"""Read text files in blocks of whole rows: CSV and JSON lines, plain or compressed, whole or a range.

In: a file and where to begin and end. Out: blocks of text with the number of their first row, one read ahead.
"""

import codecs
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa

from behavegpt.data.sources.files import LogFile, open_file, open_stream
from behavegpt.data.sources.lines import (
    MAX_LINE_BYTES,
    LineTooLongError,
    blank_lines,
    count_lines,
    cut_blocks,
    may_have_blank_lines,
)
from behavegpt.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class RawBlock:
    """R rows of a file, with the cells of the wanted columns."""

    table: pa.Table
    """(R,) columns by their names in the file."""
    first_row: int
    """As EventBlock."""
    skipped: np.ndarray
    """As EventBlock."""
    blank: int
    """How many of the skipped rows are blank; the others are malformed."""
    first_malformed: str | None
    """As EventBlock."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRange:
    """The rows of a text file that one piece holds."""

    start: int
    """Offset of the first byte of its decompressed text."""
    stop: int | None
    """Offset after its last byte; None is the end of the file."""
    first_row: int
    """Number of its first row in the file."""


@dataclass(slots=True)
class Place:
    """Where a reader is."""

    row: int
    """Number of the next row."""


def text_blocks(
    file: LogFile, part: TextRange, place: Place, block_bytes: int, *, quoted: bool
) -> Iterator[memoryview]:
    """Yield blocks of whole rows; who takes one moves `place` past it.

    Raises:
        InputError: The file cannot be read on, or holds no rows of a sensible length; names file and row.
    """
    try:
        with open_range(file, part.start) as stream:
            left = None if part.stop is None else part.stop - part.start

            def read(size: int) -> bytes:
                nonlocal left
                data = stream.read(size if left is None else min(size, left))
                left = None if left is None else left - len(data)
                return data

            yield from read_ahead(cut_blocks(read, block_bytes, quoted=quoted))
    except LineTooLongError:
        raise InputError(line_too_long(file.name, place.row, quoted=quoted)) from None
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file.name}: not readable from row {place.row} on ({one_line(error)})") from None


def open_range(file: LogFile, start: int) -> pa.NativeFile:
    """Return the decompressed bytes of a file from `start` on."""
    if file.compression is None:
        stream = open_file(file)
        stream.seek(start)
        return stream
    stream = open_stream(file)
    while start > 0 and (skipped := len(stream.read(min(start, 1 << 20)))):
        start -= skipped
    return stream


def read_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield items while the next one is made in another thread."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, items, end)
        while (item := pending.result()) is not end:
            pending = pool.submit(next, items, end)
            yield item  # pyright: ignore[reportReturnType]


def blank_rows(text: memoryview, *, quoted: bool) -> np.ndarray:
    """Return which rows of a block are blank: (B,) int64 indices, ascending."""
    return blank_lines(text, quoted=quoted) if may_have_blank_lines(text) else np.zeros(0, np.int64)


def to_utf8(text: memoryview, encoding: str, file: str, first_row: int, *, quoted: bool) -> memoryview:
    """Return text of another encoding as UTF-8.

    Raises:
        InputError: Bytes are not of the encoding; names the row.
    """
    if is_utf8(encoding):
        return text
    try:
        return memoryview(codecs.decode(text, encoding).encode())
    except UnicodeDecodeError as error:
        raise InputError(wrong_encoding(text, error, encoding, file, first_row, quoted=quoted)) from None


def refuse_wrong_utf8(text: memoryview, file: str, first_row: int, *, quoted: bool) -> None:
    """Raise InputError, naming the row, where text is not UTF-8."""
    try:
        codecs.decode(text, "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(wrong_encoding(text, error, "utf-8", file, first_row, quoted=quoted)) from None


def wrong_encoding(
    text: memoryview, error: UnicodeDecodeError, encoding: str, file: str, first_row: int, *, quoted: bool
) -> str:
    """Return the sentence about bytes that are not of the encoding."""
    row = first_row + count_lines(text[: error.start], quoted=quoted)
    hint = "; if the file is in another encoding, name it, such as --encoding latin-1" if is_utf8(encoding) else ""
    return f"{file}: row {row} holds bytes that are not {encoding}{hint}"


def is_utf8(encoding: str) -> bool:
    """Return whether an encoding is UTF-8 under any of its names."""
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")


def line_too_long(file: str, row: int, *, quoted: bool) -> str:
    """Return the sentence about a row that does not end."""
    quote = (
        " A quote in it may never be closed; if quotes are no more than characters, pass --no-quoted." if quoted else ""
    )
    return f"{file}: row {row} does not end within {MAX_LINE_BYTES >> 20} MiB, or at all.{quote}"


def one_line(error: Exception) -> str:
    """Return what an error says up to its first line end; what follows may repeat a row."""
    return str(error).partition("\n")[0]
