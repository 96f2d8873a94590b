"""A study around its training: what is refused before it, what is missing, and that a finished one trains nothing."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from behavegpt.data.generator import GeneratorConfig, write_generated
from behavegpt.errors import InputError
from behavegpt.loss.dro import DroConfig
from behavegpt.study.journal import record_failure
from behavegpt.study.run import Study, open_study, run_study
from behavegpt.train.config import ExecutionConfig


@pytest.fixture
def finished(make_config, tiny, tmp_path, write_cell, write_plan) -> Study:
    """Return a study all of whose cells are there."""
    study = open_study(make_config(), tiny, tmp_path / "study")
    write_plan(study.config, study.plan, study.study_dir)
    for job in study.plan.jobs:
        for cell in job.cells:
            write_cell(job, cell)
    return study


def snapshot(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def cell_path(study: Study, job: int, cell: int) -> Path:
    return study.study_dir / "cells" / f"{study.plan.jobs[job].cells[cell].cell_id}.json"


def test_opening_a_study_writes_nothing(make_config, tiny, tmp_path):
    study = open_study(make_config(), tiny, tmp_path / "study")
    assert study.missing() == study.plan
    assert list(tmp_path.iterdir()) == []


def test_missing_is_what_has_no_final_file(finished):
    assert finished.missing().jobs == ()
    cell_path(finished, 0, 1).unlink()
    missing = finished.missing()
    assert missing.jobs == (replace(finished.plan.jobs[0], cells=(finished.plan.jobs[0].cells[1],)),)
    assert (missing.events, missing.steps) == (finished.plan.events[:1], finished.plan.steps[:1])
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
from behavegpt.study.config import StudyConfig
from behavegpt.study.run import open_study, run_study

config = StudyConfig(name="test", widths=(12, 16), num_events=(2_000, 4_000))
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


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"depth": 3}, "its cells have depth 2, this run asks for 3"),
        ({"schedule": "cosine"}, "its cells have schedule wsd, this run asks for cosine"),
        ({"learning_rate": 0.5}, "its cells have learning_rate None, this run asks for 0.5"),
        ({"num_val_windows": 5}, "its cells have num_val_windows None, this run asks for 5"),
        ({"dro": DroConfig(eps=0.25)}, "its cells have dro None, this run asks for {'"),
    ],
)
def test_another_recipe_in_the_same_directory_is_refused_with_the_difference(finished, change, difference):
    before = snapshot(finished.study_dir)
    with pytest.raises(InputError) as caught:
        open_study(replace(finished.config, **change), finished.dataset, finished.study_dir)
    problem, advice = caught.value.problems
    assert problem.startswith(f"{finished.study_dir}: {difference}")
    assert "--study-dir" in advice
    assert snapshot(finished.study_dir) == before


def test_every_difference_is_named_at_once(finished):
    with pytest.raises(InputError) as caught:
        open_study(replace(finished.config, depth=1, num_val_windows=3), finished.dataset, finished.study_dir)
    assert [p.split("its cells have ")[1].split()[0] for p in caught.value.problems[:-1]] == [
        "depth",
        "num_val_windows",
    ]


def test_another_dataset_in_the_same_directory_is_refused_with_both_names(finished, tmp_path):
    config = GeneratorConfig(seed=1, num_users=40, num_train_events=9_000, num_val_windows=12, num_test_windows=4)
    other = write_generated(tmp_path / "other", config, "other")
    with pytest.raises(InputError) as caught:
        open_study(finished.config, tmp_path / "other", finished.study_dir)
    old = f"tiny ({finished.manifest.fingerprint[:12]})"
    assert f"trained on {old}, not other ({other.fingerprint[:12]})" in caught.value.problems[0]


@pytest.mark.parametrize(
    "change",
    [
        {"widths": (12, 16, 20)},
        {"num_events": (1_000, 2_000, 4_000)},
        {"seeds": (0, 1)},
        {"widths": (16,)},
        {"name": "renamed"},
        {"execution": ExecutionConfig(num_workers=2, zero_stage=1)},
    ],
)
def test_the_grid_and_the_execution_may_change(finished, change):
    study = open_study(replace(finished.config, **change), finished.dataset, finished.study_dir)
    added = {"widths": 2, "num_events": 2, "seeds": 4} if change != {"widths": (16,)} else {}
    assert study.missing().num_cells == added.get(next(iter(change)), 0)


def test_a_copied_dataset_and_a_moved_study_are_still_the_same(finished, tmp_path):
    shutil.copytree(finished.dataset, tmp_path / "copy")
    shutil.move(finished.study_dir, tmp_path / "moved")
    assert open_study(finished.config, tmp_path / "copy", tmp_path / "moved").missing().jobs == ()


def test_a_file_in_the_place_of_the_study_directory_is_named(make_config, tiny, tmp_path):
    (tmp_path / "study").write_text("notes")
    with pytest.raises(InputError, match=str(tmp_path / "study")):
        open_study(make_config(), tiny, tmp_path / "study")


def test_an_edited_plan_is_named(finished):
    path = finished.study_dir / "plan.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(InputError, match=str(path)):
        open_study(finished.config, finished.dataset, finished.study_dir)
