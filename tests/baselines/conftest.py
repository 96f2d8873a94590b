"""A small generated dataset, what a system learns from it, and a batch to score."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from behavegpt.data.manifest import read_manifest
from behavegpt.data.synthetic.generator import GeneratorConfig, write_generated
from behavegpt.model.config import for_width
from behavegpt.tasks.fitting import TrainHere
from behavegpt.tasks.system import Training
from behavegpt.tasks.targets import TargetBatch, read_targets
from behavegpt.train.config import Cell, ExecutionConfig, TrainConfig, TrunkJob

SMALL = GeneratorConfig(num_users=40, num_train_events=9_000, num_val_windows=24, num_test_windows=8, num_behaviors=7)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("baselines") / "small"
    write_generated(out, SMALL, "small")
    return out


@pytest.fixture
def make_training(dataset: Path, tmp_path: Path) -> Callable[..., Training]:
    """Return a maker of budgets of 1,800 targets and width 16; keyword arguments change the recipe."""
    manifest = read_manifest(dataset)

    def make(name: str = "out", **recipe: object) -> Training:
        settings = {"learning_rate": 0.01, "warmup_steps": 2, "batch_ramp": ((0, 2),)} | recipe
        job = TrunkJob(
            study="test",
            variant="erm",
            trunk_id="trunk",
            model=for_width(16, vocabulary_sizes=manifest.vocabulary_sizes),
            train=TrainConfig(**settings),  # type: ignore[arg-type]
            execution=ExecutionConfig(engine="torch"),
            dataset=dataset,
            study_dir=tmp_path / name,
            cells=(Cell(cell_id="cell", num_events=1_800, num_windows=20),),
        )
        return Training(dataset=dataset, manifest=manifest, job=job, train=TrainHere(), device=torch.device("cpu"))

    return make


@pytest.fixture
def batch(dataset: Path) -> TargetBatch:
    """Return 24 val windows."""
    return next(iter(read_targets(dataset, read_manifest(dataset), "val", "every")))


@pytest.fixture
def part() -> Callable[..., TargetBatch]:
    """Return a function that keeps some windows of a batch."""

    def keep(batch: TargetBatch, rows: slice) -> TargetBatch:
        inputs = replace(
            batch.inputs,
            features={name: values[rows] for name, values in batch.inputs.features.items()},
            targets=batch.inputs.targets[rows],
            window_id=batch.inputs.window_id[rows],
        )
        return replace(batch, inputs=inputs, behavior=batch.behavior[rows], user=batch.user[rows])

    return keep
