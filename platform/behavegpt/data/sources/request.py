"""What a user says of a log on the command line, flag by flag, and the `LogSpec` that it means.

In: flags, perhaps with a preset. Out: a `LogSpec`; what its files say to it, survey.py finds out.
"""

from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from behavegpt.data.sources.presets import Preset, preset_spec
from behavegpt.data.sources.spec import BehaviorTable, Columns, LogFormat, LogSpec, TimeUnit
from behavegpt.errors import InputError

_AS_GIVEN = ("format", "column_names", "encoding", "timezone", "time_unit", "h3_resolution", "first_date")
"""Flags that are fields of the `LogSpec`, of the same name and type."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogRequest:
    """Where a log is and how to read it."""

    input: tuple[str, ...]
    """Files, globs, directories, URIs; an event a row in any order: .csv, .tsv, .jsonl (plain, .gz, .zst), .parquet.
    The dataset records the files' names, so they must not be user ids."""
    preset: Preset | None = None
    """A published log: its columns, times and delimiter. Flags given beside it take precedence."""
    user: str | None = None
    """Column of who acted. Its values are replaced by pseudonyms and stored nowhere. In this and every column of ids
    only blank cells are missing; text such as NaN, None or null is an id."""
    timestamp: str | None = None
    """Column of when. Without a UTC offset it is local time."""
    event: str | None = None
    """Column of what happened. Its values are stored in the dataset, so map no column that identifies people."""
    behavior: str | None = None
    """Column of the class to predict; empty cells stay in the history unscored. Without it, the event is the class."""
    location: str | None = None
    """Column of where it happened. Without it, and without coordinates, locations are missing."""
    latitude: str | None = None
    """Column of degrees north; with --longitude and --h3-resolution, the location is a grid cell."""
    longitude: str | None = None
    """Column of degrees east."""
    utc_offset: str | None = None
    """Column of each row's whole minutes from UTC to local time, such as -300; with it, and with the preset
    foursquare-tsmc2014, the row's own offset decides and --timezone does not."""
    weekday: str | None = None
    """Column of the local weekday, 1 Monday .. 7 Sunday; with --slot and --day in place of --timestamp."""
    slot: str | None = None
    """Column of the local half hour of the day, 1 from 00:00 .. 48."""
    day: str | None = None
    """Column of the number of days since --first-date."""
    first_date: str | None = None
    """Date of day 0 of --day; default 2001-01-01."""
    h3_resolution: int | None = None
    """Of the grid: 0 (cells of 1,281 km) .. 15 (0.6 m)."""
    behavior_table: str | None = None
    """A second file that gives events their behaviours, such as apps their categories."""
    table_columns: tuple[str, str] = ("event", "behavior")
    """Its columns of events and of behaviours, where no --preset knows them."""
    format: LogFormat | None = None
    """Of all files; default by the suffix of each."""
    delimiter: str | None = None
    r"""Of CSV: characters, \t for a tab, or the word whitespace for any number of spaces or tabs; default a comma, in
    .tsv files a tab."""
    quoted: bool = True
    """Values of CSV may stand in double quotes; with --no-quoted, a quote is a character like any other."""
    column_names: tuple[str, ...] | None = None
    """Of CSV without a header row."""
    encoding: str | None = None
    """Of CSV and JSON lines, such as latin-1; default utf-8."""
    timezone: str | None = None
    """IANA name of the users' time zone, for the local weekday and half hour of each event; default UTC."""
    timezones: tuple[tuple[str, str], ...] = ()
    """Pairs of a pattern and a zone, such as 'tokyo*' Asia/Tokyo: the zone of the files whose path or name matches."""
    time_unit: TimeUnit | None = None
    """How times are written; default by the first rows of every file."""
    latest: str | None = None
    """Date (UTC) from which on times are nonsense; default tomorrow."""

    def from_root(self) -> "LogRequest":
        """Return the same log in words that mean the same to workers, who have another working directory."""
        table = None if self.behavior_table is None else _from_root(self.behavior_table)
        return replace(self, input=tuple(map(_from_root, self.input)), behavior_table=table)

    def to_spec(self) -> LogSpec:
        """Return the log that the flags describe.

        Raises:
            InputError: A column is missing without a preset, or --latest is no date.
        """
        columns, given = self._given([f.name for f in fields(Columns)]), self._changes()
        if self.preset is not None:
            spec = preset_spec(self.preset, self.input, behavior_table=self.behavior_table)
            spec = replace(spec, columns=replace(spec.columns, **columns), **given)
        else:
            needed = ("user", "event") if {"weekday", "slot", "day"} & set(columns) else ("user", "timestamp", "event")
            if missing := [f"--{role}: is needed without --preset" for role in needed if role not in columns]:
                raise InputError(*missing)
            spec = LogSpec(inputs=self.input, columns=Columns(**columns), **given)
        if self.behavior_table is None or spec.behavior_table is not None:
            return spec
        event, behavior = self.table_columns
        return replace(spec, behavior_table=BehaviorTable(input=self.behavior_table, event=event, behavior=behavior))

    def _changes(self) -> dict[str, Any]:
        """Return the fields of the `LogSpec` that the flags set."""
        given = self._given(_AS_GIVEN)
        if self.delimiter is not None:
            given["delimiter"] = self.delimiter.replace("\\t", "\t")
        if not self.quoted:
            given["quoted"] = False
        if self.timezones:
            given["timezones"] = self.timezones
        tomorrow = datetime.now(UTC).date() + timedelta(days=1)
        return given | {"latest": to_seconds(tomorrow.isoformat() if self.latest is None else self.latest)}

    def _given(self, names: list[str] | tuple[str, ...]) -> dict[str, Any]:
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def to_seconds(day: str) -> int:
    """Return the seconds since 1970 at which a UTC date begins."""
    try:
        start = date.fromisoformat(day)
    except ValueError:
        raise InputError(f"--latest {day}: is no date; allowed is one such as 2030-01-01") from None
    return int(datetime(start.year, start.month, start.day, tzinfo=UTC).timestamp())


def _from_root(place: str) -> str:
    return place if "://" in place else str(Path(place).absolute())
