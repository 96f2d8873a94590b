"""jobs/evaluate.py: one table of any systems on a dataset, and one line for whatever keeps it from one."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from behavegpt.data.synthetic.generator import GeneratorConfig, write_generated
from behavegpt.data.verify import verify_dataset
from behavegpt.study.config import Size, StudyConfig
from behavegpt.study.grid import plan_study
from behavegpt.tasks.fitting import TrainHere
from behavegpt.train.export import export_model

JOB = Path(__file__).parents[2] / "jobs" / "evaluate.py"
Run = Callable[..., tuple[int, str, str]]


def train(dataset: Path, out: Path, seed: int) -> Path:
    """Train a model as jobs/pretrain.py does, without a cluster."""
    config = StudyConfig(name="pretrain", sizes=(Size(width=16),), num_events=(1_800,), seeds=(seed,))
    [job] = plan_study(config, verify_dataset(dataset), dataset, out).jobs
    TrainHere()(replace(job, keep_final=True))
    return out


@pytest.fixture(scope="module")
def models(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [train(dataset, folder / f"s{seed}", seed) for seed in (0, 1)]


@pytest.fixture
def run(tmp_path: Path, run_job: Run) -> Run:
    """Return a runner of the job; it gives exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        return run_job(JOB, *arguments, "--out", tmp_path / "out")

    return run


def refused(result: tuple[int, str, str], tmp_path: Path, *sentences: str) -> None:
    """Assert exit code 2 with one line for each sentence and nothing else, and nothing written."""
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.count("\n") == len(sentences)
    for sentence in sentences:
        assert sentence in err
    assert not (tmp_path / "out").exists()


def test_one_table_of_models_rules_and_trained_systems(run, dataset, models, tmp_path):
    systems = ("--systems", "most-frequent", "markov", "sasrec", "--seeds", 0, "--num-events", 1_800, "--width", 16)
    first = run("--dataset", dataset, "--split", "val", "--models", *models, *systems)
    assert first[0] == 0, first[2]
    found = json.loads((tmp_path / "out" / "evaluate.json").read_text())
    rows = {row["name"]: row for row in found["systems"]}
    assert list(rows) == ["behavegpt-erm", "most-frequent", "markov", "sasrec"]
    assert [rows[name]["seeds"] for name in rows] == [[0, 1], [], [], [0]]
    assert [rows[name]["num_events"] for name in rows] == [1_800, None, None, 1_800]
    assert found["num_targets"] == 12 * 90
    for row in rows.values():
        figures = {name: value["mean"] for name, value in row["metrics"].items()}
        assert figures["rec_w"] == pytest.approx(figures["hr@1"])
        assert all(value["low"] <= value["high"] for value in row["metrics"].values())
    for name in rows:
        assert f"\n  {name} " in first[1]
    assert "behavegpt-erm against the best of the others" in first[1]

    checkpoints = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("c*/*/*")}
    written = (tmp_path / "out" / "evaluate.json").read_bytes()
    again = run("--dataset", dataset, "--split", "val", "--models", *models, *systems)
    assert again == first
    assert (tmp_path / "out" / "evaluate.json").read_bytes() == written
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("c*/*/*")} == checkpoints


def test_the_loss_of_the_model_is_the_one_that_training_measured(run, dataset, models, tmp_path):
    """Every val target, plain cross-entropy: the evaluator's nats are the validation loss of the run's own row."""
    assert run("--dataset", dataset, "--split", "val", "--models", models[0], "--systems", "most-frequent")[0] == 0
    [cell] = (models[0] / "cells").iterdir()
    [model, _] = json.loads((tmp_path / "out" / "evaluate.json").read_text())["systems"]
    assert model["metrics"]["nats"]["mean"] == pytest.approx(json.loads(cell.read_text())["loss"], abs=1e-6)


def test_an_exported_model_is_the_same_model(run, dataset, models, tmp_path):
    [checkpoint] = models[0].glob("checkpoints/*/final-1800")
    exported = export_model(checkpoint, dataset, tmp_path / "exported")
    rows = []
    for model in (models[0], exported):
        assert run("--dataset", dataset, "--split", "val", "--models", model, "--systems", "markov")[0] == 0
        rows.append(json.loads((tmp_path / "out" / "evaluate.json").read_text())["systems"][0])
    assert rows[0] == rows[1]
    (exported / "model.safetensors").write_bytes(b"no weights")
    shutil.rmtree(tmp_path / "out")
    refused(run("--dataset", dataset, "--models", exported), tmp_path, f"{exported / 'model.safetensors'}: ")


def test_the_last_target_of_each_user(run, dataset, tmp_path):
    code, out, err = run("--dataset", dataset, "--split", "val", "--protocol", "last", "--systems", "markov")
    assert code == 0, err
    assert "small val: the last target of each user, 12 of 12 users, after 90.0 events on average" in out


def test_what_is_no_dataset_model_or_system_is_named(run, dataset, tmp_path):
    refused(run("--dataset", tmp_path / "none"), tmp_path, f"{tmp_path / 'none'}: not a dataset")
    refused(run("--dataset", dataset, "--models", tmp_path), tmp_path, f"{tmp_path}: no finished model")
    names = ("--systems", "markow", "sasrec2")
    refused(run("--dataset", dataset, *names), tmp_path, "'markow'", "Did you mean 'sasrec'?")


def test_a_damaged_model_is_named_by_file(run, dataset, models, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(models[0], copy)
    [path] = copy.glob("checkpoints/*/final-1800/engine-*.safetensors")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    refused(run("--dataset", dataset, "--models", models[1], copy), tmp_path, f"{path}: missing or damaged")
    path.unlink()
    refused(run("--dataset", dataset, "--models", models[1], copy), tmp_path, f"{path}: missing or damaged")


def test_a_model_of_another_dataset_and_one_given_twice(run, dataset, models, tmp_path):
    other = tmp_path / "other"
    write_generated(
        other, GeneratorConfig(num_users=40, num_train_events=9_000, num_val_windows=4, num_test_windows=4, seed=1), "o"
    )
    refused(run("--dataset", other, "--models", models[0]), tmp_path, "trained on dataset")
    refused(run("--dataset", dataset, "--models", models[0], models[0]), tmp_path, "the same model and seed as")


def test_a_gpu_trains_on_the_cluster_alone(run, dataset, tmp_path):
    refused(run("--dataset", dataset, "--systems", "markov", "sasrec", "--use-gpu"), tmp_path, "give --use-ray")


def test_a_budget_that_the_dataset_does_not_have(run, dataset, tmp_path):
    refused(run("--dataset", dataset, "--num-events", 10**9), tmp_path, "num_events has 1,000,000,000")
