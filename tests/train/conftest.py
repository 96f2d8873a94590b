"""A small generated dataset, a job on it and a checkpoint of it, without a cluster."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from behavegpt.data.manifest import read_manifest
from behavegpt.data.stream import local_tables
from behavegpt.data.synthetic.generator import GeneratorConfig, write_generated
from behavegpt.files import sha256_of
from behavegpt.model.config import for_width
from behavegpt.model.transformer import BehaveGPT, initialise
from behavegpt.train.checkpoint import CheckpointStore, checksum, random_state
from behavegpt.train.config import Cell, ExecutionConfig, TrainConfig, TrunkJob
from behavegpt.train.engine import Engine, build_engine
from behavegpt.train.export import export_model
from behavegpt.train.identity import identity_of
from behavegpt.train.loop import train_trunk
from behavegpt.train.record import step_name
from behavegpt.train.state import state_shapes

JobMaker = Callable[..., TrunkJob]
EngineMaker = Callable[..., Engine]


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


def square_sum(engine: Engine) -> torch.Tensor:
    """Return a loss that moves every parameter."""
    return torch.stack([(p**2).sum() for p in engine.module.parameters()]).sum()


@pytest.fixture
def trained(make_job: JobMaker) -> EngineMaker:
    """Return a maker of engines that have taken some steps, so that their optimiser has moments."""

    def make(steps: int, seed: int = 0) -> Engine:
        job = make_job()
        model = BehaveGPT(job.model)
        initialise(model, seed)
        engine = build_engine(model, job.train, job.execution)
        for _ in range(steps):
            engine.step(square_sum(engine), 1.0)
        return engine

    return make


@pytest.fixture
def store(tmp_path: Path, make_job: JobMaker) -> CheckpointStore:
    job = make_job()
    identity = identity_of(job, read_manifest(job.dataset))
    return CheckpointStore(tmp_path / "trunk", identity, state_shapes(job.model))


@pytest.fixture
def saved(store: CheckpointStore, trained: EngineMaker) -> Path:
    """Return the directory of a checkpoint before step 3."""
    cursor = {"step": 3, "window": 3, "num_events": 270}
    store.save(step_name(3), trained(3), random_state(), cursor)
    return store.path(step_name(3))


@pytest.fixture
def job(make_job) -> TrunkJob:
    """Return a job that has been trained, its final checkpoint kept."""
    job = replace(make_job(sizes=(1_500,)), keep_final=True)
    train_trunk(job, local_tables, torch.device("cpu"))
    return job


@pytest.fixture
def exported(job, tmp_path) -> Path:
    row = json.loads((job.cell_dir / "d1500.json").read_text())
    return export_model(job.checkpoint_dir / "final-1500", job.dataset, tmp_path / "model", row)


@pytest.fixture
def forge() -> Callable[..., None]:
    """Return what writes a manifest anew as whoever can write to the directory would: with all digests right."""

    def write(path: Path, **changes: Any) -> None:
        content = json.loads((path / "manifest.json").read_text())
        del content["checksum"]
        files = {p.name: {"size": p.stat().st_size, "sha256": sha256_of(p)} for p in path.glob("*.safetensors")}
        content |= {"files": files, **changes}
        (path / "manifest.json").write_text(json.dumps({**content, "checksum": checksum(content)}))

    return write
