"""The journal: which of a cell's files counts, and that a damaged one is named."""

import json
import threading

import pytest

from behavegpt.errors import InputError
from behavegpt.study.journal import read_cells, record_failure


def put(study_dir, name, row) -> None:
    (study_dir / "cells").mkdir(parents=True, exist_ok=True)
    (study_dir / "cells" / name).write_text(json.dumps(row))


def row(cell_id="a-d5", **values) -> dict:
    return {"cell_id": cell_id, "status": "completed", **values}


def test_a_directory_without_cells_has_no_rows(tmp_path):
    assert read_cells(tmp_path) == []
    assert read_cells(tmp_path / "absent") == []


def test_the_final_file_beats_every_failed_attempt(tmp_path):
    put(tmp_path, "a-d5.json", row(loss=1.5))
    for attempt in (1, 2):
        record_failure(tmp_path, row(status="crashed", reason=f"attempt {attempt}"))
    assert read_cells(tmp_path) == [row(loss=1.5)]


def test_without_a_final_file_the_latest_failed_attempt_counts(tmp_path):
    for attempt in range(1, 12):
        record_failure(tmp_path, row(status="crashed", reason=f"attempt {attempt}"))
    # Ten sorts before nine by name: the number counts.
    assert read_cells(tmp_path) == [row(status="crashed", reason="attempt 11")]
    assert len(list((tmp_path / "cells").iterdir())) == 11


def test_failed_attempts_are_kept_and_numbered_from_1(tmp_path):
    for reason in ("first", "second"):
        record_failure(tmp_path, row(status="oom", reason=reason))
    names = {p.name: json.loads(p.read_text())["reason"] for p in (tmp_path / "cells").iterdir()}
    assert names == {"a-d5.failed-1.json": "first", "a-d5.failed-2.json": "second"}


def test_attempts_recorded_at_once_are_all_kept(tmp_path):
    threads = [
        threading.Thread(target=record_failure, args=(tmp_path, row(status="crashed", reason=str(k)))) for k in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = {p.name: json.loads(p.read_text())["reason"] for p in (tmp_path / "cells").iterdir()}
    assert kept.keys() == {f"a-d5.failed-{k}.json" for k in range(1, 9)}
    assert set(kept.values()) == {str(k) for k in range(8)}


def test_each_cell_has_one_row(tmp_path):
    put(tmp_path, "a-d5.json", row())
    put(tmp_path, "a-d50.json", row("a-d50"))
    record_failure(tmp_path, row("a-d500", status="oom"))
    assert sorted((r["cell_id"], r["status"]) for r in read_cells(tmp_path)) == [
        ("a-d5", "completed"),
        ("a-d50", "completed"),
        ("a-d500", "oom"),
    ]


def test_only_the_final_file_finishes_a_cell(tmp_path):
    record_failure(tmp_path, row(status="crashed"))
    assert not finished(tmp_path, "a-d5")
    put(tmp_path, "a-d5.json", row())
    assert finished(tmp_path, "a-d5")
    assert not finished(tmp_path, "a-d")
    assert not finished(tmp_path, "a-d50")


def test_what_a_killed_writer_left_is_no_cell(tmp_path):
    put(tmp_path, ".a-d5.json.0123abc", row())
    (tmp_path / "cells" / ".b-d5.json.4567def").write_text('{"cell_id": "b-')
    assert read_cells(tmp_path) == []


@pytest.mark.parametrize(
    "content", [b"", b'{"cell_id": "a-d5", "lo', b"[1, 2]", b'{"status": "completed"}', b"\xff\xfe", b"3"]
)
def test_an_edited_cell_file_is_named(tmp_path, content):
    put(tmp_path, "b-d5.json", row("b-d5"))
    path = tmp_path / "cells" / "a-d5.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_cells(tmp_path)
    [problem] = caught.value.problems
    assert problem.startswith(f"{path}: not a cell file")
    assert "delete it to train the cell again" in problem
