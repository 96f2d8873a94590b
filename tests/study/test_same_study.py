"""A directory holds one study: another dataset, loss or recipe is refused, a larger grid is not."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from behavegpt.data.synthetic.generator import GeneratorConfig, write_generated
from behavegpt.errors import InputError
from behavegpt.loss.config import Cvar
from behavegpt.study import recipe
from behavegpt.study.config import Variant, of_widths
from behavegpt.study.grid import plan_study
from behavegpt.study.journal import record_failure
from behavegpt.study.run import Study, open_study
from behavegpt.train.config import ExecutionConfig


def snapshot(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def cell_path(study: Study, job: int, cell: int) -> Path:
    return study.study_dir / "cells" / f"{study.plan.jobs[job].cells[cell].cell_id}.json"


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 0.5},
        {"num_val_windows": 5},
        {"execution": ExecutionConfig(use_gpu=True)},
        {"num_events": (2_000, 4_000, 5_000), "learning_rate": 0.5},
        {"sizes": of_widths(16, 20, 12), "seeds": (0, 1), "learning_rate": 0.5},
    ],
)
def test_a_recipe_that_differs_elsewhere_is_refused_with_both_trunks(finished, change):
    before = snapshot(finished.study_dir)
    with pytest.raises(InputError) as caught:
        open_study(replace(finished.config, **change), finished.dataset, finished.study_dir)
    *problems, advice = caught.value.problems
    old = {job.model.width: job.trunk_id for job in finished.plan.jobs}
    new = plan_study(replace(finished.config, **change), finished.manifest, finished.dataset, finished.study_dir)
    new_ids = {j.model.width: j.trunk_id for j in new.jobs if j.train.seed == 0}
    # 0.19 / width is the recipe's rate.
    rates = {12: "0.0158333", 16: "0.011875"}
    possible = {
        f"{finished.study_dir}: its erm cells of width {w}, seed 0 follow another recipe "
        f"(trunk {old[w]}, learning rate {rates[w]}) than this run's (trunk {new_ids[w]})"
        for w in (12, 16)
    }
    assert problems and set(problems) <= possible
    assert "choose another directory" in advice
    assert snapshot(finished.study_dir) == before


@pytest.mark.parametrize("constant", [{"WARMUP_STEPS": 99}, {"LEARNING_RATE_X_WIDTH": 0.2}, {"BATCH_RAMP": ((0, 1),)}])
def test_cells_of_an_older_recipe_are_not_mixed_with_new_ones(finished, monkeypatch, constant):
    [(name, value)] = constant.items()
    monkeypatch.setattr(recipe, name, value)
    with pytest.raises(InputError, match="follow another recipe"):
        open_study(finished.config, finished.dataset, finished.study_dir)


@pytest.mark.parametrize("schedule", ["cosine", "wsd_independent"])
def test_runs_of_their_own_are_compared_by_data_size(make_config, tiny, tmp_path, write_cell, schedule):
    config = make_config(schedule=schedule)
    study = open_study(config, tiny, tmp_path / "study")
    for job in study.plan.jobs:
        write_cell(job, job.cells[0])
    assert open_study(config, tiny, tmp_path / "study").missing().jobs == ()
    more = open_study(replace(config, num_events=(2_000, 3_000)), tiny, tmp_path / "study")
    assert [[c.num_events for c in job.cells] for job in more.missing().jobs] == [[3_000], [3_000]]
    with pytest.raises(InputError, match="follow another recipe"):
        open_study(replace(config, learning_rate=0.5, num_events=(4_000,)), tiny, tmp_path / "study")


def test_every_cell_of_another_recipe_is_named_at_once(finished):
    with pytest.raises(InputError) as caught:
        open_study(replace(finished.config, learning_rate=0.5), finished.dataset, finished.study_dir)
    *problems, _ = caught.value.problems
    assert sorted(p.split("its erm cells of ")[1].split(" follow")[0] for p in problems) == [
        "width 12, seed 0",
        "width 16, seed 0",
    ]


def test_a_failed_cell_of_another_recipe_is_refused_too(finished):
    for path in list((finished.study_dir / "cells").iterdir()):
        row = json.loads(path.read_text())
        path.unlink()
        record_failure(finished.study_dir, row | {"status": "oom", "loss": None})
    with pytest.raises(InputError, match="follow another recipe"):
        open_study(replace(finished.config, learning_rate=0.5), finished.dataset, finished.study_dir)


@pytest.mark.parametrize(
    "change",
    [
        {"variants": (Variant(loss=Cvar(eps=0.5)),)},
        {"variants": (Variant(schedule="cosine"),)},
        {"variants": (Variant(rate_factor=2.0),)},
        {"sizes": of_widths(12, 16, depth=3)},
    ],
)
def test_another_variant_or_depth_is_a_further_part_of_the_grid(finished, change):
    alone = open_study(replace(finished.config, **change), finished.dataset, finished.study_dir)
    assert alone.missing().num_cells == 4
    both = {name: (*getattr(finished.config, name), *values) for name, values in change.items()}
    study = open_study(replace(finished.config, **both), finished.dataset, finished.study_dir)
    assert (study.plan.num_cells, study.missing().num_cells) == (8, 4)


def test_a_variant_of_one_name_and_two_recipes_is_refused(finished, write_cell):
    robust = replace(finished.config, variants=(Variant(loss=Cvar(eps=0.5)),))
    study = open_study(robust, finished.dataset, finished.study_dir)
    write_cell(study.plan.jobs[0], study.plan.jobs[0].cells[0])
    other = replace(finished.config, variants=(Variant(loss=Cvar(eps=0.5, ema=0.3)),))
    with pytest.raises(InputError, match=r"its cvar-0\.5 cells of width 16, seed 0 follow another recipe"):
        open_study(other, finished.dataset, finished.study_dir)


def test_another_dataset_in_the_same_directory_is_refused_with_both_fingerprints(finished, tmp_path):
    config = GeneratorConfig(seed=1, num_users=40, num_train_events=9_000, num_val_windows=12, num_test_windows=4)
    other = write_generated(tmp_path / "other", config, "other")
    with pytest.raises(InputError) as caught:
        open_study(finished.config, tmp_path / "other", finished.study_dir)
    problem, _ = caught.value.problems
    old, new = finished.manifest.fingerprint[:12], other.fingerprint[:12]
    assert problem == f"{finished.study_dir}: its cells have dataset {old}, this run asks for {new}"


@pytest.mark.parametrize(
    "change",
    [
        {"sizes": of_widths(12, 16, 20)},
        {"num_events": (1_000, 2_000, 4_000)},
        {"seeds": (0, 1)},
        {"sizes": of_widths(16)},
        {"name": "renamed"},
        {"execution": ExecutionConfig(num_workers=2, zero_stage=1)},
        {"execution": ExecutionConfig(checkpoint_steps=5)},
    ],
)
def test_the_grid_and_the_execution_may_change(finished, change):
    study = open_study(replace(finished.config, **change), finished.dataset, finished.study_dir)
    added = {"sizes": 2, "num_events": 2, "seeds": 4} if change != {"sizes": of_widths(16)} else {}
    assert study.missing().num_cells == added.get(next(iter(change)), 0)


def test_a_copied_dataset_and_a_moved_study_are_still_the_same(finished, tmp_path):
    shutil.copytree(finished.dataset, tmp_path / "copy")
    shutil.move(finished.study_dir, tmp_path / "moved")
    assert open_study(finished.config, tmp_path / "copy", tmp_path / "moved").missing().jobs == ()


def test_an_edited_cell_is_named(finished):
    path = cell_path(finished, 0, 0)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(InputError) as caught:
        open_study(finished.config, finished.dataset, finished.study_dir)
    [problem] = caught.value.problems
    assert problem.startswith(f"{path}: not a cell file")


@pytest.mark.parametrize(
    "lost", ["dataset_fingerprint", "variant", "width", "depth", "num_heads", "learning_rate", "trunk_id"]
)
def test_a_cell_that_lost_a_value_is_named(finished, lost):
    path = cell_path(finished, 0, 0)
    row = json.loads(path.read_text())
    # Of another recipe, so that all that is compared and printed is needed.
    path.write_text(json.dumps({k: v for k, v in ({**row, "trunk_id": "w16x2-s0-other"}).items() if k != lost}))
    with pytest.raises(InputError) as caught:
        open_study(finished.config, finished.dataset, finished.study_dir)
    assert caught.value.problems[0].startswith(str(path))
