"""What a resume starts from: the newest valid checkpoint of trunk or branch, or nothing that belongs to another job."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from behavegpt.data.stream import local_tables
from behavegpt.errors import InputError
from behavegpt.loss.config import Cvar, Focal, SampleCvar
from behavegpt.train import loop
from behavegpt.train.config import ExecutionConfig, TrunkJob
from behavegpt.train.record import saved_branch_steps, saved_steps

OFTEN = ExecutionConfig(engine="torch", checkpoint_steps=2)
FILES = ["engine-00000.safetensors", "loop.safetensors", "manifest.json"]


def run(job: TrunkJob) -> dict[int, str]:
    """Return the validation loss of each finished cell as a hex float: equality is to the last bit."""
    loop.train_trunk(job, local_tables, torch.device("cpu"))
    rows = [json.loads(path.read_text()) for path in job.cell_dir.glob("*.json")]
    return {row["num_events"]: float(row["loss"]).hex() for row in rows}


class Killed(BaseException):
    pass


def kill_after(monkeypatch, job: TrunkJob, steps: int) -> None:
    """Run the job until it dies after so many optimiser steps, as SIGKILL would: nothing is cleaned up."""
    real, left = loop.lr_factor, iter(range(steps))

    def factor(*args):
        if next(left, None) is None:
            raise Killed
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "lr_factor", factor)
        with pytest.raises(Killed):
            run(job)


def notes(job: TrunkJob) -> list[str]:
    lines = map(json.loads, job.curve_path.read_text().splitlines())
    return [line["text"] for line in lines if line["phase"] == "note"]


def steps_taken(job: TrunkJob, monkeypatch) -> int:
    """Return how many optimiser steps a rerun of the job takes."""
    real, calls = loop.lr_factor, []
    with monkeypatch.context() as patch:
        patch.setattr(loop, "lr_factor", lambda *args: calls.append(1) or real(*args))
        run(job)
    return len(calls)


@pytest.mark.parametrize(("schedule", "line"), [("wsd", "step-*"), ("cosine", "branch-*")])
def test_whatever_befalls_the_newest_checkpoint_the_one_before_it_is_used_and_named(
    make_job, tmp_path, monkeypatch, schedule, line
):
    golden = run(make_job("golden", sizes=(3_000,), execution=OFTEN, schedule=schedule))
    job = make_job("killed", sizes=(3_000,), execution=OFTEN, schedule=schedule)
    kill_after(monkeypatch, job, 13)
    newest, older = sorted(job.checkpoint_dir.glob(line), reverse=True)
    assert (newest.name[-2:], older.name[-2:]) == ("12", "10")
    for name in FILES:
        content = (newest / name).read_bytes()
        for damage in ("truncated", "flipped", "zeroed", "deleted"):
            study = shutil.copytree(job.study_dir, tmp_path / f"{name}-{damage}")
            again = replace(job, study_dir=study)
            path = again.checkpoint_dir / newest.name / name
            middle = len(content) // 2
            flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            path.write_bytes({"truncated": content[:middle], "flipped": flipped}.get(damage, bytes(len(content))))
            if damage == "deleted":
                path.unlink()
            assert run(again) == golden
            [note] = notes(again)
            assert str(path.parent) in note and note.endswith("not used")
            assert name in note or (name == "manifest.json" and "its manifest" in note)
            shutil.rmtree(study)


def test_a_branch_and_a_cosine_run_go_on_from_checkpoints_of_their_own(make_job, monkeypatch):
    whole = steps_taken(make_job("golden", sizes=(3_000,), execution=OFTEN, schedule="cosine"), monkeypatch)
    job = make_job("cosine", sizes=(3_000,), execution=OFTEN, schedule="cosine")
    kill_after(monkeypatch, job, whole - 2)
    assert len(saved_branch_steps(job.checkpoint_dir)[3_000]) == 2
    assert steps_taken(job, monkeypatch) <= 4
    assert saved_branch_steps(job.checkpoint_dir) == {}

    job = make_job("wsd", sizes=(3_000,), execution=OFTEN)
    kill_after(monkeypatch, job, whole - 1)
    [fork] = saved_steps(job.checkpoint_dir) - {2 * step for step in range(whole)} or [None]
    assert saved_branch_steps(job.checkpoint_dir)[3_000] or fork
    assert steps_taken(job, monkeypatch) <= 3


@pytest.mark.parametrize("change", [{"learning_rate": 0.02}, {"loss": Cvar(eps=0.25)}])
def test_a_checkpoint_of_another_configuration_is_refused_and_nothing_is_trained(make_job, monkeypatch, change):
    job = make_job("first", execution=OFTEN)
    kill_after(monkeypatch, job, 9)
    other = replace(make_job("first", execution=OFTEN, **change), trunk_id=job.trunk_id)
    before = sorted(path.name for path in job.checkpoint_dir.iterdir())
    with pytest.raises(InputError) as refused:
        run(other)
    [key] = change
    assert all(f"train.{key}" in problem and "(then -> now)" in problem for problem in refused.value.problems)
    assert sorted(path.name for path in job.checkpoint_dir.iterdir()) == before
    assert not job.cell_dir.exists()


@pytest.mark.parametrize("loss", [None, Cvar(eps=0.3, warmup_steps=2), SampleCvar(eps=0.4), Focal(gamma=1.0)])
def test_losses_do_not_depend_on_how_a_batch_is_cut(make_job, loss):
    values = []
    for most in (None, 1, 3):
        execution = ExecutionConfig(engine="torch", micro_windows=most)
        job = make_job(f"cut-{most}", sizes=(3_000,), execution=execution, batch_ramp=((0, 4),), loss=loss)
        run(job)
        lines = map(json.loads, job.curve_path.read_text().splitlines())
        values.append([line["loss"] for line in lines if "loss" in line])
    assert len(values[0]) >= 9
    assert values[1] == pytest.approx(values[0], abs=1e-5) and values[2] == pytest.approx(values[0], abs=1e-5)
    assert values[1] != values[0]  # another order of additions, or nothing was cut


def test_recomputed_activations_give_the_same_bits(make_job):
    plain = run(make_job("plain", sizes=(2_000,)))
    execution = ExecutionConfig(engine="torch", recompute=True)
    assert run(make_job("recomputed", sizes=(2_000,), execution=execution)) == plain


def test_a_job_that_cannot_fit_is_refused_before_anything_is_built(make_job):
    job = make_job(execution=ExecutionConfig(engine="torch", memory_gb=0.1))
    with pytest.raises(InputError, match=r"a worker needs 0\.60 GB .* and has 0\.10"):
        run(job)
    assert not job.study_dir.exists() or not list(Path(job.study_dir).rglob("*.json"))
