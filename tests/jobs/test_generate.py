"""jobs/generate.py: the same result for any batch and after SIGKILL, and one line for whatever keeps it from one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from behavegpt.data.synthetic.generator import GeneratorConfig, write_generated
from behavegpt.data.verify import verify_dataset
from behavegpt.study.config import Size, StudyConfig
from behavegpt.study.grid import plan_study
from behavegpt.tasks.fitting import TrainHere
from behavegpt.train.export import export_model

JOB = Path(__file__).parents[2] / "jobs" / "generate.py"
SMALL = GeneratorConfig(num_users=40, num_train_events=9_000, num_val_windows=4, num_test_windows=36)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a log with 36 users in its test split."""
    out = tmp_path_factory.mktemp("generate") / "small"
    write_generated(out, SMALL, "small")
    return out


@pytest.fixture(scope="module")
def model(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a model as jobs/pretrain.py does, without a cluster."""
    out = tmp_path_factory.mktemp("models") / "s0"
    config = StudyConfig(name="pretrain", sizes=(Size(width=16),), num_events=(1_800,), seeds=(0,))
    [job] = plan_study(config, verify_dataset(dataset), dataset, out).jobs
    TrainHere()(replace(job, keep_final=True))
    return out


@pytest.fixture
def run(dataset: Path, model: Path, run_job: Run) -> Run:
    """Return a runner of the job in this process; it gives exit code, stdout and stderr."""

    def run(*arguments: object, **flags: object) -> tuple[int, str, str]:
        given = {"--dataset": dataset, "--model": model, "--num-events": 30, "--num-users": 20} | {
            f"--{name.replace('_', '-')}": value for name, value in flags.items()
        }
        words = [*arguments, *(word for flag in given.items() for word in flag)]
        return run_job(JOB, *words)

    return run


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_table_4_and_the_same_files_for_any_batch(run: Run, tmp_path: Path):
    code, out, err = run(out=tmp_path / "whole")
    assert code == 0, err
    for name in ("behavegpt-erm", "repeat-week", "markov", "oracle", "real, two halves", "real"):
        assert f"\n  {name} " in out
    assert "small test: 30 behaviours of each of 20 users (of 36) after 61.0 events on average" in out
    table = pq.read_table(tmp_path / "whole" / "behaviors.parquet")
    assert table.num_rows == 20 * 30
    assert table["position"].to_pylist() == list(range(1, 31)) * 20
    assert min(table["probability"].to_pylist()) > 0
    found = json.loads((tmp_path / "whole" / "generate.json").read_text())
    rows = {row["name"]: row["figures"] for row in found["rows"]}
    assert rows["real"]["bleu"] == pytest.approx(1)
    assert rows["real"]["jsd"] == pytest.approx(0)
    assert 0 < rows["real"]["distinct_2"] <= 1
    assert all(0 <= figures["jsd"] <= 1 for figures in rows.values())

    assert run(out=tmp_path / "parts", users_per_batch=7)[0] == 0
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert run(out=tmp_path / "seed", seed=1)[0] == 0
    assert contents(tmp_path / "seed")["behaviors.parquet"] != contents(tmp_path / "whole")["behaviors.parquet"]

    before = contents(tmp_path / "whole")
    code, out, err = run(out=tmp_path / "whole", users_per_batch=3)
    assert (code, err) == (0, "")
    assert "was finished before" in out
    assert contents(tmp_path / "whole") == before
    refused(run(out=tmp_path / "whole", seed=2), "exists already, and is not the result of this run")


def test_a_run_that_was_killed_goes_on_to_the_same_result(run: Run, dataset: Path, model: Path, tmp_path: Path):
    flags = {"users_per_batch": 2, "systems": "most-frequent"}
    assert run(out=tmp_path / "whole", **flags)[0] == 0
    words = ["--dataset", dataset, "--model", model, "--num-events", 30, "--num-users", 20, "--users-per-batch", 2]
    command = [sys.executable, JOB, *words, "--systems", "most-frequent", "--out", tmp_path / "killed"]
    process = subprocess.Popen(list(map(str, command)), env=os.environ | {"OMP_NUM_THREADS": "1"})
    partial = tmp_path / ".killed.partial"
    deadline = time.monotonic() + 120
    while not (partial / "part-000002.parquet").exists():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in partial.glob("part-*.parquet")}
    assert 3 <= len(done) < 10
    assert not (tmp_path / "killed").exists()

    refused(run(out=tmp_path / "killed", **flags | {"seed": 9}), "an unfinished run has sampling")
    assert {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in partial.glob("part-*.parquet")} == done
    assert run(out=tmp_path / "killed", **flags)[0] == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert [p.name for p in tmp_path.glob(".killed*")] == []


def test_an_exported_model_gives_what_its_checkpoint_gives(run: Run, dataset: Path, model: Path, tmp_path: Path):
    [checkpoint] = model.glob("checkpoints/*/final-*")
    exported = export_model(checkpoint, dataset, tmp_path / "exported")
    for name, path in {"run": model, "checkpoint": checkpoint, "exported": exported}.items():
        assert run(out=tmp_path / f"of-{name}", model=path, num_events=3, systems="most-frequent")[0] == 0
    assert contents(tmp_path / "of-run") == contents(tmp_path / "of-checkpoint") == contents(tmp_path / "of-exported")


def refused(result: tuple[int, str, str], *sentences: str) -> None:
    """Assert exit code 2 with one line for each sentence and nothing else."""
    code, out, err = result
    assert (code, out) == (2, ""), err
    assert err.count("\n") == len(sentences)
    for sentence in sentences:
        assert sentence in err


def test_what_cannot_be_generated_from_is_named(run: Run, dataset: Path, model: Path, tmp_path: Path):
    out = tmp_path / "out"
    refused(run(out=out, dataset=tmp_path / "none"), f"{tmp_path / 'none'}: not a dataset")
    refused(run(out=out, model=tmp_path), f"{tmp_path}: no finished model")
    refused(run(out=out, temperature=0, top_p=2), "temperature is 0", "top_p is 2")
    refused(run(out=out, num_users=1, users_per_batch=0), "num_users is 1", "users_per_batch is 0")
    refused(run(out=out, systems="markow"), "'markow'")
    refused(run(out=out, systems="sasrec"), "'sasrec', which is trained")
    refused(run(out=out, num_events=91), "no user has 91 consecutive behaviours")
    (tmp_path / "file").touch()
    refused(run(out=tmp_path / "file" / "out"), "is a file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_a_damaged_model_and_one_of_another_dataset_are_named(run: Run, dataset: Path, model: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    [path] = copy.glob("checkpoints/*/final-1800/engine-*.safetensors")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    refused(run(out=tmp_path / "out", model=copy), f"{path}: missing or damaged")
    other = tmp_path / "other"
    write_generated(other, replace(SMALL, seed=1), "other")
    refused(run(out=tmp_path / "out", dataset=other), "trained on dataset")
