"""Logs: what a CSV or Parquet file may look like, and what is said when it does not."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavegpt.data.logs import Columns, Log, id_text, read_log
from behavegpt.errors import InputError

COLUMNS = Columns(user="user", timestamp="time", event="event")


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.name.lower().endswith(".gz") else data)
    return path


def problems(path: Path, columns: Columns = COLUMNS) -> tuple[str, ...]:
    with pytest.raises(InputError) as error:
        read_log(path, columns)
    return error.value.problems


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "LOG.CSV.gz", "LOG.CSV.GZ"])
def test_csv_with_bom_crlf_quoted_newlines_and_any_script(tmp_path: Path, name: str) -> None:
    text = '\ufeffuser,extra,time,event\r\n007,x,1,"🙂, or\n not"\r\n"שלום",y,2,NA\r\n'
    log = read_log(write(tmp_path / name, text), COLUMNS)
    assert log.table.to_pydict() == {
        "user": ["007", "שלום"],
        "time": ["1", "2"],
        "event": ["🙂, or\n not", "NA"],
    }


def test_quoted_newlines_are_no_rows_in_a_file_of_several_blocks(tmp_path: Path) -> None:
    # Arrow reads blocks of 1 MiB: 40,000 rows of 60 bytes are more than two.
    rows = "".join(f'{i},2,"{"a" * 20}\n{"b" * 28}"\n' for i in range(10_000, 50_000))
    log = read_log(write(tmp_path / "log.csv", "user,time,event\n" + rows), COLUMNS)
    assert log.table.num_rows == 40_000
    assert log.table["event"].unique().to_pylist() == ["a" * 20 + "\n" + "b" * 28]


def test_one_column_may_have_several_roles_and_only_mapped_columns_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "user,time,event,secret\n1,2,3,4\n")
    log = read_log(path, Columns(user="user", timestamp="time", event="event", location="event"))
    assert log.table.column_names == ["user", "time", "event"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array(["007", None]), ["007", None]),
        (pa.array([7, None], pa.uint16()), ["7", None]),
        (pa.array([7.0, float("nan"), None]), ["7", None, None]),
        (pa.array([7.5, 8.0]), ["7.5", "8"]),
        (pa.array([float("inf")]), ["inf"]),
        (pa.array([True]), ["true"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (pa.array(["a"], pa.large_string()), ["a"]),
    ],
)
def test_parquet_ids_become_text(tmp_path: Path, values: pa.Array, expected: list) -> None:
    rows = len(values)
    pq.write_table(pa.table({"user": values, "time": [1] * rows, "event": ["x"] * rows}), tmp_path / "log.parquet")
    log = read_log(tmp_path / "log.parquet", COLUMNS)
    assert id_text(log, "user").to_pylist() == expected
    assert log.at("user", 0).endswith("log.parquet: column 'user', row 1")


def test_id_column_of_another_type_is_refused() -> None:
    log = Log(path=Path("log.parquet"), table=pa.table({"user": [[1, 2]]}), first_row=1)
    with pytest.raises(InputError, match=r"log\.parquet: column 'user' has type list<.*>; an id column holds text or"):
        id_text(log, "user")


def test_every_wrong_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "user_id,timestamp,poi\n1,2,3\n")
    found = problems(path, Columns(user="user", timestamp="time_stamp", event="poi", behavior="kind"))
    assert found == (
        f"--user user: {path} has no such column; it has 'user_id', 'timestamp', 'poi'. Did you mean 'user_id'?",
        f"--timestamp time_stamp: {path} has no such column; it has 'user_id', 'timestamp', 'poi'."
        " Did you mean 'timestamp'?",
        f"--behavior kind: {path} has no such column; it has 'user_id', 'timestamp', 'poi'.",
    )


def test_user_column_as_anything_else_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "user,time,event\n1,2,3\n")
    (problem,) = problems(path, Columns(user="user", timestamp="time", event="event", location="user"))
    assert problem.startswith("--location user: is the --user column too")


def test_column_name_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    (problem,) = problems(write(tmp_path / "log.csv", "user,time,event,event\n1,2,3,4\n"))
    assert problem.startswith("--event event: ") and "2 columns of that name" in problem


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "checkins.csv", "")
    assert problems(tmp_path / "chekins.csv") == (
        f"--input {tmp_path / 'chekins.csv'}: no such file. Did you mean 'checkins.csv'?",
    )
    assert problems(tmp_path / "no" / "log.csv") == (f"--input {tmp_path / 'no' / 'log.csv'}: no such file.",)


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.parquet"])
@pytest.mark.parametrize("content", [b"", bytes(range(128, 256)) * 50])
def test_unreadable_file_is_refused_in_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    (problem,) = problems(write(tmp_path / name, content))
    assert problem.startswith(f"{tmp_path / name}: not readable as .")


def test_gzip_that_is_none_or_is_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv.gz").write_bytes(b"user,time,event\n1,2,3\n")
    assert "not readable" in problems(tmp_path / "log.csv.gz")[0]
    rows = "".join(f"{i * 7919 % 1000},{i},{i * 31 % 77}\n" for i in range(3000))
    whole = gzip.compress(("user,time,event\n" + rows).encode())
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    assert "Truncated" in problems(tmp_path / "cut.csv.gz")[0]


def test_unknown_suffix_and_header_without_rows_are_refused(tmp_path: Path) -> None:
    assert "name ends in .csv, .csv.gz, .parquet" in problems(write(tmp_path / "log.tsv", "user\ttime\n"))[0]
    assert problems(write(tmp_path / "log.csv", "user,time,event\n")) == (
        f"{tmp_path / 'log.csv'}: has columns but no rows",
    )


def test_row_with_too_many_cells_is_named_but_not_repeated(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "user,time,event\n1,2,3\ncanary-user,2,3,4\n")
    (problem,) = problems(path)
    assert "Row #3: Expected 3 columns, got 4" in problem
    assert "canary" not in problem
