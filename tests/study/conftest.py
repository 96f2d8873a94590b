"""A tiny generated dataset, and studies on it whose cells are written by hand: no cluster, no training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from behavegpt.config import plain
from behavegpt.data.manifest import Manifest, read_manifest
from behavegpt.data.shards import write_dataset
from behavegpt.data.synthetic.generator import GeneratorConfig, write_generated
from behavegpt.data.vocab import Vocabulary
from behavegpt.data.windows import Windows
from behavegpt.schema import VOCABULARIES, WINDOW_LENGTH
from behavegpt.study.config import StudyConfig, Variant, of_widths
from behavegpt.study.grid import Plan, plan_record
from behavegpt.study.run import Study, open_study
from behavegpt.train.config import Cell, ExecutionConfig, TrunkJob
from behavegpt.train.record import Measured, result_row

ConfigMaker = Callable[..., StudyConfig]
CellWriter = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset of 100 train windows with 90 targets each: 9,000 unique training targets."""
    out = tmp_path_factory.mktemp("data") / "tiny"
    config = GeneratorConfig(num_users=40, num_train_events=9_000, num_val_windows=12, num_test_windows=4)
    write_generated(out, config, "tiny")
    return out


@pytest.fixture(scope="session")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset like check-ins: full windows, but only 7 of an event's 90 positions have a known behaviour.

    200 train windows, so 1,400 unique training targets; 4 windows of validation, 2 of test.
    """
    out = tmp_path_factory.mktemp("data") / "sparse"
    splits = {}
    for split, num in (("train", 200), ("val", 4), ("test", 2)):
        ids = np.full((num, WINDOW_LENGTH), 2, np.uint8)
        behavior = np.zeros_like(ids)
        behavior[:, 10:80:10] = 2
        splits[split] = Windows(
            weekday=ids,
            slot=ids,
            location=ids,
            event=ids,
            behavior=behavior,
            timestamp=np.zeros((num, WINDOW_LENGTH), np.int64),
            length=np.full(num, WINDOW_LENGTH, np.uint8),
            first_target=np.ones(num, np.uint8),
            user=np.arange(num, dtype=np.uint64),
            number=np.zeros(num, np.uint32),
        )
    vocabularies = {name: Vocabulary(("a", "b", "c"), (3, 2, 1)) for name in VOCABULARIES}
    write_dataset(out, splits, vocabularies, name="sparse", source={}, counts={}, seed=0)
    return out


@pytest.fixture
def manifest(tiny: Path) -> Manifest:
    return read_manifest(tiny)


@pytest.fixture
def make_config() -> ConfigMaker:
    """Return a maker of a small study's configuration; keyword arguments change it, or its only variant."""

    def make(**changes: Any) -> StudyConfig:
        settings: dict[str, Any] = {
            "name": "test",
            "sizes": of_widths(12, 16),
            "num_events": (2_000, 4_000),
            "execution": ExecutionConfig(engine="torch"),
        }
        own = {name: changes.pop(name) for name in ("schedule", "dro", "rate_factor") if name in changes}
        if own:
            settings["variants"] = (Variant(**own),)
        return StudyConfig(**(settings | changes))

    return make


@pytest.fixture
def write_cell(manifest: Manifest) -> CellWriter:
    """Return a writer of the file of a completed cell, as the worker that trained it leaves it."""

    def write(job: TrunkJob, cell: Cell, loss: float = 2.5) -> dict[str, Any]:
        measured = Measured(
            loss=loss,
            loss_stderr=0.01,
            train_loss=loss - 0.1,
            num_steps=23,
            wall_s=4.0,
            events_trained=cell.num_events,
            device="cpu",
            started_at="2026-01-05T00:00:00+00:00",
            finished_at="2026-01-05T00:00:04+00:00",
        )
        row = result_row(job, cell, manifest, "completed", "", measured)
        job.cell_dir.mkdir(parents=True, exist_ok=True)
        (job.cell_dir / f"{cell.cell_id}.json").write_text(json.dumps(row))
        return row

    return write


@pytest.fixture
def write_plan(manifest: Manifest, tiny: Path) -> Callable[[StudyConfig, Plan, Path], None]:
    """Return a writer of the two files that a run leaves beside its cells."""

    def write(config: StudyConfig, plan: Plan, study_dir: Path) -> None:
        study_dir.mkdir(parents=True, exist_ok=True)
        (study_dir / "config.json").write_text(json.dumps(plain(config)))
        (study_dir / "plan.json").write_text(json.dumps(plan_record(config, manifest, tiny, plan)))

    return write


@pytest.fixture
def finished(make_config, tiny, tmp_path, write_cell, write_plan) -> Study:
    """Return a study all of whose cells are there."""
    study = open_study(make_config(), tiny, tmp_path / "study")
    write_plan(study.config, study.plan, study.study_dir)
    for job in study.plan.jobs:
        for cell in job.cells:
            write_cell(job, cell)
    return study
