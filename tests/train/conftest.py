"""A small generated dataset and a job on it, without a cluster."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from behavegpt.data.manifest import read_manifest
from behavegpt.data.synthetic.generator import GeneratorConfig, write_generated
from behavegpt.model.config import for_width
from behavegpt.train.config import Cell, ExecutionConfig, TrainConfig, TrunkJob

JobMaker = Callable[..., TrunkJob]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums over several threads have no fixed order."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "tiny"
    config = GeneratorConfig(num_users=40, num_train_events=9_000, num_val_windows=12, num_test_windows=4)
    write_generated(out, config, "tiny")
    return out


@pytest.fixture
def make_job(dataset: Path, tmp_path: Path) -> JobMaker:
    """Return a maker of jobs; keyword arguments change the recipe, `execution` and `sizes` the rest."""

    def make(
        name: str = "study",
        sizes: tuple[int, ...] = (2_000, 4_000),
        execution: ExecutionConfig | None = None,
        **recipe: Any,
    ) -> TrunkJob:
        settings = {"learning_rate": 0.01, "warmup_steps": 5, "batch_ramp": ((0, 1), (1_000, 2))} | recipe
        return TrunkJob(
            study="test",
            variant="erm",
            trunk_id="trunk",
            model=for_width(16, vocabulary_sizes=read_manifest(dataset).vocabulary_sizes),
            train=TrainConfig(**settings),
            execution=execution or ExecutionConfig(engine="torch"),
            dataset=dataset,
            study_dir=tmp_path / name,
            cells=tuple(Cell(cell_id=f"d{size}", num_events=size, num_windows=-(-size // 90)) for size in sizes),
        )

    return make
