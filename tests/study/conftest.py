"""A tiny generated dataset, and studies on it whose cells are written by hand: no cluster, no training."""

import json
import random
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from behavegpt.config import plain
from behavegpt.data.manifest import Manifest, read_manifest
from behavegpt.data.shards import write_dataset
from behavegpt.data.stream import read_targets
from behavegpt.data.synthetic.generator import GeneratorConfig, write_generated
from behavegpt.data.vocab import Vocabulary
from behavegpt.data.windows import Windows
from behavegpt.model.sizing import count_params
from behavegpt.schema import VOCABULARIES, WINDOW_LENGTH
from behavegpt.study.config import StudyConfig, Variant, of_widths
from behavegpt.study.grid import Plan, cost
from behavegpt.study.plan_record import plan_record
from behavegpt.study.recipe import BATCH_RAMP
from behavegpt.study.run import Study, open_study
from behavegpt.train.config import Cell, ExecutionConfig, TrunkJob
from behavegpt.train.record import Measured, result_row, saved_steps, step_name
from behavegpt.train.schedule import branch_start, plan_steps

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
        own = {name: changes.pop(name) for name in ("schedule", "loss", "rate_factor") if name in changes}
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
            attention="sdpa",
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


def true_loss(num_params: int, num_events: int) -> float:
    noise = random.Random(f"{num_params} {num_events}").gauss(0, 0.002)
    return (1.7 + 20 * num_params**-0.5 + 30 * num_events**-0.5) * (1 + noise)


@dataclass
class Cluster:
    """What the sweeps of a study were asked for."""

    rounds: list[set[tuple[int, int, int]]] = field(default_factory=list)
    """Widths, seeds and data sizes of each."""
    dies_at: int | None = None
    """Killed after one cell of this round."""
    refuses: int | None = None
    """A width that never gives a cell."""

    def cells(self) -> list[tuple[int, int, int]]:
        return [cell for one in self.rounds for cell in sorted(one)]


@pytest.fixture
def cluster(monkeypatch, manifest, tiny, write_cell) -> Cluster:
    state = Cluster()
    steps = plan_steps(read_targets(tiny, manifest, 9_000), BATCH_RAMP)

    def finish(job: TrunkJob, cell: Cell) -> None:
        """Leave what a worker leaves: the cell with what it took, and the checkpoint that its branch began at."""
        row = write_cell(job, cell, true_loss(count_params(job.model).non_embedding, cell.num_events))
        taken = cost(replace(job, cells=(cell,)), steps, saved_steps(job.checkpoint_dir)).events
        (job.cell_dir / f"{cell.cell_id}.json").write_text(json.dumps(row | {"wall_s": 1.0, "events_per_s": taken}))
        fork = branch_start(steps, cell.num_events, job.train)
        (job.checkpoint_dir / step_name(fork)).mkdir(parents=True, exist_ok=True)

    def sweep(packs, manifest, study_dir, concurrent):
        assert (study_dir / "lock").exists()
        jobs = [job for pack in packs for job in pack.jobs]
        state.rounds.append(set())
        for job in jobs:
            for cell in job.cells:
                if job.model.width == state.refuses:
                    continue
                finish(job, cell)
                state.rounds[-1].add((job.model.width, job.train.seed, cell.num_events))
                if len(state.rounds) - 1 == state.dies_at:
                    raise KeyboardInterrupt

    monkeypatch.setitem(
        sys.modules, "behavegpt.study.tuner", SimpleNamespace(connected=lambda: nullcontext({"CPU": 3.0}), sweep=sweep)
    )
    return state


@pytest.fixture
def make_study(make_config, tiny, tmp_path) -> Callable[..., Study]:
    def make(name: str = "study", **changes) -> Study:
        settings = {"sizes": of_widths(8, 12, 16, 24), "num_events": (1_000, 2_000, 4_000, 8_000)}
        return open_study(make_config(**(settings | changes)), tiny, tmp_path / name)

    return make
