"""Check a spec, and its files against it: names, columns, zones, times; every problem at once.

In: a `LogSpec`. Out: the head of every file, the unit of the times, the clock of every file, and the problems.
"""

import codecs
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from importlib.util import find_spec
from pathlib import PurePosixPath

import pyarrow as pa

from behavegpt.data.sources.files import LogFile, find_files
from behavegpt.data.sources.heads import Head, find_dialect, mapped_columns, read_head
from behavegpt.data.sources.ids import is_id_type
from behavegpt.data.sources.spec import EARLIEST, LATEST, WHITESPACE, Columns, LogSpec, TimeUnit, date_of
from behavegpt.data.sources.times import Clock
from behavegpt.data.sources.units import choose_unit
from behavegpt.data.sources.zones import find_zone_problems
from behavegpt.errors import InputError, did_you_mean

_MAX_PROBLEMS = 20
"""About files; a thousand files are usually wrong in one way."""

_SAID = {"event": "event", "behavior": "behaviour", "location": "location"}
_DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What the names and first rows of a log's files tell."""

    heads: list[Head]
    """Of the files that could be read, sorted by name."""
    unit: TimeUnit
    """Never auto where there is no problem."""
    clocks: dict[str, Clock]
    """File name -> how its times are to be understood."""
    problems: list[str]


def survey(spec: LogSpec) -> Survey:
    """Return what the files of a log tell, and every problem."""
    problems = find_spec_problems(spec)
    if problems and not _is_readable(spec):
        return Survey(heads=[], unit="auto", clocks={}, problems=problems)
    files, file_problems = find_files(spec.inputs, spec.format)
    heads, head_problems = _read_heads(files, spec)
    for head in heads:
        head_problems += _column_problems(head, spec)
    if heads and not head_problems and not any(head.has_rows for head in heads):
        head_problems += [f"{head.file.name}: has columns but no rows" for head in heads]
    problems += file_problems + _first_few(head_problems)
    unit = spec.time_unit
    if not problems and spec.columns.timestamp is not None:
        samples = [(h.file.name, h.part.first_row, h.times) for h in heads if h.times is not None]
        chosen, problems = choose_unit(spec.time_unit, samples, spec.columns.timestamp)
        unit = chosen or "auto"
    clocks = {
        head.file.name: Clock(unit=unit, timezone=_find_zone(head.file.name, spec), latest=spec.latest)
        for head in heads
    }
    return Survey(heads=heads, unit=unit, clocks=clocks, problems=problems)


def find_spec_problems(spec: LogSpec) -> list[str]:
    """Return the problems of a spec that show without a look at its files."""
    return [
        *find_zone_problems(spec.timezone),
        *(p for pattern, zone in spec.timezones for p in find_zone_problems(zone, f"--timezones {pattern}")),
        *_role_problems(spec.columns),
        *_place_problems(spec),
        *_dialect_problems(spec),
        *_date_problems(spec),
    ]


def _is_readable(spec: LogSpec) -> bool:
    return not [*_dialect_problems(spec)]


def _role_problems(columns: Columns) -> Iterator[str]:
    parts = {"weekday": columns.weekday, "slot": columns.slot, "day": columns.day}
    if columns.timestamp is None and not all(parts.values()):
        yield "--timestamp: name the column of times, or those of --weekday, --slot and --day"
    if columns.timestamp is not None and any(parts.values()):
        given = ", ".join(f"--{role}" for role, name in parts.items() if name)
        yield f"--timestamp {columns.timestamp}: says when already; leave out {given}"
    for role, name in columns.named().items():
        flag = "--" + role.replace("_", "-")
        if role != "user" and name == columns.user:
            yield f"{flag} {name}: is the --user column too; user ids are never stored, so map another column"
        elif role in ("event", "behavior", "location") and name == columns.timestamp:
            yield f"--timestamp {name}: is the {flag} column too; a time is no {_SAID[role]}, so map another column"


def _place_problems(spec: LogSpec) -> Iterator[str]:
    columns = spec.columns
    if (columns.latitude is None) != (columns.longitude is None):
        yield "--latitude and --longitude: name both columns or none"
    if columns.latitude is not None and columns.location is not None:
        yield f"--location {columns.location}: coordinates say where already; leave out one of them"
    if columns.latitude is not None and spec.h3_resolution is None:
        yield "--h3-resolution: coordinates need it; 0 (cells of 1,281 km) to 15 (0.6 m), such as 8 (0.5 km)"
    if spec.h3_resolution is not None:
        if columns.latitude is None:
            yield f"--h3-resolution {spec.h3_resolution}: needs --latitude and --longitude"
        if not 0 <= spec.h3_resolution <= 15:
            yield f"--h3-resolution {spec.h3_resolution}: must be 0 to 15"
        if find_spec("h3") is None:
            yield f"--h3-resolution {spec.h3_resolution}: needs the package h3; install it with pip install h3"
    if spec.behavior_table is not None and columns.behavior is not None:
        yield f"--behavior {columns.behavior}: the behaviour table says it already; leave out one of them"


