"""Reading tables: what reaches the fit, what is left out and why, and what is refused with its row and value."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.table import Columns, Table, read_table
from behavegpt.errors import InputError

NDL = {"params_column": "N", "events_column": "D", "loss_column": "loss"}


def problems(path: Path, **columns: Any) -> tuple[str, ...]:
    """Return what reading the table complains about."""
    with pytest.raises(InputError) as caught:
        read_table(path, **columns)
    return caught.value.problems


def write(path: Path, text: str) -> Path:
    """Write a CSV and return its path."""
    path.write_text(text)
    return path


def test_csv_gzip_and_parquet_agree(tmp_path: Path):
    text = "N,D,loss\n10,100,2.5\n20,200,2.25\n"
    write(tmp_path / "a.csv", text)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(text.encode()))
    pq.write_table(pa.table({"N": [10, 20], "D": [100.0, 200.0], "loss": [2.5, 2.25]}), tmp_path / "c.parquet")
    for name in ("a.csv", "b.csv.gz", "c.parquet"):
        table = read_table(tmp_path / name, **NDL)
        np.testing.assert_array_equal(np.stack(table.points[:3]), [[10, 20], [100, 200], [2.5, 2.25]])
        assert table.cell_id == ("row 1", "row 2")
        assert not table.is_study


def test_missing_and_infinite_values_are_dropped_with_their_reason(tmp_path: Path):
    table = read_table(write(tmp_path / "t.csv", "N,D,loss\n1,1,1\n,2,2\n3,3,nan\n4,4,inf\n5,5,5\n"), **NDL)
    assert table.cell_id == ("row 1", "row 5")
    assert table.dropped == (("row 2", "N is missing"), ("row 3", "loss is missing"), ("row 4", "loss is inf"))


def test_impossible_values_are_all_named_at_once(tmp_path: Path):
    found = problems(write(tmp_path / "t.csv", "N,D,loss\n1,1,1\n-2,2,2\n3,0,3\n4,4,-1\n"), **NDL)
    assert [problem.split(": ", 1)[1] for problem in found] == [
        "row 2: N is -2; it must be positive, from 1e-30 to 1e+30.",
        "row 3: D is 0; it must be positive, from 1e-30 to 1e+30.",
        "row 4: loss is -1; it must be positive, from 1e-30 to 1e+30.",
    ]


def test_text_in_a_number_column_names_row_and_value(tmp_path: Path):
    (found,) = problems(write(tmp_path / "t.csv", "N,D,loss\n1,1,1\n2,two,2\n"), **NDL)
    assert "row 2: D is 'two', not a number" in found


def test_missing_columns_come_with_the_nearest_name(tmp_path: Path):
    path = write(tmp_path / "t.csv", "params,events,loss\n1,1,1\n")
    found = problems(path, params_column="param", events_column="event", loss_column="loss")
    assert len(found) == 2
    assert "'param' (--params-column) is not in the table" in found[0]
    assert "Did you mean 'params'?" in found[0]
    assert "Did you mean 'events'?" in found[1]


def test_a_table_that_is_no_study_needs_its_columns_named(tmp_path: Path):
    found = problems(write(tmp_path / "t.csv", "N,D,loss\n1,1,1\n"))
    assert [flag in problem for flag, problem in zip(("--params", "--events", "--loss"), found, strict=True)] == [
        True
    ] * 3


def test_one_column_cannot_be_two_things(tmp_path: Path):
    (found,) = problems(write(tmp_path / "t.csv", "N,D,loss\n1,1,1\n"), **(NDL | {"events_column": "N"}))
    assert "three different columns" in found


def test_a_column_that_is_there_twice(tmp_path: Path):
    (found,) = problems(write(tmp_path / "t.csv", "N,N,D,loss\n1,1,1,1\n"), **NDL)
    assert "is there more than once" in found


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b"N,D,loss\n", "no rows"),
        ("t.csv", b"\xff\x00\x1b[31m\n,,,\n\x80,1", "cannot be read as CSV"),
        ("t.csv.gz", b"not gzip", "cannot be read as CSV"),
        ("t.parquet", b"PAR1 broken PAR1", "cannot be read as Parquet"),
        ("t.xlsx", b"x", "must end in .csv, .csv.gz or .parquet"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes, words: str):
    (tmp_path / name).write_bytes(content)
    (found,) = problems(tmp_path / name, **NDL)
    assert words in found
    assert "\x1b" not in found


def test_directory_and_absent_file(tmp_path: Path):
    write(tmp_path / "losses.csv", "N,D,loss\n1,1,1\n")
    assert "is a directory" in problems(tmp_path, **NDL)[0]
    assert "no such file. Did you mean 'losses.csv'?" in problems(tmp_path / "loses.csv", **NDL)[0]


def study(study_dir: Path) -> Table:
    """Return the study's table."""
    return read_table(study_dir / "results.parquet")


def test_a_study_needs_no_flags_and_only_completed_cells_reach_the_fit(study_dir: Path):
    table = study(study_dir)
    assert table.is_study
    assert table.columns == Columns("num_params", "num_events", "loss")
    assert len(table.points.loss) == 36
    assert table.points.loss.max() < 3
    assert table.points.loss.min() > 1
    reasons = dict(table.dropped)
    assert reasons["diverged"].startswith("diverged: ")
    assert reasons["crashed"] == "crashed: worker died"
    assert reasons["skipped"] == "skipped"
    assert len(table.rows) == 39


def test_a_studys_trunks_are_its_clusters(study_dir: Path):
    table = study(study_dir)
    assert sorted(np.bincount(table.trunk)) == [6] * 6
    for trunk in range(6):
        assert len(np.unique(table.points.num_params[table.trunk == trunk])) == 1


def test_another_convention_of_n(study_dir: Path):
    rows = pq.read_table(study_dir / "results.parquet").to_pylist()
    for row in rows:
        row["num_params_total"] = 2 * row["num_params"]
    path = study_dir / "results.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
    table = read_table(path, params_column="num_params_total")
    assert table.columns.params == "num_params_total"
    assert table.points.num_params.min() == 15_000


def test_variants_and_datasets_are_not_mixed(study_dir: Path):
    path = study_dir / "results.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[0]["variant"], rows[1]["dataset_fingerprint"] = "dro", "other"
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
    found = problems(path)
    assert "2 values of variant, ['dro', 'erm']; choose one with --variant" in found[0]
    assert "2 values of dataset_fingerprint" in found[1]
    rows[1]["dataset_fingerprint"] = "abc123"
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
    table = read_table(path, variant="erm")
    assert len(table.points.loss) == 35
    assert ("cell00", "another variant: dro") in table.dropped
