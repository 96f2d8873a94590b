"""Read what the end of a Parquet file says about its columns and row groups, and check that it can be true.

In: a file that anyone may have written. Out: a `Footer`, or an InputError. The numbers are those of FileMetaData in
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
"""

import base64
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from behavegpt.data.sources.thrift import Struct, ThriftError, ThriftReader
from behavegpt.errors import InputError

MAX_FOOTER_BYTES = 32 << 20
MAX_COLUMNS = 10_000
"""Of a log."""
MAX_ITEMS = 20_000
"""Of a list in a footer: of columns, with the groups that they are in, or of row groups."""
MAX_VALUES = 1_000_000
"""In a footer: about twenty for each column of each row group."""
MAX_ROWS_PER_BYTE = 16
"""Real rows hold a user and a time: logs sorted by user, with regular times, come to about one row a byte."""
MAX_CHUNK_BYTES = 1 << 30
"""Of one column in one row group, compressed or not."""
_MANY_ROWS = 1 << 20
"""Fewer rows than this are never too many."""
_MAGIC = b"PAR1"
_EXTENSION = b"ARROW:extension:"


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Where one column of one row group is."""

    start: int
    """Offset of its first page."""
    num_bytes: int
    """In the file."""
    unpacked_bytes: int
    """Before compression, as it claims."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowGroup:
    """Some consecutive rows."""

    num_rows: int
    chunks: dict[str, Chunk]
    """Column -> its chunk, for columns of single values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Footer:
    """What the end of the file says."""

    groups: tuple[RowGroup, ...]


def _in_base64(word: bytes) -> list[bytes]:
    """Return what the base64 of any text that holds `word` must hold, for the three ways in which it can be aligned."""
    needles = []
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + word)
        needles.append(encoded[-(-shift * 8 // 6) : (shift + len(word)) * 8 // 6])
    return needles


TRACES_OF_EXTENSIONS = [_EXTENSION, *_in_base64(_EXTENSION)]


def read_footer(source: pa.NativeFile, name: str) -> Footer:
    """Return what the end of a file says.

    Raises:
        InputError: It is not Parquet, or what it says cannot be true or is a trap.
    """
    size = source.size()
    footer = _footer_bytes(source, size, name)
    if any(trace in footer for trace in TRACES_OF_EXTENSIONS):
        raise InputError(
            f"{name}: its metadata holds Arrow extension types, which may run code when they are read; "
            "write the log with plain columns of text and numbers"
        )
    try:
        metadata = ThriftReader(footer, max_values=MAX_VALUES, max_items=MAX_ITEMS).read_struct()
        num_columns = len(metadata[2]) - 1
        groups = tuple(_row_group(group, number, size, name) for number, group in enumerate(metadata[4]))
        num_rows = _whole(metadata[3])
    except (ThriftError, LookupError, TypeError, AttributeError, UnicodeDecodeError):
        raise InputError(
            f"{name}: not readable as Parquet (its footer is damaged, or has more than {MAX_ITEMS:,} columns or row "
            f"groups, or {MAX_VALUES:,} values)"
        ) from None
    problems = []
    if num_columns > MAX_COLUMNS:
        problems.append(f"{name}: has {num_columns:,} columns; a log has at most {MAX_COLUMNS:,}")
    if sum(group.num_rows for group in groups) != num_rows:
        claimed = sum(group.num_rows for group in groups)
        problems.append(f"{name}: claims {num_rows:,} rows, but its row groups claim {claimed:,}")
    if num_rows > max(_MANY_ROWS, MAX_ROWS_PER_BYTE * size):
        problems.append(f"{name}: claims {num_rows:,} rows in {size:,} bytes, which no log can hold")
    if problems:
        raise InputError(*problems)
    return Footer(groups=groups)


def _footer_bytes(source: pa.NativeFile, size: int, name: str) -> bytes:
    tail = source.read_at(8, size - 8) if size >= 12 else b""
    if tail[4:] != _MAGIC:
        raise InputError(f"{name}: not readable as Parquet (it does not end in PAR1)")
    length = int.from_bytes(tail[:4], "little")
    if not 0 < length <= min(size - 12, MAX_FOOTER_BYTES):
        raise InputError(
            f"{name}: not readable as Parquet (its footer claims {length:,} bytes; the file has {size:,}, and "
            f"{MAX_FOOTER_BYTES >> 20} MiB is the most)"
        )
    return source.read_at(length, size - 8 - length)


def _row_group(group: Struct, number: int, size: int, name: str) -> RowGroup:
    num_rows = _whole(group[3])
    chunks = {}
    for column in group[1]:
        described = column[3]
        path = b".".join(described[3]).decode()
        chunk = Chunk(start=_first_page(described), num_bytes=_whole(described[7]), unpacked_bytes=_whole(described[6]))
        where = f"{name}: column {path!r} in row group {number}"
        if len(described[3]) == 1 and _whole(described[5]) != num_rows:
            raise InputError(f"{where} has {described[5]:,} values for {num_rows:,} rows; a log has one each")
        if chunk.start < 4 or chunk.start + chunk.num_bytes > size:
            raise InputError(f"{where} lies outside the file; the file is damaged or a trap")
        chunks[path] = chunk
    return RowGroup(num_rows=num_rows, chunks=chunks)


def _first_page(described: Struct) -> int:
    """Return where a chunk begins: at its dictionary, where it has one before its data."""
    data, dictionary = _whole(described[9]), described.get(11)
    return min(data, _whole(dictionary)) if dictionary else data


def _whole(value: Any) -> int:
    """Return a count or size, which must be a number that is not negative."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise ThriftError
    return value
