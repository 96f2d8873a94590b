"""A study's directory: where each cell stands, what lies beside the results, and what is wrong with a broken file."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from analysis import read_study
from behavegpt.errors import InputError


def write(path: Path, value: Any) -> None:
    """Write a JSON file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def plan(study: Path, **changes: Any) -> None:
    """Change keys of a study's plan."""
    path = study / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def curve(study: Path, trunk_id: str, *lines: dict[str, Any]) -> None:
    """Write a trunk's curve, ending in the half line of a killed run."""
    folder = study / "curves"
    folder.mkdir(exist_ok=True)
    (folder / f"{trunk_id}.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + '\n{"phase": "tru')


def trunk(trunk_id: str, *num_events: int) -> dict[str, Any]:
    return {"trunk_id": trunk_id, "variant": "erm", "num_params": 90_000, "seed": 3, "num_events": list(num_events)}


def test_cells_without_a_row_run_or_have_not_begun(study_dir: Path):
    plan(study_dir, trunks=[trunk("on", 100_000, 400_000), trunk("later", 100_000)])
    curve(
        study_dir,
        "on",
        {"phase": "trunk", "cell_events": None, "num_events": 80_000, "loss": 2.0, "time": 1_000.0},
        {"phase": "trunk", "cell_events": None, "num_events": 120_000, "loss": 1.9, "time": 1_020.0},
        {"phase": "branch", "cell_events": 100_000, "num_events": 95_000, "loss": 1.9, "time": 1_040.0},
        {"phase": "note", "text": "a checkpoint is damaged"},
    )
    study = read_study(study_dir)
    cells = {cell.cell_id: cell for cell in study.cells}
    assert (cells["on-d100000"].status, cells["on-d100000"].reached) == ("running", 95_000)
    assert (cells["on-d400000"].status, cells["on-d400000"].reached) == ("running", 120_000)
    assert cells["on-d400000"].moved_at == datetime(1970, 1, 1, 0, 17, 20, tzinfo=UTC)
    assert (cells["later-d100000"].status, cells["later-d100000"].reached) == ("not begun", None)
    assert cells["diverged"].failed
    assert cells["crashed"].reason == "worker died"
    assert cells["crashed"].loss is None
    assert (cells["cell00"].completed, cells["cell00"].reached) == (True, 25_000)
    assert len(cells) == 36 + 3 + 3
    assert study.num_planned == 3
    assert study.notes == (("on", "a checkpoint is damaged"),)
    assert study.variants == ("erm",)


def test_a_planned_cell_with_a_row_is_counted_once(study_dir: Path):
    plan(study_dir, trunks=[trunk("trunk-7500", 25_000, 50_000, 900_000)])
    cells = [cell for cell in read_study(study_dir).cells if cell.trunk_id == "trunk-7500"]
    assert [cell.num_events for cell in cells if not cell.completed and not cell.failed] == [900_000]


def test_a_curve_ends_before_the_first_loss_that_is_no_number(study_dir: Path):
    losses = [3.0, 2.5, float("nan"), 2.0]
    curve(study_dir, "trunk-7500", *({"phase": "trunk", "num_events": k + 1, "loss": x} for k, x in enumerate(losses)))
    [found] = read_study(study_dir).curves
    assert found.loss.tolist() == [3.0, 2.5]
    assert found.num_params == 7500


def test_a_study_before_its_first_result(study_dir: Path):
    (study_dir / "results.parquet").unlink()
    plan(study_dir, trunks=[trunk("later", 100_000)])
    assert [cell.status for cell in read_study(study_dir).cells] == ["not begun"]
    (study_dir / "plan.json").unlink()
    with pytest.raises(InputError, match="is no study"):
        read_study(study_dir)


def calibration(**changes: Any) -> dict[str, Any]:
    width = {"width": 16, "losses": {"1.0": 2.0, "0.5": 2.1}, "best_rate": 0.01, "bracketed": True, "regret": 0.0}
    numbers = {"num_events": 50_000, "rate_x_width": 0.2, "scatter": 1.1, "exponent": 1.0, "seed_sd": 0.01}
    return {"widths": [width], **numbers, **changes}


def test_a_calibration_counts_in_the_study_or_beside_it_for_the_same_dataset(study_dir: Path):
    beside = study_dir.parent / "calibration"
    write(beside / "calibration.json", calibration())
    assert read_study(study_dir).calibration is None
    write(beside / "plan.json", {"dataset": {"fingerprint": "another"}})
    assert read_study(study_dir).calibration is None
    write(beside / "plan.json", {"dataset": {"fingerprint": "abc123"}})
    found = read_study(study_dir).calibration
    assert found is not None
    assert list(found.widths[0].losses) == [0.5, 1.0]
    write(study_dir / "calibration.json", calibration(rate_x_width=0.3))
    found = read_study(study_dir).calibration
    assert found is not None
    assert found.rate_x_width == 0.3


Wrong = tuple[str, Any, str]
WRONG: tuple[Wrong, ...] = (
    ("plan.json", {"trunks": 3}, "trunks is 3; it must be a list of objects."),
    ("plan.json", {"trunks": [{"trunk_id": 1}]}, "trunks[0].trunk_id is 1; it must be a text."),
    ("plan.json", {"trunks": [trunk("a", 1, -2)]}, "trunks[0].num_events is [1, -2]; it must be a list of positive"),
    ("plan.json", {"trunks": [], "cost_ratio": "half"}, "cost_ratio is 'half'; it must be a number."),
    ("plan.json", {"trunks": [], "notes": "text"}, "notes is 'text'; it must be a list of texts."),
    ("plan.json", {"dataset": 3}, "dataset is 3; it must be an object."),
    (
        "plan.json",
        {"dataset": {"floor": {"entropy_nats": "x"}}},
        "dataset.floor.entropy_nats is 'x'; it must be a numb",
    ),
    ("plan.json", {"dataset": {"splits": {"val": 3}}}, "dataset.splits.val is 3; it must be an object."),
    ("stale.json", {"marked_at": "now", "reasons": "x", "dataset_fingerprint": ""}, "reason is missing; it must be a"),
    ("stale.json", [], "holds [], not an object."),
    ("branch_check/comparison.json", {}, "holds {}, not a list."),
    ("branch_check/comparison.json", [{"cell_id": "a", "num_params": True}], "entry[0].num_params is True; it must be"),
    ("calibration.json", calibration(seed_sd=None), "seed_sd is None; it must be a number."),
    ("calibration.json", calibration(widths=[{"width": 1, "losses": {"x": 1.0}}]), "losses.x is no factor"),
)


@pytest.mark.parametrize(("name", "value", "sentence"), WRONG)
def test_a_broken_file_is_one_sentence_with_file_and_key(study_dir: Path, name: str, value: Any, sentence: str):
    write(study_dir / name, value)
    with pytest.raises(InputError) as caught:
        read_study(study_dir)
    [problem] = caught.value.problems
    assert problem.startswith(f"{study_dir / name}: ")
    assert sentence in problem
    (study_dir / name).write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        read_study(study_dir)


def test_the_platform_writes_what_is_read_here(tmp_path: Path, make_study: Callable[[Path], Path]):
    from behavegpt.study.stale import mark_stale

    study = make_study(tmp_path / "marked")
    (study / "cells").mkdir()
    assert mark_stale([study], {"abc123"}) == [study]
    mark = read_study(study).stale
    assert mark is not None
    assert mark.dataset_fingerprint == "abc123"
    assert "forgotten" in mark.reason
