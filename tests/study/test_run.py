"""A study around its training: what is refused before it, what is missing, and that a finished one trains nothing."""

import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from behavegpt.errors import DirectoryBusyError, InputError
from behavegpt.lease import lease
from behavegpt.study.config import of_widths
from behavegpt.study.grid import Cost
from behavegpt.study.journal import record_failure
from behavegpt.study.run import Study, open_study, run_study
from behavegpt.study.stale import mark_stale


def snapshot(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def cell_path(study: Study, job: int, cell: int) -> Path:
    return study.study_dir / "cells" / f"{study.plan.jobs[job].cells[cell].cell_id}.json"


def test_opening_a_study_writes_nothing(make_config, tiny, tmp_path):
    study = open_study(make_config(), tiny, tmp_path / "study")
    missing = study.missing()
    assert (missing.jobs, missing.costs) == (study.plan.jobs, study.plan.costs)
    assert missing.num_cells == 4
    assert list(tmp_path.iterdir()) == []


def test_missing_is_what_has_no_final_file(finished):
    assert finished.missing().jobs == ()
    cell_path(finished, 0, 1).unlink()
    missing = finished.missing()
    assert missing.jobs == (replace(finished.plan.jobs[0], cells=(finished.plan.jobs[0].cells[1],)),)
    # Without a checkpoint the larger cell needs its whole trunk: 35 steps, 3,150 events, and then 10 steps more.
    assert missing.costs == (Cost(events=4_000, windows=45, steps=45),)
    (missing.jobs[0].checkpoint_dir / "step-00000035").mkdir(parents=True)
    assert finished.missing().costs == (Cost(events=850, windows=10, steps=10),)
    shutil.rmtree(missing.jobs[0].checkpoint_dir)
    cell_path(finished, 1, 0).unlink()
    cell_path(finished, 1, 1).unlink()
    missing = finished.missing()
    assert [len(job.cells) for job in missing.jobs] == [1, 2]
    assert missing.num_cells == 3


def test_a_failed_attempt_leaves_its_cell_missing(finished):
    path = cell_path(finished, 0, 0)
    row = json.loads(path.read_text())
    path.unlink()
    record_failure(finished.study_dir, row | {"status": "crashed", "reason": "killed"})
    assert finished.missing().num_cells == 1


def test_a_finished_study_gives_its_table_without_training_or_ray(finished):
    before = snapshot(finished.study_dir)
    # None makes every import of the name fail.
    code = """
import sys
sys.modules |= {"ray": None, "deepspeed": None}
from pathlib import Path
from behavegpt.study.config import StudyConfig, of_widths
from behavegpt.study.run import open_study, run_study

config = StudyConfig(name="test", sizes=of_widths(12, 16), num_events=(2_000, 4_000))
table = run_study(open_study(config, Path(sys.argv[1]), Path(sys.argv[2])))
print(table.num_rows)
"""
    command = [sys.executable, "-c", code, str(finished.dataset), str(finished.study_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "4"
    after = snapshot(finished.study_dir)
    assert after.pop("results.parquet")
    assert after == before


def test_a_finished_studys_table_has_its_cells(finished):
    table = run_study(finished)
    assert table["num_events"].to_pylist() == [2_000, 4_000] * 2
    assert pq.read_table(finished.study_dir / "results.parquet").equals(table)


@pytest.mark.parametrize("damage", ["cut", "altered", "gone"])
def test_a_damaged_shard_is_refused_by_name(make_config, tiny, tmp_path, damage):
    dataset = tmp_path / "data"
    shutil.copytree(tiny, dataset)
    shard = dataset / "train" / "part-00000.parquet"
    content = bytearray(shard.read_bytes())
    if damage == "gone":
        shard.unlink()
    else:
        content[len(content) // 2] ^= 1
        shard.write_bytes(content if damage == "altered" else content[:-1])
    with pytest.raises(InputError) as caught:
        open_study(make_config(), dataset, tmp_path / "study")
    [problem] = caught.value.problems
    assert problem.startswith(f"{shard}: ")
    assert not (tmp_path / "study").exists()


def test_a_file_in_the_place_of_the_study_directory_is_named(make_config, tiny, tmp_path):
    (tmp_path / "study").write_text("notes")
    with pytest.raises(InputError) as caught:
        open_study(make_config(), tiny, tmp_path / "study")
    assert caught.value.problems == (f"{tmp_path / 'study'}: is a file; --study-dir names a directory",)
    assert (tmp_path / "study").read_text() == "notes"


@pytest.fixture
def train(monkeypatch, write_cell):
    """Return the missing cells that each sweep was asked for; the sweep writes them without training."""
    swept = []

    def sweep(packs, manifest, study_dir, concurrent):
        assert (study_dir / "lock").exists()
        (study_dir / "ray" / "tune").mkdir(parents=True, exist_ok=True)
        jobs = [job for pack in packs for job in pack.jobs]
        swept.append(sorted(cell.cell_id for job in jobs for cell in job.cells))
        for job in jobs:
            for cell in job.cells:
                write_cell(job, cell)

    tuner = SimpleNamespace(connected=lambda: nullcontext({"CPU": 3.0}), sweep=sweep)
    monkeypatch.setitem(sys.modules, "behavegpt.study.tuner", tuner)
    return swept


def test_a_run_trains_what_is_missing_and_leaves_its_records(make_config, tiny, tmp_path, train):
    study = open_study(make_config(), tiny, tmp_path / "study")
    assert run_study(study).num_rows == 4
    assert sorted(p.name for p in study.study_dir.iterdir()) == ["cells", "config.json", "plan.json", "results.parquet"]
    cell_path(study, 1, 0).unlink()
    assert run_study(study).num_rows == 4
    ids = [cell.cell_id for job in study.plan.jobs for cell in job.cells]
    assert train == [sorted(ids), ids[2:3]]


@pytest.mark.parametrize("content", ["", "{}", '{"dataset": {"na', '{"config": {"depth": 3}, "dataset": {}}'])
def test_a_damaged_plan_is_rewritten(finished, train, content):
    path = finished.study_dir / "plan.json"
    expected = json.loads(path.read_text())
    path.write_text(content)
    cell_path(finished, 0, 0).unlink()
    run_study(open_study(finished.config, finished.dataset, finished.study_dir))
    assert train == [[finished.plan.jobs[0].cells[0].cell_id]]
    assert json.loads(path.read_text()) == expected


def test_a_grown_grid_is_in_the_new_plan(finished, train):
    run_study(open_study(replace(finished.config, sizes=of_widths(12, 16, 20)), finished.dataset, finished.study_dir))
    record = json.loads((finished.study_dir / "plan.json").read_text())
    assert [trunk["width"] for trunk in record["trunks"]] == [20, 16, 12]
    assert len(train[0]) == 2


def test_an_interrupted_run_keeps_its_cells_and_gives_the_directory_back(finished, monkeypatch):
    def sweep(*_):
        raise KeyboardInterrupt

    tuner = SimpleNamespace(connected=lambda: nullcontext({"CPU": 2.0}), sweep=sweep)
    monkeypatch.setitem(sys.modules, "behavegpt.study.tuner", tuner)
    cell_path(finished, 0, 0).unlink()
    with pytest.raises(KeyboardInterrupt):
        run_study(finished)
    assert pq.read_table(finished.study_dir / "results.parquet").num_rows == 3
    assert not (finished.study_dir / "lock").exists()


def test_a_cluster_that_is_too_small_leaves_nothing_behind(make_config, tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(
        sys.modules, "behavegpt.study.tuner", SimpleNamespace(connected=lambda: nullcontext({"CPU": 1.0}), sweep=None)
    )
    with pytest.raises(InputError, match=r"one trunk needs 1\.5 CPUs"):
        run_study(open_study(make_config(), tiny, tmp_path / "study"))
    assert list(tmp_path.iterdir()) == []


def test_on_a_cluster_that_is_too_small_for_the_old_workers_a_trunk_starts_anew(make_config, tiny, tmp_path, train):
    study = open_study(make_config(), tiny, tmp_path / "study")
    manifest = study.plan.jobs[0].checkpoint_dir / "step-00000017" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"execution": {"num_workers": 4}}))
    assert {row["world_size"] for row in run_study(study).to_pylist()} == {1}


def test_a_finished_study_is_not_rewritten_while_another_run_holds_it(finished):
    with lease(finished.study_dir), pytest.raises(DirectoryBusyError):
        run_study(finished)
    assert not (finished.study_dir / "results.parquet").exists()


def test_a_study_whose_dataset_lost_users_takes_no_new_cells(finished):
    mark_stale([finished.study_dir], [finished.manifest.fingerprint])
    with pytest.raises(InputError, match=f"{finished.study_dir}: stale since"):
        open_study(finished.config, finished.dataset, finished.study_dir)
