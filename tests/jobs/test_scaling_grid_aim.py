"""jobs/scaling_grid.py --suggest and --auto without a cluster: flags that contradict each other, what --suggest prints
of cells that are there, what --auto --plan begins with, and --auto from its first cells to its report."""

import json
import random
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from behavegpt.data.manifest import Manifest
from behavegpt.lease import lease
from behavegpt.study.config import StudyConfig, of_widths
from behavegpt.study.run import open_study
from behavegpt.train.config import Cell, TrunkJob
from behavegpt.train.record import Measured, result_row

WIDTHS, SIZES = (8, 12, 16, 24), (1_000, 1_500, 2_000, 3_000, 4_000, 6_000, 8_000)
GRID = ("--widths", *WIDTHS, "--num-events", *SIZES)


def finish(job: TrunkJob, cell: Cell, manifest: Manifest) -> None:
    """Write what a worker writes of a cell, with the loss of a known law."""
    noise = random.Random(f"{job.model.width} {cell.num_events}").gauss(0, 0.002)
    measured = Measured(
        loss=1.7 + 100 / job.model.width**2 + 30 / cell.num_events**0.5 + noise,
        loss_stderr=0.002,
        train_loss=2.0,
        num_steps=20,
        wall_s=1.0,
        events_trained=cell.num_events,
        device="cpu",
        attention="sdpa",
        started_at="2026-01-05T00:00:00+00:00",
        finished_at="2026-01-05T00:00:04+00:00",
    )
    job.cell_dir.mkdir(parents=True, exist_ok=True)
    row = result_row(job, cell, manifest, "completed", "", measured)
    (job.cell_dir / f"{cell.cell_id}.json").write_text(json.dumps(row))


@pytest.fixture
def study_dir(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a study of the grid that lacks its cells of 8,000 events."""
    out = tmp_path_factory.mktemp("aim") / "study"
    config = StudyConfig(name="demo", sizes=of_widths(*WIDTHS), num_events=SIZES)
    study = open_study(config, dataset, out)
    for job in study.plan.jobs:
        for cell in job.cells[:-1]:
            finish(job, cell, study.manifest)
    return out


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--suggest", "--auto"), "--suggest and --auto exclude each other"),
        (("--auto-width", "0.1"), "--auto-width needs --auto"),
        (("--auto", "--auto-flops", "0"), "--auto-flops is 0; it must be positive"),
        (("--target-flops", "-1e9"), "--target-flops is -1e+09; it must be positive"),
        (("--number", "3"), "--number needs --suggest"),
        (("--suggest", "--plan"), "--suggest and --plan exclude each other"),
        (("--auto", "--check-branches", "2"), "--auto and --check-branches exclude each other"),
        (("--auto", "--loss", "erm", "cvar"), "--auto fits one law, the study has 2 variants"),
        (("--suggest",), "studies/demo: has no cells yet"),
    ],
)
def test_wrong_combinations_exit_2_with_a_sentence_each(run, cwd, flags, problem):
    done = run("demo", *flags)
    assert (done.code, done.out) == (2, "")
    [line] = done.err.splitlines()
    assert line.startswith(f"error: {problem}")
    assert list(cwd.iterdir()) == []


def test_suggest_prints_what_is_missing_with_its_cost_and_trains_nothing(run, dataset, study_dir):
    before = sorted((study_dir / "cells").iterdir())
    flags = ("demo", "--dataset", dataset, "--study-dir", study_dir, *GRID, "--suggest", "--target-flops", "1e12")
    done = run(*flags)
    assert (done.code, done.err) == (0, "")
    law, head, _, *cells, note = done.out.splitlines()
    assert law.startswith("erm: law of 24 cells")
    assert "1e12 FLOPs" in head
    assert len(cells) == 5 and all(cell.split()[-1].startswith("w") for cell in cells)
    assert note.startswith("Some are not of the grid that was asked for")
    assert sorted((study_dir / "cells").iterdir()) == before
    assert [p.name for p in study_dir.iterdir() if p.is_file()] == ["results.parquet"]
    assert len(run(*flags, "--number", "2").out.splitlines()) == len(done.out.splitlines()) - 3


def test_suggest_waits_for_no_live_run(run, dataset, study_dir):
    with lease(study_dir):
        done = run("demo", "--dataset", dataset, "--study-dir", study_dir, *GRID, "--suggest")
    assert (done.code, done.out) == (3, "")


def test_auto_and_plan_print_the_cells_that_it_would_begin_with(run, cwd, dataset):
    done = run("demo", "--dataset", dataset, *GRID, "--auto", "--plan")
    assert (done.code, done.err) == (0, "")
    assert "4 trunks, 28 cells" in done.out
    assert "  --auto begins with " in done.out
    assert list(cwd.iterdir()) == []


def test_auto_without_a_dataset_is_no_outline(run, cwd):
    done = run("paper", "--auto", "--plan")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: paper: --dataset is missing")


@pytest.mark.slow
def test_auto_trains_a_part_reports_and_says_why_it_stopped_and_a_full_run_completes_it(run, cwd, dataset, monkeypatch):
    def sweep(packs, manifest, study_dir, concurrent):
        for job in (job for pack in packs for job in pack.jobs):
            for cell in job.cells:
                finish(job, cell, manifest)

    stub = SimpleNamespace(connected=lambda: nullcontext({"CPU": 3.0}), sweep=sweep)
    monkeypatch.setitem(sys.modules, "behavegpt.study.tuner", stub)
    flags = ("demo", "--dataset", dataset, "--study-dir", cwd / "study", *GRID)
    done = run(*flags, "--auto", "--auto-width", "0.15", "--target-flops", "1e11", "--auto-flops", "1e11")
    assert (done.code, done.err) == (0, "")
    assert "auto: a first law needs " in done.out
    assert "--auto stopped: the interval is " in done.out.splitlines()[-1]
    assert f"{cwd / 'study' / 'report' / 'report.html'}" in done.out
    trained = {path.name for path in (cwd / "study" / "cells").iterdir()}
    grid = open_study(StudyConfig(name="demo", sizes=of_widths(*WIDTHS), num_events=SIZES), dataset, cwd / "study")
    asked_for = {f"{cell.cell_id}.json" for job in grid.plan.jobs for cell in job.cells}
    assert len(trained) > 8 and asked_for - trained
    page = (cwd / "study" / "report" / "report.html").read_text()
    assert 'http-equiv="refresh"' not in page
    assert run(*flags).code == 0
    assert {path.name for path in (cwd / "study" / "cells").iterdir()} == trained | asked_for
