"""jobs/export.py as users run it: on the checkpoint of a run, and on what is none."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from behavegpt.data.manifest import read_manifest
from behavegpt.data.stream import local_tables
from behavegpt.data.synthetic.generator import GeneratorConfig, write_generated
from behavegpt.model.config import for_width
from behavegpt.train.config import Cell, ExecutionConfig, TrainConfig, TrunkJob
from behavegpt.train.loop import train_trunk
from behavegpt.train.saved import load_model

JOB = Path(__file__).parents[2] / "jobs" / "export.py"


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TrunkJob:
    """Return a job that has been trained, its plan beside it."""
    root = tmp_path_factory.mktemp("export")
    size = GeneratorConfig(num_users=40, num_train_events=4_000, num_val_windows=4, num_test_windows=4)
    write_generated(root / "data", size, "tiny")
    job = TrunkJob(
        study="pretrain",
        variant="erm",
        trunk_id="w16x2-s0-0",
        model=for_width(16, vocabulary_sizes=read_manifest(root / "data").vocabulary_sizes),
        train=TrainConfig(learning_rate=0.01, warmup_steps=2),
        execution=ExecutionConfig(engine="torch", checkpoint_steps=1),
        dataset=root / "data",
        study_dir=root / "run",
        cells=(Cell(cell_id="c", num_events=2_000, num_windows=23),),
        keep_final=True,
    )
    train_trunk(job, local_tables, torch.device("cpu"))
    (job.study_dir / "plan.json").write_text(json.dumps({"dataset": {"path": str(job.dataset)}}))
    return job


def export(checkpoint: Path, out: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(JOB), "--checkpoint", str(checkpoint), "--out", str(out), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_run_gives_a_model_with_its_losses(job, tmp_path):
    done = export(job.checkpoint_dir / "final-2000", tmp_path / "model")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"final-2000 of w16x2-s0-0: wrote {tmp_path / 'model'}\n"
    load_model(tmp_path / "model")
    row = json.loads((job.cell_dir / "c.json").read_text())
    assert json.loads((tmp_path / "model" / "config.json").read_text())["result"]["loss"] == row["loss"]


def test_what_is_no_checkpoint_ends_with_2_and_writes_nothing(job, tmp_path):
    forged = tmp_path / "a" / "b" / "forged"
    forged.mkdir(parents=True)
    marker = tmp_path / "executed"
    (forged / "manifest.json").write_bytes(pickle.dumps(Path(marker).touch))
    for checkpoint in (forged, tmp_path / "absent", job.study_dir):
        done = export(checkpoint, tmp_path / "model", "--dataset", str(job.dataset))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: {checkpoint}: no checkpoint of a model") and done.stderr.count("\n") == 1
    assert not marker.exists() and not (tmp_path / "model").exists()


def test_a_dataset_that_is_not_its_own_and_an_output_that_exists_are_refused(job, tmp_path):
    write_generated(
        tmp_path / "other",
        GeneratorConfig(num_users=41, num_train_events=4_000, num_val_windows=4, num_test_windows=4),
        "other",
    )
    done = export(job.checkpoint_dir / "final-2000", tmp_path / "model", "--dataset", str(tmp_path / "other"))
    assert done.returncode == 2 and "was trained on" in done.stderr
    done = export(job.checkpoint_dir / "final-2000", tmp_path)
    assert done.returncode == 2 and "exists already" in done.stderr


def test_a_plan_or_a_cell_that_is_none_ends_with_2(job, tmp_path):
    run = shutil.copytree(job.study_dir, tmp_path / "run")
    final = run / "checkpoints" / job.trunk_id / "final-2000"
    (run / "plan.json").write_text("[" * 100_000)
    (run / "cells" / "c.json").write_bytes(pickle.dumps("a row"))
    done = export(final, tmp_path / "model", "--dataset", str(job.dataset))
    assert done.returncode == 2 and done.stderr.startswith(f"error: {run / 'cells' / 'c.json'}: not a cell file")
    (run / "cells" / "c.json").unlink()
    done = export(final, tmp_path / "model")
    assert done.returncode == 2 and "plan.json: names no dataset (RecursionError)" in done.stderr
    assert not (tmp_path / "model").exists()
