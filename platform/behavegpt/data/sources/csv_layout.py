"""Find out which columns a CSV file has and where its rows begin.

In: the first mebibyte of a file. Out: the columns, the rows' place, and the text of the first rows.
"""

import re

from behavegpt.data.sources.csv_files import Dialect, parse_header
from behavegpt.data.sources.files import LogFile
from behavegpt.data.sources.lines import count_lines, first_line_end, last_line_end
from behavegpt.data.sources.parquet_footer import MAX_COLUMNS
from behavegpt.data.sources.spec import WHITESPACE
from behavegpt.data.sources.text_files import TextRange, is_utf8, open_range, refuse_wrong_utf8, to_utf8
from behavegpt.errors import InputError

HEAD_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"


def csv_layout(
    file: LogFile, dialect: Dialect, column_names: tuple[str, ...] | None
) -> tuple[tuple[str, ...], TextRange, memoryview]:
    """Return the columns of a CSV file, where its rows are, and the text of the first of them, as UTF-8.

    Raises:
        InputError: The file has no header, or its first rows are no text of the encoding.
    """
    text, start, whole = read_first_lines(file, dialect.encoding)
    names, row = column_names, 1
    if names is None:
        blank = len(text) - len(bytes(text).lstrip(b"\r\n"))
        end = blank + first_line_end(text[blank:], quoted=dialect.quoted)
        if end == blank:
            if not whole:
                raise InputError(f"{file.name}: its first row does not end within {HEAD_BYTES >> 20} MiB")
            end = len(text)
        names = _header_names(
            to_utf8(text[blank:end], dialect.encoding, file.name, 1, quoted=False), dialect, file.name
        )
        row = max(count_lines(text[:end], quoted=dialect.quoted), 1) + 1
        start, text = start + end, text[end:]
    if not whole:
        text = text[: last_line_end(text, quoted=dialect.quoted)]
        if len(text) == 0:
            raise InputError(f"{file.name}: row {row} does not end within {HEAD_BYTES >> 20} MiB")
    text = to_utf8(text, dialect.encoding, file.name, row, quoted=dialect.quoted)
    refuse_wrong_utf8(text, file.name, row, quoted=dialect.quoted)
    return names, TextRange(start=start, stop=None, first_row=row), text


def read_first_lines(file: LogFile, encoding: str) -> tuple[memoryview, int, bool]:
    """Return the start of a file's decompressed text, its offset after a byte order mark, and whether it is all.

    Raises:
        InputError: The file is empty, or holds no text.
    """
    with open_range(file, 0) as stream:
        data = b""
        while len(data) <= HEAD_BYTES and (more := stream.read(HEAD_BYTES + 1 - len(data))):
            data += more
    if not data:
        raise InputError(f"{file.name}: not readable as {file.format} (the file is empty)")
    if b"\0" in data[:1024]:
        raise InputError(
            f"{file.name}: not readable as {file.format} (its first bytes are not text of {encoding}; it may be UTF-16 "
            "or another kind of file)"
        )
    start = len(_BOM) if data.startswith(_BOM) and is_utf8(encoding) else 0
    return memoryview(data)[start:HEAD_BYTES], start, len(data) <= HEAD_BYTES


def _header_names(header: memoryview, dialect: Dialect, file: str) -> tuple[str, ...]:
    refuse_wrong_utf8(header, file, 1, quoted=False)
    pattern = rb"[ \t]+" if dialect.delimiter == WHITESPACE else re.escape(dialect.delimiter.encode())
    if len(re.findall(pattern, header)) >= MAX_COLUMNS:
        raise InputError(f"{file}: has more than {MAX_COLUMNS:,} columns, which no log has")
    if not bytes(header).strip():
        raise InputError(f"{file}: not readable as csv (the file is empty)")
    return parse_header(header, dialect, file)
