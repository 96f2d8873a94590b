"""Check a log against its spec and divide it into pieces that tasks can read on their own.

In: a `LogSpec`. Out: every problem at once, the pieces, and what the manifest says about the source.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from behavegpt.data.sources.behaviors import Behaviors, read_behaviors
from behavegpt.data.sources.csv_files import Dialect
from behavegpt.data.sources.files import LogFile
from behavegpt.data.sources.heads import Head, find_dialect
from behavegpt.data.sources.lines import find_ranges
from behavegpt.data.sources.spec import LogSpec
from behavegpt.data.sources.survey import Survey, survey
from behavegpt.data.sources.text_files import TextRange
from behavegpt.data.sources.times import Clock
from behavegpt.data.sources.units import first_type
from behavegpt.errors import InputError

BLOCK_BYTES = 32 << 20
BLOCKS_PER_PIECE = 1
_UNPACKING = {"gzip": 12, "zstd": 12, None: 1}
"""How many times larger a compressed log may be than its file: a guess on the high side costs small buckets only."""
_MAX_NAMES = 20
"""Of files in the manifest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A part of the log that one task reads: a file, a range of lines of a large file, or some row groups."""

    label: str
    """For progress: the file's name, and which part of it."""
    num_bytes: int
    """Estimate of the text that reading it yields."""
    num_rows: int | None
    """None where only reading tells."""
    file: LogFile
    part: TextRange
    row_groups: tuple[int, ...]
    """Of Parquet."""
    names: tuple[str, ...]
    """The file's columns, in order."""
    types: dict[str, pa.DataType]
    """Of the mapped columns."""
    time_type: pa.DataType
    """As which the times of CSV can be read first."""
    dialect: Dialect
    clock: Clock
    behaviors: Behaviors | None
    block_bytes: int


def find_source_problems(spec: LogSpec) -> list[str]:
    """Return every problem of the spec and of its files, found by names and first rows; empty when all is well."""
    return survey(spec).problems + _table_problems(spec)


def plan_pieces(spec: LogSpec, *, block_bytes: int = BLOCK_BYTES) -> list[Piece]:
    """Return the pieces of the log, sorted by file and place in the file; they pickle.

    Raises:
        InputError: As find_source_problems.
    """
    found = _survey_or_refuse(spec)
    behaviors = read_behaviors(spec.behavior_table) if spec.behavior_table else None
    pieces = []
    for head in found.heads:
        whole = Piece(
            label=head.file.name,
            num_bytes=head.file.num_bytes * _UNPACKING[head.file.compression],
            num_rows=sum(rows for rows, _ in head.groups) if head.file.format == "parquet" else None,
            file=head.file,
            part=head.part,
            row_groups=tuple(range(len(head.groups))),
            names=head.names,
            types=head.types,
            time_type=first_type(head.times, found.unit) if head.file.format == "csv" else pa.null(),
            dialect=find_dialect(head.file, spec),
            clock=found.clocks[head.file.name],
            behaviors=behaviors,
            block_bytes=block_bytes,
        )
        pieces += _divide(whole, head)
    return pieces


def describe(spec: LogSpec) -> dict[str, Any]:
    """Return what the manifest says about the source: files, sizes, columns, zone, unit as detected; no user ids.

    Raises:
        InputError: As find_source_problems.
    """
    found = _survey_or_refuse(spec)
    files = [head.file for head in found.heads]
    described: dict[str, Any] = {
        "files": [{"name": PurePosixPath(file.name).name, "bytes": file.num_bytes} for file in files[:_MAX_NAMES]],
        "num_files": len(files),
        "num_bytes": sum(file.num_bytes for file in files),
        "columns": spec.columns.named(),
        "timezone": spec.timezone,
        "time_unit": found.unit,
        "latest": spec.latest,
    }
    if spec.timezones:
        described["timezones"] = [list(pair) for pair in spec.timezones]
    if spec.behavior_table:
        described["behavior_table"] = PurePosixPath(spec.behavior_table.input).name
    if spec.h3_resolution is not None:
        described["h3_resolution"] = spec.h3_resolution
    if spec.columns.day is not None:
        described["first_date"] = spec.first_date
    return described


def _survey_or_refuse(spec: LogSpec) -> Survey:
    found = survey(spec)
    if found.problems:
        raise InputError(*found.problems, *_table_problems(spec))
    return found


def _table_problems(spec: LogSpec) -> list[str]:
    if spec.behavior_table is None:
        return []
    try:
        read_behaviors(spec.behavior_table)
    except InputError as error:
        return list(error.problems)
    return []


def _divide(whole: Piece, head: Head) -> Iterator[Piece]:
    size = whole.block_bytes * BLOCKS_PER_PIECE
    file = whole.file
    if file.format == "parquet":
        yield from _row_groups(whole, head, size)
    elif file.is_local and file.compression is None and file.num_bytes > 2 * size:
        quoted = file.format == "csv" and whole.dialect.quoted
        ranges = find_ranges(Path(file.name), whole.part.start, size, quoted=quoted)
        for number, found in enumerate(ranges, start=1):
            part = TextRange(start=found.start, stop=found.stop, first_row=whole.part.first_row + found.first_line)
            label = f"{file.name} ({number} of {len(ranges)})"
            yield replace(whole, label=label, part=part, num_bytes=found.stop - found.start)
    else:
        yield whole


def _row_groups(whole: Piece, head: Head, size: int) -> Iterator[Piece]:
    """Yield pieces of consecutive row groups, each of about `size` bytes."""
    groups: list[int] = []
    row, first_row, num_bytes = 1, 1, 0
    make = partial(replace, whole)
    for number, (rows, group_bytes) in enumerate(head.groups):
        groups.append(number)
        row, num_bytes = row + rows, num_bytes + group_bytes
        if num_bytes >= size or number == len(head.groups) - 1:
            part = replace(whole.part, first_row=first_row)
            label = (
                f"{whole.file.name} (row groups {groups[0]} to {number})" if len(groups) < len(head.groups) else None
            )
            yield make(
                part=part,
                row_groups=tuple(groups),
                num_bytes=num_bytes,
                num_rows=row - first_row,
                label=label or whole.label,
            )
            groups, first_row, num_bytes = [], row, 0
