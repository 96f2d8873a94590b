"""jobs/scaling_grid.py without a cluster: what it says of wrong input, and what --plan prints.

Most runs execute the job's file in this process, as python does, so that torch is imported once.
"""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from behavegpt.data.manifest import read_manifest
from behavegpt.data.synthetic import domains
from behavegpt.data.synthetic.generator import GeneratorConfig
from behavegpt.model.config import for_width
from behavegpt.model.transformer import BehaveGPT
from behavegpt.study.config import StudyConfig, Variant, of_widths
from behavegpt.study.grid import plan_study
from behavegpt.train.record import result_row

JOB = Path(__file__).parents[2] / "jobs" / "scaling_grid.py"
SMALL = GeneratorConfig(num_users=40, num_train_events=9_000, num_val_windows=12, num_test_windows=4)


@dataclass
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def damaged(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("damaged") / "small"
    shutil.copytree(dataset, copy)
    return copy


def assert_refused(done: Done, cwd: Path, *problems: str) -> None:
    """Check for exit 2, one line per problem and nothing written."""
    assert (done.code, done.out) == (2, "")
    lines = done.err.splitlines()
    assert len(lines) == len(problems), done.err
    for line, problem in zip(lines, problems, strict=True):
        assert line.startswith("error: ")
        assert problem in line
    assert list(cwd.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "problems"),
    [
        (("--widths", "-16"), ["widths has -16"]),
        (("--widths", "18"), ["widths has 18; a width is a positive multiple of 4"]),
        (("--widths", "16", "16"), ["widths is (16, 16)"]),
        (("--num-events", "0"), ["num_events has 0"]),
        (("--num-events", "50"), ["num_events has 50; the least is 900"]),
        (("--num-events", "2000", "9001"), ["num_events has 9,001; "]),
        (("--seeds", "-1"), ["seeds has -1"]),
        (("--loss", "cvar", "--eps", "2"), ["loss.eps is 2.0"]),
        (("--num-workers", "0", "--num-events", "2000"), ["num_workers is 0; it must be >= 1"]),
        (
            ("--num-workers", "0", "--cpus-per-worker", "-1", "--checkpoint-steps", "0", "--num-events", "2000"),
            [
                "num_workers is 0; it must be >= 1",
                "cpus_per_worker is -1; it must be >= 1",
                "checkpoint_steps is 0; it must be >= 1",
            ],
        ),
        (("--engine", "torch", "--use-gpu", "--num-events", "2000"), ["engine is torch and use_gpu is set"]),
        (
            ("--widths", "18", "-4", "--num-events", "0", "--seeds", "-1"),
            ["widths has 18", "widths has -4", "num_events has 0", "seeds has -1"],
        ),
    ],
)
def test_wrong_values_are_named_one_line_each(run, cwd, dataset, flags, problems):
    assert_refused(run("demo", "--dataset", dataset, *flags), cwd, *problems)


def test_a_data_size_that_is_too_large_is_told_what_there_is(run, cwd, dataset):
    done = run("nyc", "--dataset", dataset, "--num-events", "2000", "15000", "30000", "60000")
    assert_refused(done, cwd, "num_events has 15,000", "num_events has 30,000", "num_events has 60,000")
    assert done.err.count(f"{dataset} has 9,000 unique training targets") == 3


def test_a_missing_dataset_is_named(run, cwd):
    done = run("demo", "--dataset", "absent")
    assert_refused(done, cwd, "absent: not a dataset (manifest.json is missing); make one with jobs/ingest.py")


def test_nyc_needs_a_dataset(run, cwd):
    assert_refused(run("nyc"), cwd, "nyc: --dataset is missing; make one with jobs/ingest.py")


def test_a_truncated_shard_is_named(run, cwd, damaged):
    shard = damaged / "val" / "part-00000.parquet"
    size = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[:-100])
    done = run("demo", "--dataset", damaged, "--num-events", "2000")
    assert_refused(done, cwd, f"{shard}: has {size - 100} bytes, its manifest says {size}")


