"""Cut text into blocks of whole lines, in bounded memory, where a line end inside quotes does not count.

In: bytes of a CSV or JSON lines file. Out: blocks that end where a row ends, and the ranges of a large file that
different threads may read. A byte is inside quotes where an odd number of quotes stands before it.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

QUOTE, NEWLINE, RETURN = 34, 10, 13
MAX_LINE_BYTES = 16 << 20
"""A longer row is a file that is no log, or a quote that is never closed."""
_STRIDE = 1 << 20
"""Bytes looked at in one go, so that the intermediate arrays stay in the cache."""


class LineTooLongError(ValueError):
    """The text after the last block holds no row end within MAX_LINE_BYTES, or ends inside quotes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """A range of a file that holds whole rows."""

    start: int
    """Offset of its first byte."""
    stop: int
    """Offset after its last byte."""
    first_line: int
    """How many rows and blank lines end before `start`."""


def cut_blocks(read: Callable[[int], bytes], block_bytes: int, *, quoted: bool) -> Iterator[memoryview]:
    """Yield the text in blocks of whole rows, about `block_bytes` each.

    Args:
        read: Returns up to so many bytes, none at the end.

    Raises:
        LineTooLongError: See there; the rows yielded before are whole.
    """
    carry: bytes | memoryview = b""
    while chunk := read(block_bytes):
        text = memoryview(b"".join((carry, chunk)) if carry else chunk)
        end = last_line_end(text, quoted=quoted)
        if end:
            yield text[:end]
        carry = text[end:]
        if len(carry) > MAX_LINE_BYTES:
            raise LineTooLongError
    if carry:
        if quoted and _count(np.frombuffer(carry, np.uint8), QUOTE) % 2:
            raise LineTooLongError
        yield memoryview(carry)


def last_line_end(text: memoryview, *, quoted: bool) -> int:
    """Return the length of the whole rows at the start of `text`; 0 where no row ends in it."""
    view = np.frombuffer(text, np.uint8)
    inside = bool(quoted and _count(view, QUOTE) % 2)
    for stop in range(len(view), 0, -_STRIDE):
        part = view[max(stop - _STRIDE, 0) : stop]
        outside, inside_at_start = _outside_backwards(part, inside) if quoted else (None, False)
        ends = part == NEWLINE
        if outside is not None:
            ends &= outside
        if ends.any():
            return stop - int(ends[::-1].argmax())
        inside = inside_at_start
    return 0


def blank_lines(text: memoryview, *, quoted: bool) -> np.ndarray:
    """Return which lines of a block of whole rows are blank: (B,) int64 line indices, ascending, from 0."""
    view = np.frombuffer(text, np.uint8)
    found, line, inside, at_start = [], 0, False, True
    for start in range(0, len(view), _STRIDE):
        part = view[start : start + _STRIDE]
        ends = part == NEWLINE
        if quoted:
            parity = np.logical_xor.accumulate(part == QUOTE) ^ inside
            ends &= ~parity
            inside = bool(parity[-1])
        # A blank line is a line end right after a line end, with nothing but a return between.
        content = (part != NEWLINE) & (part != RETURN)
        positions = np.flatnonzero(ends)
        before = np.cumsum(content)[positions] if len(positions) else positions
        filled = np.diff(before, prepend=0) > 0
        if len(positions):
            filled[0] |= not at_start
            at_start = not content[positions[-1] + 1 :].any()
        else:
            at_start &= not content.any()
        found.append(np.flatnonzero(~filled) + line)
        line += len(positions)
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def may_have_blank_lines(text: memoryview) -> bool:
    """Return whether a look for blank lines is worth its time."""
    whole = bytes(text[:2])
    if whole[:1] == b"\n" or whole == b"\r\n":
        return True
    view = np.frombuffer(text, np.uint8)
    for start in range(0, len(view), _STRIDE):
        ends = view[start : start + _STRIDE + 2] == NEWLINE
        if (ends[1:] & ends[:-1]).any():
            return True
        returns = view[start : start + _STRIDE + 2] == RETURN
        if (ends[2:] & returns[1:-1] & ends[:-2]).any():
            return True
    return False


def count_lines(text: memoryview, *, quoted: bool) -> int:
    """Return how many rows and blank lines end in text that begins outside quotes."""
    return _survey(bytes(text), quoted=quoted)[1][0]


def first_line_end(text: memoryview, *, quoted: bool) -> int:
    """Return the length of the first row with its line end; 0 where no row ends."""
    return _survey(bytes(text), quoted=quoted)[2][0] + 1


def find_ranges(path: Path, start: int, range_bytes: int, *, quoted: bool) -> list[Range]:
    """Return ranges of about `range_bytes` of whole rows that together cover the file from `start`, where a row begins.

    Reads the file once, a few ranges at a time.
    """
    size = path.stat().st_size
    starts = range(start, size, range_bytes)
    with path.open("rb", buffering=0) as file, ThreadPoolExecutor(2) as pool:
        read = partial(os.pread, file.fileno(), range_bytes)
        counts = list(pool.map(lambda at: _survey(read(at), quoted=quoted), starts))
    cuts, inside, line = [(start, 0)], False, 0
    for at, (odd_quotes, lines, first) in zip(starts, counts, strict=True):
        if at > start and first[inside] >= 0:
            cuts.append((at + first[inside] + 1, line + 1))
        line += lines[inside]
        inside ^= odd_quotes
    stops = [cut for cut, _ in cuts[1:]] + [size]
    return [Range(start=a, stop=b, first_line=n) for (a, n), b in zip(cuts, stops, strict=True) if b > a]


def _survey(part: bytes, *, quoted: bool) -> tuple[bool, tuple[int, int], tuple[int, int]]:
    """Return whether the quotes are odd, and the number and the first position of line ends that are outside quotes.

    Both for the case that the part begins outside quotes and for the case that it begins inside; position -1 is none.
    """
    if not quoted or b'"' not in part:
        return False, (part.count(b"\n"), 0), (part.find(b"\n"), -1)
    inside, lines, first = False, [0, 0], [-1, -1]
    for start in range(0, len(part), _STRIDE):
        view = np.frombuffer(part, np.uint8)[start : start + _STRIDE]
        ends = view == NEWLINE
        quotes = view == QUOTE
        if not quotes.any():
            kinds = [(int(inside), ends)]
        else:
            parity = np.logical_xor.accumulate(quotes) ^ inside
            kinds = [(0, ends & ~parity), (1, ends & parity)]
            inside = bool(parity[-1])
        for kind, hits in kinds:
            lines[kind] += int(np.count_nonzero(hits))
            if first[kind] < 0 and hits.any():
                first[kind] = start + int(hits.argmax())
    return inside, (lines[0], lines[1]), (first[0], first[1])


def _outside_backwards(part: np.ndarray, inside_at_end: bool) -> tuple[np.ndarray, bool]:
    """Return which bytes are outside quotes, and whether the part begins inside, from whether it ends inside."""
    parity = np.logical_xor.accumulate(part == QUOTE)
    inside_at_start = bool(parity[-1]) ^ inside_at_end
    return ~(parity ^ inside_at_start), inside_at_start


def _count(view: np.ndarray, byte: int) -> int:
    return sum(int(np.count_nonzero(view[i : i + _STRIDE] == byte)) for i in range(0, len(view), _STRIDE))
