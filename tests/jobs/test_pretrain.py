"""jobs/pretrain.py before it trains: what it refuses, with exit code 2 and nothing written."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from behavegpt.data.manifest import read_manifest
from behavegpt.data.stream import local_tables
from behavegpt.data.synthetic.generator import GeneratorConfig, write_generated
from behavegpt.loss.config import Cvar
from behavegpt.study.config import Size, StudyConfig, Variant
from behavegpt.study.run import open_study
from behavegpt.train.config import ExecutionConfig
from behavegpt.train.loop import train_trunk

JOB = Path(__file__).parents[2] / "jobs" / "pretrain.py"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pretrain") / "data"
    size = GeneratorConfig(num_users=40, num_train_events=12_000, num_val_windows=4, num_test_windows=4)
    write_generated(out, size, "tiny")
    return out


def pretrain(dataset: Path, out: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        str(JOB),
        "--dataset",
        str(dataset),
        "--out",
        str(out),
        "--width",
        "16",
        "--plan",
        *flags,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_run_is_not_resumed_with_another_configuration(dataset, tmp_path):
    out = tmp_path / "run"
    config = StudyConfig(
        name="pretrain",
        sizes=(Size(width=16, depth=2),),
        num_events=(11_000,),
        seeds=(0,),
        variants=(Variant(loss=Cvar(eps=0.5), schedule="wsd"),),
        execution=ExecutionConfig(engine="torch"),
    )
    [job] = open_study(config, dataset, out).plan.jobs
    train_trunk(replace(job, keep_final=True), local_tables, torch.device("cpu"))
    for path in job.cell_dir.iterdir():
        path.unlink()  # as if it had been killed before its end
    assert read_manifest(dataset).splits["train"].num_targets > 11_000
    same = pretrain(dataset, out, "--num-events", "11000")
    assert same.returncode == 0, same.stderr
    other = pretrain(dataset, out, "--num-events", "11000", "--seed", "3", "--learning-rate", "0.004")
    assert other.returncode == 2 and "Traceback" not in other.stderr
    for change in ("train.learning_rate: 0.011875 -> 0.004", "train.seed: 0 -> 3"):
        assert f"another configuration, {change} (then -> now)" in other.stderr
    assert "choose another --out" in other.stderr


def test_a_start_that_is_no_model_is_refused(dataset, tmp_path):
    done = pretrain(dataset, tmp_path / "run", "--initial", str(tmp_path / "none"))
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"{tmp_path / 'none' / 'config.json'}: cannot be read" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_model_that_does_not_fit_is_refused_and_told_what_would(dataset, tmp_path):
    done = pretrain(dataset, tmp_path / "run", "--memory-gb", "0.3")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "a worker needs 0.60 GB" in done.stderr and "and has 0.30" in done.stderr
    done = pretrain(dataset, tmp_path / "run", "--offload", "optimizer", "--zero-stage", "2")
    assert done.returncode == 2 and "on CPUs everything is in the machine's memory already" in done.stderr
    assert not (tmp_path / "run").exists()