def _dialect_problems(spec: LogSpec) -> Iterator[str]:
    delimiter = spec.delimiter
    if delimiter is not None and delimiter != WHITESPACE and (not delimiter or re.search(r'["\r\n]', delimiter)):
        yield f"--delimiter {delimiter!r}: must be one or more characters, none of them a quote or a line end"
    try:
        plain = bytes(range(128)).decode(spec.encoding) == bytes(range(128)).decode("ascii")
    except (LookupError, UnicodeDecodeError):
        plain = False
    if not plain or codecs.lookup(spec.encoding).name.startswith("utf-7"):
        yield f"--encoding {spec.encoding}: must be one that extends ASCII, such as utf-8, latin-1 or cp1252"
    names = spec.column_names
    if names is not None and (not names or len(set(names)) != len(names)):
        yield f"--column-names {' '.join(names)}: must be at least one name, and no name twice"


def _date_problems(spec: LogSpec) -> Iterator[str]:
    if not EARLIEST < spec.latest <= LATEST:
        yield f"--latest {date_of(spec.latest)}: must be a date from 1971-01-02 to {date_of(LATEST)}"
    try:
        date.fromisoformat(spec.first_date)
    except ValueError:
        yield f"--first-date {spec.first_date}: must be a date such as 2001-01-01"


def _read_heads(files: list[LogFile], spec: LogSpec) -> tuple[list[Head], list[str]]:
    heads, problems = [], []
    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(partial(_try_head, spec=spec), files):
            if isinstance(result, Head):
                heads.append(result)
            else:
                problems += result
    return heads, problems


def _try_head(file: LogFile, spec: LogSpec) -> Head | list[str]:
    try:
        return read_head(file, spec)
    except InputError as error:
        return list(error.problems)


def _column_problems(head: Head, spec: LogSpec) -> Iterator[str]:
    file, present = head.file.name, head.names
    if delimiter := _other_delimiter(head, spec):
        used = find_dialect(head.file, spec).delimiter
        shown = "spaces or tabs" if used == WHITESPACE else repr(used)
        yield f"{file}: row 1 has one value between {shown}; pass --delimiter {delimiter!r}"
        return
    for role, name in spec.columns.named().items():
        flag = "--" + role.replace("_", "-")
        if name not in present:
            shown = _shown_names(name, present, spec)
            yield f"{flag} {name}: {file} has no such column{shown}"
        elif present.count(name) > 1:
            yield f"{flag} {name}: {file} has {present.count(name)} columns of that name; rename all but one"
        elif role in ("user", "event", "behavior", "location") and not is_id_type(head.types[name]):
            hint = "; cast to text" if pa.types.is_decimal(head.types[name]) else ""
            yield f"{file}: column {name!r} has type {head.types[name]}; an id column holds text or numbers{hint}"
        elif role == "timestamp" and not _is_time_type(head):
            yield f"{file}: column {name!r} has type {head.types[name]}; a time is text, a number or a timestamp"


def _is_time_type(head: Head) -> bool:
    kind = str(head.times.type) if head.times is not None else "string"
    return bool(
        re.match(r"(large_)?string|u?int|float|double|halffloat|timestamp|date|dictionary<values=.*string", kind)
    )


def _shown_names(name: str, present: tuple[str, ...], spec: LogSpec) -> str:
    """Return the columns of a file for a message; without a header, its first row may hold a user's id instead.

    A name that is nearly the one that was asked for is none.
    """
    if not set(present) & set(mapped_columns(spec)):
        same = [other for other in present if other.strip().casefold() == name.strip().casefold()]
        near = [*same, *get_close_matches(name, present, n=1, cutoff=0.8)]
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return (
            f", nor any other that was named; if its first row is no header, give the names with --column-names.{hint}"
        )
    few = ", ".join(map(repr, present[:12])) + (", ..." if len(present) > 12 else "")
    return f"; it has {few}.{did_you_mean(name, present)}"


def _other_delimiter(head: Head, spec: LogSpec) -> str | None:
    """Return the delimiter of a header that holds several names and was read as one."""
    if head.file.format != "csv" or spec.column_names is not None or len(head.names) != 1:
        return None
    if head.names[0] in spec.columns.named().values():
        return None
    found = max(_DELIMITERS, key=head.names[0].count)
    return found if found in head.names[0] else None


def _first_few(problems: list[str]) -> list[str]:
    if len(problems) <= _MAX_PROBLEMS:
        return problems
    return [*problems[:_MAX_PROBLEMS], f"... and {len(problems) - _MAX_PROBLEMS:,} more problems of this kind"]


def _find_zone(name: str, spec: LogSpec) -> str:
    for pattern, zone in spec.timezones:
        if fnmatchcase(name, pattern) or fnmatchcase(PurePosixPath(name).name, pattern):
            return zone
    return spec.timezone
