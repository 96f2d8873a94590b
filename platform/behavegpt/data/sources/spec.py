"""What a raw log is: where its files are, which column means what, and how its times are written.

In: what the user said, or presets.py. Out: a `LogSpec`, which plan.py checks against the files and blocks.py reads by.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

LogFormat = Literal["csv", "jsonl", "parquet"]
TimeUnit = Literal["auto", "s", "ms", "us", "ns", "iso", "yyyymmddhhmmss", "ctime"]
"""How times are written; auto decides by the first rows of every file, and refuses where they disagree.

iso is ISO 8601 text or Arrow timestamps, ctime is `Tue Apr 03 18:00:09 +0000 2012`, the others are numbers.
"""

WHITESPACE = "whitespace"
"""The delimiter of logs whose values stand between any number of spaces or tabs."""
EARLIEST = 31_536_000
"""1971-01-01 UTC in seconds: milliseconds read as microseconds, or seconds as milliseconds, land before it."""
LATEST = 4_102_444_800
"""2100-01-01 UTC in seconds: milliseconds read as seconds land after it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Which column of the log holds what."""

    user: str
    """Who acted. The values are replaced by pseudonyms and written nowhere."""
    event: str
    """What happened; its values are stored in the dataset's vocabulary."""
    timestamp: str | None = None
    """When it happened; None where weekday, slot and day say so."""
    behavior: str | None = None
    """The class to predict, stored too; without it and without a behaviour table, the event itself."""
    location: str | None = None
    """Where it happened, stored too; without it and without coordinates, every location is missing."""
    latitude: str | None = None
    """Degrees north; with longitude and an H3 resolution, the location is the grid cell."""
    longitude: str | None = None
    """Degrees east."""
    utc_offset: str | None = None
    """Minutes to add to UTC for the local time of this row; without it, the time zone of the file says so."""
    weekday: str | None = None
    """Local weekday, 1 Monday .. 7 Sunday, in a log that has no timestamp."""
    slot: str | None = None
    """Local half hour of the day, 1 from 00:00 .. 48, in a log that has no timestamp."""
    day: str | None = None
    """Number of days since `LogSpec.first_date`, in a log that has no timestamp."""

    def named(self) -> dict[str, str]:
        """Return role -> column name, for the roles that have a column."""
        return {role: name for role, name in asdict(self).items() if name is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class BehaviorTable:
    """A second file that maps events to behaviours, one event a row: CSV or TSV, plain, .gz or .zst."""

    input: str
    """Path or URI."""
    event: str
    """The column that holds events."""
    behavior: str
    """The column that holds the behaviour of the event."""
    delimiter: str | None = None
    """As `LogSpec.delimiter`."""
    column_names: tuple[str, ...] | None = None
    """As `LogSpec.column_names`."""
    encoding: str = "utf-8"
    """As `LogSpec.encoding`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogSpec:
    """One log: files of one kind, one event a row."""

    inputs: tuple[str, ...]
    """Files, globs, directories (every log file below them) and URIs such as s3://bucket/logs/*.parquet."""
    columns: Columns
    format: LogFormat | None = None
    """None tells by the suffix of every file."""
    delimiter: str | None = None
    """Of CSV, one character or more, or WHITESPACE; None is a tab in .tsv files and a comma in others."""
    quoted: bool = True
    """Values of CSV may stand in double quotes; without it, a quote is a character like any other."""
    column_names: tuple[str, ...] | None = None
    """Of CSV without a header row; None takes the names from the first row of every file."""
    encoding: str = "utf-8"
    """Of CSV and JSON lines; bytes that are not of it are an error that names file and row."""
    timezone: str = "UTC"
    """IANA name; weekdays and half-hour slots are local there, and so are times without an offset."""
    timezones: tuple[tuple[str, str], ...] = ()
    """Pairs of (pattern, IANA name) for single files; the first pattern that matches a file's path or name counts."""
    time_unit: TimeUnit = "auto"
    behavior_table: BehaviorTable | None = None
    """Gives every event its behaviour, instead of a column of the log."""
    h3_resolution: int | None = None
    """0 (cells of 1,281 km) .. 15 (0.6 m); needs latitude and longitude."""
    latest: int = LATEST
    """Seconds since 1970 UTC; a time from then on is out of range."""
    first_date: str = "2001-01-01"
    """Date of day 0, where times are weekday, slot and day. The default is a Monday."""


def date_of(seconds: int) -> str:
    """Return the UTC date of an instant in seconds since 1970, or the seconds where no calendar has such a date."""
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).date().isoformat()
    except OverflowError:
        return f"{seconds} s"
