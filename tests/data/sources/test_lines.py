"""Lines: text is cut where rows end, and nowhere inside quotes."""

import csv
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavegpt.data.sources import lines
from behavegpt.data.sources.lines import (
    LineTooLongError,
    blank_lines,
    count_lines,
    cut_blocks,
    find_ranges,
    last_line_end,
    may_have_blank_lines,
)

CELLS = st.text('"\n,aé', max_size=6)


@pytest.fixture(autouse=True, scope="module")
def short_strides() -> Iterator[None]:
    """Let even short texts be longer than what is looked at in one go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_STRIDE", 7)
        yield


def csv_text(rows: list[list[str]]) -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_MINIMAL).writerows(rows)
    return file.getvalue().encode()


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=12), st.integers(1, 40))
def test_blocks_and_ranges_hold_the_rows_that_the_csv_module_reads(rows: list[list[str]], size: int) -> None:
    text = csv_text(rows)

    def read(part: bytes | memoryview) -> list[list[str]]:
        return list(csv.reader(io.StringIO(bytes(part).decode(), newline="")))

    blocks = list(cut_blocks(io.BytesIO(text).read, size, quoted=True))
    assert b"".join(blocks) == text
    assert [row for block in blocks for row in read(block)] == rows
    assert count_lines(memoryview(text), quoted=True) == len(rows)
    with tempfile.NamedTemporaryFile() as file:
        file.write(text)
        file.flush()
        ranges = find_ranges(Path(file.name), 0, size, quoted=True)
    assert [row for r in ranges for row in read(text[r.start : r.stop])] == rows
    assert [r.first_line for r in ranges] == [len(read(text[: r.start])) for r in ranges]


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.sampled_from(["a,b", "", "c", '"x\n\ny",z']), max_size=15), st.sampled_from(["\n", "\r\n"]))
def test_blank_lines_are_found(rows: list[str], end: str) -> None:
    text = memoryview("".join(row + end for row in rows).encode())
    blank = [index for index, row in enumerate(rows) if not row]
    assert blank_lines(text, quoted=True).tolist() == blank
    assert may_have_blank_lines(text) or not blank


def test_line_end_inside_quotes_ends_nothing() -> None:
    assert last_line_end(memoryview(b'a\n"b\nc'), quoted=True) == 2
    assert last_line_end(memoryview(b'a\n"b\nc'), quoted=False) == 5
    assert last_line_end(memoryview(b"abc"), quoted=True) == 0


def test_quote_that_is_never_closed_and_endless_line_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LineTooLongError):
        list(cut_blocks(io.BytesIO(b'a,b\n1,"2\n3,4\n').read, 1 << 20, quoted=True))
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 100)
    read = io.BytesIO(b"a\n" + b"b" * 10**6).read
    blocks = cut_blocks(read, 50, quoted=True)
    assert bytes(next(blocks)) == b"a\n"
    with pytest.raises(LineTooLongError):
        next(blocks)
