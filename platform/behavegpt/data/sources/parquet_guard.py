"""Open Parquet that anyone may have written without running or reserving anything that it asks for.

In: a file. Out: Arrow's reader, or an InputError. Arrow would rebuild extension types from the metadata, which Python
packages may do by unpickling, and would reserve as much memory as a page asks for. So the footer is looked at first,
and the header of every page before the page is decompressed.
"""

import pyarrow as pa
import pyarrow.parquet as pq

from behavegpt.data.sources.parquet_footer import (
    MAX_CHUNK_BYTES,
    MAX_FOOTER_BYTES,
    MAX_ITEMS,
    Chunk,
    Footer,
    read_footer,
)
from behavegpt.data.sources.text_files import one_line
from behavegpt.data.sources.thrift import ThriftError, ThriftReader
from behavegpt.errors import InputError

MAX_PAGE_BYTES = 256 << 20
_SLACK_BYTES = 1 << 20
"""Not every writer counts as the format says."""
_HEADER_BYTES = 64 << 10
"""Of a page header, at most: it may hold the column's least and greatest value."""
_WINDOW_BYTES = 256 << 10
_HEADER_VALUES = 1000
"""A page header has some twenty."""


def open_parquet(
    source: pa.NativeFile, name: str, text_columns: list[str] | None = None
) -> tuple[pq.ParquetFile, Footer]:
    """Return a file whose metadata is harmless, and what that says.

    Args:
        text_columns: Columns of text to read as dictionaries.

    Raises:
        InputError: The file is not Parquet, or its metadata is a trap; names the file and what is wrong.
    """
    footer = read_footer(source, name)
    try:
        file = pq.ParquetFile(
            source,
            read_dictionary=text_columns,
            thrift_string_size_limit=MAX_FOOTER_BYTES,
            thrift_container_size_limit=MAX_ITEMS,
            pre_buffer=False,
        )
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name}: not readable as Parquet ({one_line(error)})") from None
    return file, footer


def find_size_problems(footer: Footer, columns: list[str], name: str) -> list[str]:
    """Return the first of the wanted columns' chunks that is too large, if there is one."""
    for number, group in enumerate(footer.groups):
        for column in columns:
            chunk = group.chunks.get(column)
            largest = max(chunk.num_bytes, chunk.unpacked_bytes) if chunk else 0
            if largest > MAX_CHUNK_BYTES:
                where = f"{name}: column {column!r} in row group {number}"
                most = f"{MAX_CHUNK_BYTES >> 20} MiB at most"
                return [f"{where} claims {largest:,} bytes; write smaller row groups, {most} per column"]
    return []


def check_pages(source: pa.NativeFile, footer: Footer, row_group: int, columns: list[str], name: str) -> None:
    """Refuse a row group of which a page of the wanted columns asks for more memory than a page may.

    Raises:
        InputError: Names the file, the row group and the column.
    """
    for column in columns:
        where = f"{name}: column {column!r} in row group {row_group}"
        chunk = footer.groups[row_group].chunks.get(column)
        if chunk is None:
            raise InputError(f"{where} is missing; the file is damaged or a trap")
        sizes = _page_sizes(source, chunk, where)
        if max(sizes, default=0) > MAX_PAGE_BYTES:
            largest = f"{max(sizes):,} bytes; {MAX_PAGE_BYTES >> 20} MiB is the most"
            raise InputError(f"{where} has a page that unpacks to {largest}")
        if sum(sizes) > 2 * chunk.unpacked_bytes + _SLACK_BYTES:
            claim = f"unpacks to {sum(sizes):,} bytes where it claims {chunk.unpacked_bytes:,}"
            raise InputError(f"{where} {claim}; the file is damaged or a trap")


def _page_sizes(source: pa.NativeFile, chunk: Chunk, where: str) -> list[int]:
    """Return how many bytes each page of a chunk says that it unpacks to."""
    sizes: list[int] = []
    position, stop = chunk.start, chunk.start + chunk.num_bytes
    window, window_start = b"", position
    while position < stop:
        if position + _HEADER_BYTES > window_start + len(window):
            window, window_start = source.read_at(min(_WINDOW_BYTES, stop - position), position), position
        reader = ThriftReader(window, position - window_start, max_values=_HEADER_VALUES, max_items=_HEADER_VALUES)
        try:
            header = reader.read_struct()
            unpacked, packed = int(header[2]), int(header[3])
        except (ThriftError, LookupError, TypeError, ValueError):
            unpacked = packed = -1
        position = window_start + reader.position + packed
        if unpacked < 0 or packed < 0 or position > stop:
            raise InputError(f"{where} has an unreadable page header; the file is damaged or a trap")
        sizes.append(unpacked)
    return sizes
