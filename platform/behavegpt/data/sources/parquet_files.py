"""Read Parquet by row groups, in batches.

In: a file that parquet_guard.py has looked at. Out: tables of the wanted columns.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from behavegpt.data.sources.files import LogFile, open_file
from behavegpt.data.sources.ids import decode_text, is_encoded_text
from behavegpt.data.sources.parquet_guard import check_pages, open_parquet
from behavegpt.data.sources.text_files import RawBlock, one_line
from behavegpt.errors import InputError

MAX_BLOCK_ROWS = 1 << 20
_BYTES_PER_ROW = 32
"""Of a row in memory: the codes of four columns, a time, and what a block adds."""


def read_parquet(
    file: LogFile, row_groups: tuple[int, ...], first_row: int, columns: list[str], block_bytes: int
) -> Iterator[RawBlock]:
    """Yield the wanted columns of some row groups; text comes as dictionaries.

    Raises:
        InputError: The file cannot be read on; names file and row.
    """
    row = first_row
    with open_file(file) as source:
        plain, _ = open_parquet(source, file.name)
        text = [name for name in columns if _is_text(plain.schema_arrow.field(name).type)]
        parquet, footer = open_parquet(source, file.name, text)
        for group in row_groups:
            check_pages(source, footer, group, columns, file.name)
            left = footer.groups[group].num_rows
            try:
                for batch in _batches(parquet, group, columns, block_bytes):
                    yield RawBlock(
                        table=batch, first_row=row, skipped=np.zeros(0, np.int64), blank=0, first_malformed=None
                    )
                    row += batch.num_rows
                    left -= batch.num_rows
            except (OSError, pa.ArrowException) as error:
                raise InputError(f"{file.name}: not readable from row {row} on ({one_line(error)})") from None
            if left:
                raise InputError(f"{file.name}: row group {group} lacks {left:,} of the rows that it claims")


def _batches(parquet: pq.ParquetFile, group: int, columns: list[str], block_bytes: int) -> Iterator[pa.Table]:
    rows = max(min(block_bytes // _BYTES_PER_ROW, MAX_BLOCK_ROWS), 1)
    for batch in parquet.iter_batches(batch_size=rows, row_groups=[group], columns=columns, use_threads=False):
        batch.validate(full=True)
        for index, field in enumerate(batch.schema):
            if is_encoded_text(field.type):
                batch = batch.set_column(index, field.name, decode_text(batch.column(index)))
        yield pa.Table.from_batches([batch])


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
