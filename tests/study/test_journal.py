"""The journal: which of a cell's files counts, and that a damaged one is named."""

import json
import threading
from dataclasses import replace

import pytest

from behavegpt.errors import InputError
from behavegpt.study.config import of_widths
from behavegpt.study.grid import plan_study
from behavegpt.study.journal import read_cells, record_failure
from behavegpt.train.record import finished


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


@pytest.fixture
def job(make_config, manifest, tiny, tmp_path):
    """Return a trunk with cells of 2,000 and of 4,000 events."""
    [job] = plan_study(make_config(sizes=of_widths(12)), manifest, tiny, tmp_path).jobs
    return job


def test_only_the_final_file_finishes_a_cell(job, tmp_path):
    small, large = job.cells
    record_failure(tmp_path, row(small.cell_id, status="crashed"))
    assert not finished(job, small)
    put(tmp_path, f"{small.cell_id}.json", row(small.cell_id))
    assert finished(job, small)
    assert not finished(job, large)
    assert not finished(job, replace(small, cell_id=small.cell_id[:-1]))
    assert not finished(job, replace(small, cell_id=f"{small.cell_id}0"))


def test_a_cell_that_keeps_its_model_is_finished_with_file_and_checkpoint(job, tmp_path):
    small, large = job.cells
    keeping = replace(job, keep_final=True)
    put(tmp_path, f"{small.cell_id}.json", row(small.cell_id))
    assert finished(job, small) and not finished(keeping, small)
    checkpoints = tmp_path / "checkpoints" / job.trunk_id
    for other in ("final-2000.partial", "final-4000", "step-00000017"):
        (checkpoints / other).mkdir(parents=True)
    assert not finished(keeping, small)
    (checkpoints / "final-2000").mkdir()
    assert finished(keeping, small)
    # A checkpoint alone, whose loss was never written, is not a result.
    assert not finished(keeping, large)


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
