"""Plans: every problem of a log at once, its pieces, and what the manifest says about it."""

import json
import os
import pickle
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from behavegpt.data.sources import files
from behavegpt.data.sources.blocks import describe, find_source_problems, plan_pieces
from behavegpt.data.sources.spec import BehaviorTable, Columns
from behavegpt.errors import InputError

T0 = 1_339_437_960
GOOD = f"user,time,event\na,{T0},b\n"


def test_files_globs_directories_and_uris_name_the_same_files(write, tmp_path: Path, spec_of, monkeypatch) -> None:
    for name in ("x/a.csv", "x/y/b.csv.gz", "x/y/c.csv"):
        write(name, GOOD)
    for name in ("x/readme.md", "x/.hidden.csv", "x/_temporary/d.csv", "x/y/e.txt"):
        write(name, "no log")
    everything = ["a.csv", "b.csv.gz", "c.csv"]

    def found(*inputs: str) -> list[str]:
        return [Path(piece.file.name).name for piece in plan_pieces(spec_of(*inputs))]

    assert found(f"{tmp_path}/x") == everything
    assert found(f"{tmp_path}/x/**/*.csv*", f"{tmp_path}/x/a.csv") == everything
    assert found(f"{tmp_path}/x/*.csv") == ["a.csv"]
    assert found(f"{tmp_path}/x/y/[bc].csv", f"{tmp_path}/x/y/b.csv.gz") == ["b.csv.gz", "c.csv"]
    assert found(f"file://{tmp_path}/x") == everything
    assert found(f"file://{tmp_path}/x/y/*.csv") == ["c.csv"]
    bucket = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    monkeypatch.setattr(files, "open_filesystem", lambda name: (bucket, name.removeprefix("s3://")))
    assert found("s3://x/y") == ["b.csv.gz", "c.csv"]
    assert found("s3://x/*.csv", "s3://x/y/c.csv") == ["a.csv", "c.csv"]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert found("x/[y]/*.csv", "./x/a.csv") == ["a.csv", "c.csv"]


def test_file_whose_name_looks_like_a_glob(write, spec_of, rows_of) -> None:
    assert rows_of(spec_of(write("log[1].csv", GOOD)))["user"] == ["a"]


def test_missing_and_unknown_files_are_named_with_the_nearest(write, tmp_path: Path, spec_of) -> None:
    write("checkins.csv", GOOD)
    write("notes.md", "")
    (tmp_path / "empty").mkdir()
    names = ("chekins.csv", "no/log.csv", "*.parquet", "empty", "notes.md")
    assert find_source_problems(spec_of(*(f"{tmp_path}/{name}" for name in names))) == [
        f"--input {tmp_path}/chekins.csv: no such file. Did you mean 'checkins.csv'?",
        f"--input {tmp_path}/no/log.csv: no such file.",
        f"--input {tmp_path}/*.parquet: no file matches",
        f"--input {tmp_path}/empty: no log in this directory; a log's name ends in .csv, .tsv, .jsonl, .ndjson, "
        ".parquet",
        f"--input {tmp_path}/notes.md: not a log; a log's name ends in .csv, .tsv, .txt, .dat, .data, .jsonl, .ndjson, "
        ".parquet, text also with .gz or .zst after it",
    ]
    assert find_source_problems(spec_of()) == ["--input: name at least one file, glob, directory or URI"]
    (problem,) = find_source_problems(spec_of("nowhere://x/log.csv"))
    assert problem.startswith("--input nowhere://x/log.csv: cannot be listed (")


def test_every_wrong_column_is_named_with_the_nearest(write, spec_of) -> None:
    path = write("log.csv", f"user_id,timestamp,poi,poi2,poi2\n1,{T0},3,4,5\n")
    columns = Columns(user="user", timestamp="time_stamp", event="poi", behavior="kind", location="poi2")
    shown = f"{path} has no such column; it has 'user_id', 'timestamp', 'poi', 'poi2', 'poi2'."
    assert find_source_problems(spec_of(path, columns=columns)) == [
        f"--user user: {shown} Did you mean 'user_id'?",
        f"--timestamp time_stamp: {shown} Did you mean 'timestamp'?",
        f"--behavior kind: {shown}",
        f"--location poi2: {path} has 2 columns of that name; rename all but one",
    ]


def test_first_row_that_is_no_header_is_not_repeated(write, spec_of) -> None:
    path = write("log.csv", f"canary,{T0},b\nother,{T0},c\n")
    problems = find_source_problems(spec_of(path))
    assert len(problems) == 3 and "--column-names" in problems[0]
    assert "canary" not in "".join(problems)


def test_problems_of_the_spec_come_all_at_once(write, spec_of) -> None:
    columns = Columns(
        user="user", timestamp="time", event="event", location="user", latitude="lat", weekday="w", behavior="b"
    )
    table = BehaviorTable(input="nowhere.csv", event="e", behavior="b")
    spec = spec_of(
        write("log.csv", GOOD),
        columns=columns,
        timezone="Berlin",
        timezones=(("*.csv", "UTC+1"),),
        h3_resolution=16,
        behavior_table=table,
        delimiter='"',
        encoding="utf-16",
        column_names=("a", "a"),
        latest=0,
        first_date="yesterday",
    )
    problems = "\n".join(find_source_problems(spec))
    for said in (
        "--timezone Berlin: not a time zone",
        "--timezones *.csv UTC+1: not a time zone",
        "--timestamp time: says when already; leave out --weekday",
        "--location user: is the --user column too",
        "--latitude and --longitude: name both columns or none",
        "--h3-resolution 16: must be 0 to 15",
        "--behavior b: the behaviour table says it already",
        "--delimiter '\"': must be one or more characters",
        "--encoding utf-16: must be one that extends ASCII",
        "--column-names a a: must be",
        "--latest 1970-01-01: must be a date from 1971-01-02 to 2100-01-01",
        "--first-date yesterday: must be",
        "--behavior-table nowhere.csv: no such file",
    ):
        assert said in problems