def test_every_damaged_shard_is_named(run, cwd, damaged):
    shards = [damaged / split / "part-00000.parquet" for split in ("train", "val")]
    for shard in shards:
        shard.unlink()
    done = run("demo", "--dataset", damaged, "--num-events", "2000")
    assert_refused(done, cwd, f"{shards[0]}: missing", f"{shards[1]}: missing")


def test_an_edited_manifest_is_named(run, cwd, damaged):
    path = damaged / "manifest.json"
    raw = json.loads(path.read_text())
    raw["name"] = "another"
    path.write_text(json.dumps(raw))
    assert_refused(run("demo", "--dataset", damaged, "--num-events", "2000"), cwd, f"{path}: edited or torn")


def test_half_a_manifest_is_named(run, cwd, damaged):
    path = damaged / "manifest.json"
    path.write_text(path.read_text()[:500])
    assert_refused(run("demo", "--dataset", damaged), cwd, f"{path}: not a readable manifest")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("demo", "--wdiths", "16"), "--wdiths"),
        (("demo", "--workers", "2"), "--workers"),
        (("demo", "--engine", "jax"), "jax"),
        (("tokyo",), "tokyo"),
        (("demo", "--widths", "sixteen"), "sixteen"),
        (("demo", "--schedule", "linear"), "linear"),
        (("demo", "--zero-stage", "4"), "4"),
        (("demo", "--widths"), "widths"),
    ],
)
def test_what_the_command_line_cannot_read_is_named(run, cwd, arguments, word):
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert word in done.err
    assert "Traceback" not in done.err
    assert list(cwd.iterdir()) == []


def params(dataset: Path, width: int) -> tuple[str, str]:
    """Return the parameters outside tables and positions, and all of them, of the model that is really built."""
    model = BehaveGPT(for_width(width, vocabulary_sizes=read_manifest(dataset).vocabulary_sizes))
    total = sum(p.numel() for p in model.parameters())
    tables = sum(p.numel() for p in model.embeddings.parameters()) + model.positions.numel()
    return f"{total - tables:,}", f"{total:,}"


def test_plan_prints_exact_counts_and_writes_nothing(run, cwd, dataset):
    done = run("demo", "--dataset", dataset, "--widths", "12", "32", "--num-events", "2000", "4000", "--plan")
    assert (done.code, done.err) == (0, "")
    *table, time = done.out.splitlines()
    assert re.fullmatch(r"  what is missing takes about \d+\.\d minutes on this machine", time)
    trunks = [line.split() for line in table if line.startswith("  w")]
    assert [(*t[1:3], t[3], t[4]) for t in trunks] == [(*params(dataset, w), "2", "4,470") for w in (32, 12)]
    assert "2 trunks, 4 cells, 8,940 events to train" in done.out
    notes = [line for line in table if "note:" in line]
    assert [note.split(",")[0] for note in notes] == ["  note: D = 2", "  note: D = 4"]
    assert list(cwd.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "same"),
    [
        (("--engine", "torch", "--num-workers", "2", "--cpus-per-worker", "3", "--checkpoint-steps", "7"), True),
        (("--use-gpu",), False),
    ],
)
def test_where_it_runs_changes_no_trunk_but_a_gpus_precision_does(run, dataset, flags, same):
    def trunks(*more: str) -> list[str]:
        done = run("demo", "--dataset", dataset, "--widths", "12", "16", "--num-events", "2000", "--plan", *more)
        assert (done.code, done.err) == (0, "")
        return [line.split()[0] for line in done.out.splitlines() if line.startswith("  w") and "x2-s0-" in line]

    before, after = trunks(), trunks(*flags)
    assert len(before) == len(after) == 2
    assert (set(before) == set(after)) is same
    assert same or not set(before) & set(after)


