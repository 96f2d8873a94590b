"""Flags about a log: every field of the spec can be reached, and a preset gives way to what stands beside it."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from behavegpt.data.sources.request import LogRequest
from behavegpt.data.sources.spec import BehaviorTable, Columns, LogSpec
from behavegpt.data.sources.survey import find_spec_problems
from behavegpt.errors import InputError

MAPPED: dict[str, Any] = {"user": "u", "timestamp": "t", "event": "e"}


def test_every_field_of_the_spec_can_be_reached() -> None:
    said: dict[str, Any] = {role.name: f"column {role.name}" for role in fields(Columns)}
    request = LogRequest(
        input=("a", "b"),
        **said,
        behavior_table="kinds.csv",
        table_columns=("x", "y"),
        format="csv",
        delimiter=r"\t",
        quoted=False,
        column_names=("a",),
        encoding="latin-1",
        timezone="Asia/Tokyo",
        timezones=(("x*", "UTC"),),
        time_unit="ms",
        h3_resolution=3,
        latest="2020-01-01",
        first_date="2002-01-01",
    )
    expected = LogSpec(
        inputs=("a", "b"),
        columns=Columns(**said),
        behavior_table=BehaviorTable(input="kinds.csv", event="x", behavior="y"),
        format="csv",
        delimiter="\t",
        quoted=False,
        column_names=("a",),
        encoding="latin-1",
        timezone="Asia/Tokyo",
        timezones=(("x*", "UTC"),),
        time_unit="ms",
        h3_resolution=3,
        latest=1_577_836_800,
        first_date="2002-01-01",
    )
    assert request.to_spec() == expected
    plain = LogSpec(inputs=("a",), columns=Columns(**MAPPED))
    assert not [f.name for f in fields(LogSpec) if getattr(expected, f.name) == getattr(plain, f.name)]


def test_flags_beside_a_preset_take_precedence() -> None:
    spec = LogRequest(input=("lsapp.tsv",), preset="lsapp", timezone="Asia/Tokyo", event="event_type").to_spec()
    assert (spec.timezone, spec.columns.event, spec.columns.user) == ("Asia/Tokyo", "event_type", "user_id")
    assert (spec.delimiter, spec.quoted) == ("\t", False)


def test_weekday_slot_and_day_stand_in_for_a_timestamp() -> None:
    with pytest.raises(InputError) as refused:
        LogRequest(input=("a",), user="u").to_spec()
    assert refused.value.problems == (
        "--timestamp: is needed without --preset", "--event: is needed without --preset",
    )  # fmt: skip
    spec = LogRequest(input=("a",), user="u", event="e", weekday="w", slot="s", day="d").to_spec()
    assert find_spec_problems(spec) == []
    spec = LogRequest(input=("a",), user="u", event="e", weekday="w").to_spec()
    assert find_spec_problems(spec) == [
        "--timestamp: name the column of times, or those of --weekday, --slot and --day"
    ]


def test_times_from_tomorrow_on_are_nonsense_and_wrong_dates_are_answered_in_dates() -> None:
    before = datetime.now(UTC)
    latest = datetime.fromtimestamp(LogRequest(input=("a",), **MAPPED).to_spec().latest, UTC)
    assert latest.time() == datetime.min.time()
    assert before < latest <= datetime.now(UTC) + timedelta(days=1)
    spec = LogRequest(input=("a",), **MAPPED, latest="2110-01-01").to_spec()
    assert find_spec_problems(spec) == ["--latest 2110-01-01: must be a date from 1971-01-02 to 2100-01-01"]
    with pytest.raises(InputError, match="--latest soon: is no date"):
        LogRequest(input=("a",), **MAPPED, latest="soon").to_spec()


def test_places_mean_the_same_from_another_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    given = LogRequest(input=("logs/*.csv", "/abs.csv", "s3://bucket/logs"), behavior_table="apps.tsv", user="who")
    assert given.from_root() == replace(
        given, input=(f"{tmp_path}/logs/*.csv", "/abs.csv", "s3://bucket/logs"), behavior_table=f"{tmp_path}/apps.tsv"
    )
    assert LogRequest(input=("a.csv",)).from_root().behavior_table is None