@pytest.mark.parametrize(
    ("header", "mapped", "hint"),
    [
        ("User,Time,Event", ("user", "time", "event"), ["'User'", "'Event'", "'Time'"]),
        ("user_ids,stamps,what", ("user_id", "stamp", "event"), ["'user_ids'", None, "'stamps'"]),
        ("canary,1339437960,b", ("user", "time", "event"), [None, None, None]),
    ],
)
def test_a_name_close_to_a_wrong_one_is_shown_where_all_are_wrong(write, spec_of, header, mapped, hint) -> None:
    columns = Columns(user=mapped[0], timestamp=mapped[1], event=mapped[2])
    problems = find_source_problems(spec_of(write("log.csv", f"{header}\na,{T0},c\n"), columns=columns))
    assert [p.partition("Did you mean ")[2].rstrip("?") or None for p in problems] == hint


@pytest.mark.parametrize(("delimiter", "shown"), [(";", "';'"), ("\t", "'\\t'"), ("|", "'|'")])
def test_a_header_of_another_delimiter_names_it_once_and_shows_no_cell(write, spec_of, delimiter, shown) -> None:
    path = write("log.csv", f"canary,{T0},b\n".replace(",", delimiter) * 2)
    assert find_source_problems(spec_of(path)) == [f"{path}: row 1 has one value between ','; pass --delimiter {shown}"]


def test_a_time_is_no_event_behaviour_or_location(write, spec_of) -> None:
    path = write("log.csv", GOOD)
    for role, said in {"event": "event", "behavior": "behaviour", "location": "location"}.items():
        columns = Columns(**{"user": "user", "timestamp": "time", "event": "event"} | {role: "time"})
        assert find_source_problems(spec_of(path, columns=columns)) == [
            f"--timestamp time: is the --{role} column too; a time is no {said}, so map another column"
        ]


def test_one_file_under_several_names_is_read_once(write, tmp_path: Path, spec_of, rows_of, monkeypatch) -> None:
    path = write("a.csv", GOOD)
    (tmp_path / "link.csv").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    spec = spec_of("a.csv", "./a.csv", path, "link.csv", f"file://{path}", str(tmp_path))
    assert rows_of(spec)["user"] == ["a"]


def test_header_without_rows_is_refused_only_where_no_file_has_any(write, spec_of) -> None:
    empty, full = write("empty.csv", "user,time,event\n"), write("full.csv", GOOD)
    assert find_source_problems(spec_of(empty)) == [f"{empty}: has columns but no rows"]
    assert find_source_problems(spec_of(empty, full)) == []
    assert "not readable as csv (the file is empty)" in find_source_problems(spec_of(write("none.csv", "")))[0]


def test_wrong_delimiter_is_named(write, spec_of) -> None:
    path = write("log.csv", f"a;{T0};b\n")
    (problem,) = find_source_problems(spec_of(path, column_names=("user", "time", "event")))
    assert problem.startswith(f"{path}: row 1 has 1 values between its delimiters (',') where there are 3 columns")


def test_files_may_have_their_columns_in_any_order_and_their_own_zone(write, spec_of, rows_of) -> None:
    write("x/a.csv", "event,user,time\nb,1,2012-06-11T14:06\n")
    write("x/tokyo.csv", "time,event,user\n2012-06-12T03:06,c,2\n")
    spec = spec_of(
        str(Path(write("x/z.csv", "user,time,event\n3,2012-06-11T18:06Z,d\n")).parent),
        timezone="America/New_York",
        timezones=(("tokyo.*", "Asia/Tokyo"), ("*z.csv", "UTC")),
    )
    rows = rows_of(spec)
    assert rows["user"] == ["1", "2", "3"]
    assert rows["seconds"] == [T0] * 3
    # Monday 14:06, Tuesday 03:06, Monday 18:06.
    assert rows["week_slot"] == [28, 48 + 6, 36]


def test_pieces_pickle_and_are_in_order(write, spec_of) -> None:
    spec = spec_of(write("b.csv", GOOD * 1), write("a.csv", GOOD + f"a,{T0},b\n" * 2000))
    pieces = plan_pieces(spec, block_bytes=1000)
    assert [piece.label for piece in pickle.loads(pickle.dumps(pieces))] == [piece.label for piece in pieces]
    assert len(pieces) > 3 and pieces[-1].label.endswith("b.csv") and "(1 of " in pieces[0].label
    assert [piece.part.start for piece in pieces[:-1]] == sorted(piece.part.start for piece in pieces[:-1])
    assert sum(piece.num_bytes for piece in pieces[:-1]) == os.path.getsize(pieces[0].file.name) - 16


def test_description_is_json_and_names_the_unit_but_no_user(write, spec_of) -> None:
    spec = spec_of(write("log.csv", f"user,time,event\ncanary,{T0}000,b\n"), timezone="Asia/Tokyo")
    described = describe(spec)
    assert described["time_unit"] == "ms"
    assert described["files"] == [{"name": "log.csv", "bytes": 16 + 23}]
    assert described["columns"] == {"user": "user", "timestamp": "time", "event": "event"}
    assert "canary" not in json.dumps(described)
    with pytest.raises(InputError):
        describe(spec_of(write("log.csv", "user\n")))
