"""Stale studies: those made from a state of the dataset that is gone are found, marked once, and say so."""

import json
from pathlib import Path

import pytest

from behavegpt.errors import InputError
from behavegpt.study.stale import STALE_NAME, find_studies, made_from, mark_stale, stale_problems


def make_study(directory: Path, *, plan: str | None = None, cells: tuple[str, ...] = ()) -> Path:
    directory.mkdir(parents=True)
    if plan:
        (directory / "plan.json").write_text(json.dumps({"dataset": {"fingerprint": plan}}))
    if cells:
        (directory / "cells").mkdir()
    for index, fingerprint in enumerate(cells):
        row = {"cell_id": f"c{index}", "dataset_fingerprint": fingerprint}
        (directory / "cells" / f"c{index}.json").write_text(json.dumps(row))
    return directory


def test_studies_are_found_in_folders_of_them_and_by_themselves(tmp_path: Path) -> None:
    a = make_study(tmp_path / "studies" / "a", plan="f" * 64)
    b = make_study(tmp_path / "studies" / "team" / "b", cells=("e" * 64,))
    make_study(a / "checkpoints" / "inner", plan="f" * 64)
    assert find_studies([tmp_path / "studies"]) == [a, b]
    assert find_studies([b, tmp_path / "studies"]) == [b, a]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as error:
        find_studies([tmp_path / "empty", tmp_path / "none", a])
    assert ["no study in it" in error.value.problems[0], "no directory" in error.value.problems[1]] == [True, True]


def test_studies_of_replaced_datasets_are_marked_once_and_others_are_not(tmp_path: Path) -> None:
    by_plan = make_study(tmp_path / "plan", plan="a" * 64)
    by_cell = make_study(tmp_path / "cell", plan="c" * 64, cells=("c" * 64, "b" * 64))
    other = make_study(tmp_path / "other", plan="c" * 64, cells=("c" * 64,))
    replaced = ("a" * 64, "b" * 64)
    assert [made_from(study, replaced) for study in (by_plan, by_cell, other)] == ["a" * 64, "b" * 64, None]
    assert mark_stale([by_plan, by_cell, other], replaced) == [by_plan, by_cell]
    assert not (other / STALE_NAME).exists() and stale_problems(other) == []
    mark = json.loads((by_cell / STALE_NAME).read_text())
    assert set(mark) == {"marked_at", "dataset_fingerprint", "reason"}
    assert mark["dataset_fingerprint"] == "b" * 64
    assert stale_problems(by_cell) == [
        f"{by_cell}: stale since {mark['marked_at']}, made from dataset bbbbbbbbbbbb: {mark['reason']}"
    ]
    first = (by_plan / STALE_NAME).read_bytes()
    assert mark_stale([by_plan], replaced) == [by_plan]
    assert (by_plan / STALE_NAME).read_bytes() == first


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"dataset": 3}'])
def test_a_plan_or_a_mark_that_is_not_ours_is_named(tmp_path: Path, content: str) -> None:
    study = make_study(tmp_path / "study", plan="a")
    (study / "plan.json").write_text(content)
    (study / STALE_NAME).write_text(content)
    with pytest.raises(InputError, match=r"plan\.json: not a plan"):
        made_from(study, ["a"])
    with pytest.raises(InputError, match=r"stale\.json: not a mark"):
        stale_problems(study)