def test_a_study_directory_that_is_a_file_is_refused(run, cwd, dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "notes.txt"
    path.write_text("mine")
    done = run("demo", "--dataset", dataset, "--study-dir", path, "--num-events", "2000", "--plan")
    assert_refused(done, cwd, f"{path}: is a file; --study-dir names a directory")
    assert path.read_text() == "mine"


def test_plan_of_the_demo_writes_its_dataset_alone_and_once(run, cwd, monkeypatch):
    monkeypatch.setattr(domains, "demo", lambda: SMALL)
    first = run("--plan", "--num-events", "2000", "--widths", "16")
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith("making generated logs in data/demo\n")
    assert [p.name for p in cwd.iterdir()] == ["data"]
    assert [p.name for p in (cwd / "data").iterdir()] == ["demo"]
    # 41 behaviour ids, so 40 classes: 2 (12 D^2 + 13 D) + 2 D + D^2 + D + 40 D + 40 at D = 16.
    assert "7,544" in first.out
    written = (cwd / "data" / "demo" / "manifest.json").stat().st_mtime_ns
    second = run("--plan", "--num-events", "2000", "--widths", "16")
    assert "making" not in second.out
    assert (cwd / "data" / "demo" / "manifest.json").stat().st_mtime_ns == written


def test_the_demo_makes_no_dataset_for_a_wrong_command(run, cwd):
    assert_refused(run("demo", "--widths", "18"), cwd, "widths has 18")


def test_another_recipe_in_the_study_directory_is_refused(run, cwd, dataset, tmp_path_factory):
    study_dir = tmp_path_factory.mktemp("study")
    flags = ("--dataset", dataset, "--study-dir", study_dir, "--num-events", "2000", "--widths", "16", "--plan")
    manifest = read_manifest(dataset)
    cosine = Variant(schedule="cosine")
    config = StudyConfig(name="demo", sizes=of_widths(16), num_events=(2_000,), variants=(cosine,), learning_rate=0.5)
    [job] = plan_study(config, manifest, dataset, study_dir).jobs
    row = result_row(job, job.cells[0], replace(manifest, fingerprint="f" * 64), "diverged", "loss nan")
    (study_dir / "cells").mkdir()
    cell = study_dir / "cells" / f"{row['cell_id']}.json"
    cell.write_text(json.dumps(row))
    now = manifest.fingerprint[:12]
    assert_refused(
        run(*flags),
        cwd,
        f"{study_dir}: its cells have dataset ffffffffffff, this run asks for {now}",
        "choose another directory",
    )
    assert [p for p in study_dir.rglob("*") if p.is_file()] == [cell]
    # The same dataset with another rate; then another variant, which has nothing to do with these cells.
    row = result_row(job, job.cells[0], manifest, "diverged", "loss nan")
    cell.write_text(json.dumps(row))
    done = run(*flags, "--schedule", "cosine")
    assert_refused(done, cwd, "its erm-cosine cells of width 16, seed 0 follow another", "choose another directory")
    assert run(*flags).code == run(*flags, "--loss", "cvar").code == 0


def test_in_a_process_of_its_own_plan_needs_no_ray_and_a_problem_no_traceback(dataset, tmp_path):
    # None makes every import of the name fail.
    code = """
import runpy, sys
sys.modules |= {"ray": None, "deepspeed": None}
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    flags = ["demo", "--dataset", str(dataset), "--plan", "--num-events"]
    codes = []
    for size, out, err in (("2000", "6 trunks, 6 cells", ""), ("9001", "", "error: num_events has 9,001")):
        command = [sys.executable, "-c", code, str(JOB), *flags, size]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert out in done.stdout, done.stderr
        assert done.stderr.startswith(err)
        assert "Traceback" not in done.stderr
        codes.append(done.returncode)
    assert codes == [0, 2]
    assert list(tmp_path.iterdir()) == []
