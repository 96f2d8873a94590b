"""jobs/ablation.py: from finished models to the report without a cluster; one line for whatever keeps it from one."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from behavegpt.lease import lease
from behavegpt.tasks.fitting import TrainHere

JOB = Path(__file__).parents[2] / "jobs" / "ablation.py"
FLAGS = ("--width", 8, "--num-events", 1_800, "--seeds", 0, 1, "--split", "val", "--loss", "erm", "logit-adjusted")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_job: Run) -> Run:
    """Return a runner of the job; a run that would train fails before it meets a cluster."""
    monkeypatch.setitem(sys.modules, "behavegpt.study.tuner", None)

    def run(*arguments: object) -> tuple[int, str, str]:
        return run_job(JOB, *arguments, "--out", tmp_path / "out")

    return run


@pytest.fixture
def trained(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of an ablation whose models are all trained, in this process."""
    monkeypatch.setattr(sys, "argv", [str(JOB)])
    job = runpy.run_path(str(JOB))
    losses = job["VariantRequest"](loss=("erm", "logit-adjusted"))
    args = job["Args"](dataset=dataset, out=tmp_path / "out", width=8, num_events=1_800, seeds=(0, 1), variants=losses)
    for one in job["plan_ablation"](args).missing().jobs:
        TrainHere()(one)
    return tmp_path / "out"


def test_finished_models_become_a_report_and_again_the_same(run, dataset, trained):
    first = run("--dataset", dataset, *FLAGS)
    assert first[0] == 0, first[2]
    found = json.loads((trained / "ablation.json").read_text())
    assert [loss["name"] for loss in found["losses"]] == ["erm", "logit-adjusted-1"]
    assert (found["split"], found["seeds"], found["num_targets"]) == ("val", [0, 1], 12 * 90)
    for loss in found["losses"]:
        # Every val target, plain cross-entropy: what training measured itself at the end of each run.
        cells = [json.loads(p.read_text()) for p in (trained / "cells").iterdir()]
        own = {row["seed"]: row["loss"] for row in cells if row["variant"] == loss["name"]}
        assert loss["as_trained"]["nats"]["runs"] == pytest.approx([own[0], own[1]], abs=1e-6)
    # A balanced prior, corrected to the data's frequencies, predicts them better than as it was trained.
    adjusted = found["losses"][1]
    assert adjusted["to_data"]["nats"]["mean"] < adjusted["as_trained"]["nats"]["mean"] - 0.1
    assert adjusted["along"][0]["nats"] == adjusted["as_trained"]["nats"]
    assert "logit-adjusted-1" in first[1] and str(trained / "ablation.html") in first[1]
    written = {name: (trained / name).read_bytes() for name in ("ablation.json", "ablation.md", "ablation.html")}
    assert run("--dataset", dataset, *FLAGS) == first
    assert {name: (trained / name).read_bytes() for name in written} == written


def test_a_loss_that_diverged_is_left_out_and_named(run, dataset, trained):
    [cell] = [p for p in (trained / "cells").iterdir() if "logit" in p.name and "-s1-" in p.name]
    row = json.loads(cell.read_text()) | {"status": "diverged", "reason": "loss nan at step 7"}
    cell.write_text(json.dumps(row))
    code, out, err = run("--dataset", dataset, *FLAGS)
    sentence = "logit-adjusted-1 is left out: seed 1 diverged (loss nan at step 7)."
    assert (code, err) == (4, f"refused: {sentence}\n")
    assert sentence in out
    assert [loss["name"] for loss in json.loads((trained / "ablation.json").read_text())["losses"]] == ["erm"]
    for path in (trained / "cells").iterdir():
        path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "diverged", "reason": "r"}))
    assert "nothing to compare with" in run("--dataset", dataset, *FLAGS)[2]


def test_a_damaged_model_is_named_by_file(run, dataset, trained):
    [path] = trained.glob("checkpoints/*logit*-s0-*/final-1800/loop.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    code, _, err = run("--dataset", dataset, *FLAGS)
    assert (code, err) == (2, f"error: {path}: missing or damaged\n")


def test_a_plan_prices_every_loss_and_seed_and_writes_nothing(run, dataset, tmp_path):
    code, out, err = run("--dataset", dataset, "--width", 16, "--plan")
    assert (code, err) == (0, "")
    assert "in all 24 trunks, 24 cells, 216,000 events to train" in out
    for name in ("erm", "cvar-0.5", "smoothed-cvar-0.5", "kl-0.5", "chi2-0.5", "sample-cvar-0.5", "doro-0.5"):
        assert f" {name}" in out
    assert not (tmp_path / "out").exists()


def test_wrong_input_is_one_sentence_each(run, dataset, tmp_path):
    def refused(*arguments, sentences):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert err.count("\n") == len(sentences)
        for sentence in sentences:
            assert sentence in err
        assert not (tmp_path / "out").exists()

    refused("--dataset", tmp_path / "none", sentences=[f"{tmp_path / 'none'}: not a dataset"])
    refused("--dataset", dataset, "--loss", "cvar", sentences=["--loss has no erm"])
    refused("--dataset", dataset, "--eps", 0.3, sentences=["--eps is given without --loss"])
    refused("--dataset", dataset, "--width", 10, "--seeds", -1, sentences=["widths has 10", "seeds has -1"])
    refused("--dataset", dataset, "--num-events", 10_000, sentences=["num_events has 10,000"])


def test_a_busy_directory_is_refused(run, dataset, tmp_path):
    with lease(tmp_path / "out"):
        code, out, err = run("--dataset", dataset)
    assert (code, out) == (3, "") and str(tmp_path / "out") in err
