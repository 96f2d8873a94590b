"""The row groups of a shard: which rows they hold, and how they are read after their bytes were compared.

A shard's stream is its rows 0, 1, 2, ... by shuffle key. On the disk each block of WINDOWS_PER_BLOCK of them is LANES
row groups, with row i in lane i mod LANES, so that each of W workers (W divides LANES) reads 1/W of the bytes.

In: a shard's path and its entry in the manifest. Out: tables of whole row groups. Checksums of pages alone cover
neither the pages' headers nor the footer, and a shard of another dataset has right ones of its own; the CRC-32s here
cover every byte from which training computes, and a worker of W computes them over 1/W of the bytes.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from behavegpt.data.manifest import Shard
from behavegpt.schema import LANES, STREAM_COLUMNS, WINDOWS_PER_BLOCK

DIGITS = 8
"""Of one CRC-32 in hex."""


def lane_rows(num_windows: int) -> list[np.ndarray]:
    """Return, for each row group of a shard, the rows of the stream that it holds; a short block may lack lanes."""
    groups = []
    for block in range(0, num_windows, WINDOWS_PER_BLOCK):
        end = min(block + WINDOWS_PER_BLOCK, num_windows)
        groups += [np.arange(block + lane, end, LANES) for lane in range(min(LANES, end - block))]
    return groups


def stored_order(num_windows: int) -> np.ndarray:
    """Return (W,) the row of the stream that each row of the file holds."""
    return np.concatenate([np.zeros(0, np.int64), *lane_rows(num_windows)])


def checksums(path: Path) -> str:
    """Return the CRC-32 of a shard's footer and then of each row group's stream part, as the manifest holds them."""
    with path.open("rb") as file:
        tail = _read_tail(file, path.stat().st_size)
        metadata = pq.read_metadata(pa.BufferReader(tail))
        parts = [tail, *(_read_stream_part(file, metadata, group) for group in range(metadata.num_row_groups))]
    return "".join(f"{zlib.crc32(part):0{DIGITS}x}" for part in parts)


def read_row_groups(path: Path, shard: Shard, row_groups: Sequence[int], columns: Sequence[str]) -> pa.Table:
    """Return some row groups, one after the other, with the footer, the stream's bytes and every page compared first.

    Args:
        columns: Of `window_schema`. Columns beyond `STREAM_COLUMNS` have the checksums of their pages only.

    Raises:
        OSError: The file is missing, truncated, altered or another shard; the message names it.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size != shard.num_bytes:
                raise OSError(f"has {size} bytes, the manifest says {shard.num_bytes}")
            tail = _read_tail(file, size)
            _compare(tail, shard, 0, "its footer")
            metadata = pq.read_metadata(pa.BufferReader(tail))
            if not set(columns).isdisjoint(STREAM_COLUMNS):
                for group in row_groups:
                    _compare(_read_stream_part(file, metadata, group), shard, group + 1, f"row group {group}")
            with pq.ParquetFile(file, metadata=metadata, page_checksum_verification=True) as parquet:
                return parquet.read_row_groups(row_groups, columns=list(columns), use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise OSError(f"{path}: damaged or not this dataset's: {error}; verify the dataset") from error


def _compare(data: bytes, shard: Shard, index: int, what: str) -> None:
    if f"{zlib.crc32(data):0{DIGITS}x}" != shard.crc32[index * DIGITS : (index + 1) * DIGITS]:
        raise OSError(f"{what} does not match the manifest")


def _read_tail(file: BinaryIO, size: int) -> bytes:
    """Return the footer with the 8 bytes behind it: its length and the magic word."""
    file.seek(max(0, size - 8))
    length = int.from_bytes(file.read(4), "little") + 8
    if length > size:
        raise OSError(f"its footer has {length} bytes, the file {size}")
    file.seek(size - length)
    return file.read(length)


def _read_stream_part(file: BinaryIO, metadata: pq.FileMetaData, row_group: int) -> bytes:
    """Return the bytes of the stream's columns, which lie side by side at the head of the row group."""
    chunks = metadata.row_group(row_group)
    first, last = chunks.column(0), chunks.column(len(STREAM_COLUMNS) - 1)
    start, end = chunk_start(first), chunk_start(last) + last.total_compressed_size
    file.seek(start)
    return file.read(end - start)


def chunk_start(chunk: pq.ColumnChunkMetaData) -> int:
    """Return where a column's bytes begin: at the page of its dictionary, where it has one."""
    return chunk.dictionary_page_offset or chunk.data_page_offset
