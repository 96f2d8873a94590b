"""Specs of public logs, in the formats in which they are published.

In: a preset's name and the files. Out: the `LogSpec` that reads them.
"""

from typing import Literal

from behavegpt.data.sources.spec import WHITESPACE, BehaviorTable, Columns, LogSpec

Preset = Literal["tsinghua-app-usage", "foursquare-tsmc2014", "lsapp", "movielens", "honor"]


def preset_spec(
    preset: Preset, inputs: tuple[str, ...], *, behavior_table: str | None = None, timezone: str | None = None
) -> LogSpec:
    """Return the spec of a public log.

    Args:
        inputs: As `LogSpec.inputs`, of one of the preset's files each.
        behavior_table: App2Category.txt for tsinghua-app-usage; without it, the app is the behaviour.
        timezone: Instead of the preset's own.
    """
    match preset:
        case "tsinghua-app-usage":
            return tsinghua_app_usage(inputs, categories=behavior_table, timezone=timezone or "Asia/Shanghai")
        case "foursquare-tsmc2014":
            return foursquare_tsmc2014(inputs)
        case "lsapp":
            return lsapp(inputs, timezone=timezone or "UTC")
        case "movielens":
            return movielens(inputs, timezone=timezone or "UTC")
        case "honor":
            return honor(inputs)


def tsinghua_app_usage(inputs: tuple[str, ...], *, categories: str | None, timezone: str = "Asia/Shanghai") -> LogSpec:
    """Return the spec of App_usage_trace.txt: user, YYYYMMDDHHMMSS, base station, app, traffic; no header.

    Values stand between spaces or tabs, and times are of Shanghai. `categories` is App2Category.txt: app, category.
    See http://fi.ee.tsinghua.edu.cn/appusage/.
    """
    table = None
    if categories is not None:
        table = BehaviorTable(
            input=categories, event="app", behavior="category", delimiter=WHITESPACE, column_names=("app", "category")
        )
    return LogSpec(
        inputs=inputs,
        columns=Columns(user="user", timestamp="time", event="app", location="base_station"),
        format="csv",
        delimiter=WHITESPACE,
        quoted=False,
        column_names=("user", "time", "base_station", "app", "traffic"),
        timezone=timezone,
        time_unit="yyyymmddhhmmss",
        behavior_table=table,
    )


def foursquare_tsmc2014(inputs: tuple[str, ...], *, h3_resolution: int = 8) -> LogSpec:
    """Return the spec of dataset_TSMC2014_NYC.txt and _TKY.txt: eight columns between tabs, no header, Latin-1.

    The event is the venue, the behaviour the category's id (its name is not unique), the location the venue's grid
    cell of about 0.5 km; times are UTC with the minutes to local time beside them. See https://sites.google.com/site/yangdingqi/home/foursquare-dataset.
    """
    return LogSpec(
        inputs=inputs,
        columns=Columns(
            user="user",
            timestamp="utc_time",
            event="venue",
            behavior="category",
            latitude="latitude",
            longitude="longitude",
            utc_offset="offset_minutes",
        ),
        format="csv",
        delimiter="\t",
        quoted=False,
        column_names=(
            "user",
            "venue",
            "category",
            "category_name",
            "latitude",
            "longitude",
            "offset_minutes",
            "utc_time",
        ),
        encoding="latin-1",
        time_unit="ctime",
        h3_resolution=h3_resolution,
    )


def lsapp(inputs: tuple[str, ...], *, timezone: str = "UTC") -> LogSpec:
    """Return the spec of lsapp.tsv: user_id, session_id, timestamp, app_name, event_type between tabs, with a header.

    The event is the app, and its type (Opened, Closed, ...) is left out; times are text without an offset. The
    published lsapp.tsv.gz is a tar archive: unpack it first. See https://github.com/aliannejadi/LSApp.
    """
    return LogSpec(
        inputs=inputs,
        columns=Columns(user="user_id", timestamp="timestamp", event="app_name"),
        format="csv",
        delimiter="\t",
        quoted=False,
        timezone=timezone,
        time_unit="iso",
    )


def movielens(inputs: tuple[str, ...], *, timezone: str = "UTC") -> LogSpec:
    """Return the spec of ratings.dat (values between ::) or u.data (between tabs): user, item, rating, seconds.

    There is no header. The event is the item, the behaviour the rating. See https://grouplens.org/datasets/movielens/.
    """
    return LogSpec(
        inputs=inputs,
        columns=Columns(user="user", timestamp="time", event="item", behavior="rating"),
        format="csv",
        delimiter="::" if any(name.lower().endswith((".dat", ".dat.gz", ".dat.zst")) for name in inputs) else "\t",
        quoted=False,
        column_names=("user", "item", "rating", "time"),
        timezone=timezone,
        time_unit="s",
    )


def honor(inputs: tuple[str, ...]) -> LogSpec:
    """Return the spec of logs that come as weekday, slot, location, event, behaviour and day: CSV with a header.

    The columns are user, weekday (1 Monday .. 7 Sunday), slot (1 from 00:00 .. 48), location, event, behavior and day
    (days since a Monday, day 0), in any order. Rows whose weekday is not that of their day are unreadable.
    """
    return LogSpec(
        inputs=inputs,
        columns=Columns(
            user="user",
            event="event",
            behavior="behavior",
            location="location",
            weekday="weekday",
            slot="slot",
            day="day",
        ),
    )
