"""The loop without a cluster: what D means, what a branch equals, and that a resumed run is the undisturbed one."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy.special import log_softmax

from behavegpt.data.manifest import read_manifest
from behavegpt.data.stream import local_tables
from behavegpt.loss.config import Cvar
from behavegpt.loss.nll import token_losses
from behavegpt.model.transformer import BehaveGPT, initialise
from behavegpt.train import loop, robust
from behavegpt.train.checkpoint import saved_steps
from behavegpt.train.config import ExecutionConfig, TrunkJob
from behavegpt.train.evaluate import evaluate, read_validation

CPU = torch.device("cpu")


def losses(job: TrunkJob) -> dict[int, str]:
    """Return the validation loss of each finished cell as a hex float: equality is to the last bit."""
    rows = [json.loads(p.read_text()) for p in sorted(job.cell_dir.glob("*.json"))]
    return {row["num_events"]: float(row["loss"]).hex() for row in rows if row["status"] == "completed"}


def run(job: TrunkJob) -> dict[int, str]:
    loop.train_trunk(job, local_tables, CPU)
    return losses(job)


def curve(job: TrunkJob) -> list[dict]:
    return [json.loads(line) for line in job.curve_path.read_text().splitlines()]


class Killed(BaseException):
    pass


def kill_after(monkeypatch, steps: int) -> None:
    """Let the run die after so many optimiser steps, as SIGKILL would: nothing is cleaned up."""
    real, left = loop.lr_factor, iter(range(steps))

    def factor(*args):
        if next(left, None) is None:
            raise Killed
        return real(*args)

    monkeypatch.setattr(loop, "lr_factor", factor)


def test_a_cell_consumes_exactly_its_events(make_job):
    job = make_job(sizes=(2_000, 4_001))
    run(job)
    ends = {line["cell_events"]: line["num_events"] for line in curve(job) if line["phase"] == "branch"}
    assert ends == {2_000: 2_000, 4_001: 4_001}


def test_a_branch_equals_an_independent_run_of_its_schedule(make_job):
    together = run(make_job("together", sizes=(2_000, 3_000, 4_500)))
    for size in (2_000, 3_000, 4_500):
        assert run(make_job(f"alone-{size}", sizes=(size,), schedule="wsd_independent")) == {size: together[size]}


@pytest.mark.parametrize("loss", [None, Cvar(eps=0.3, warmup_steps=3)])
def test_killed_at_any_step_the_resumed_run_is_bit_identical(make_job, monkeypatch, loss):
    golden_job = make_job("golden", loss=loss)
    golden = run(golden_job)
    assert len(golden) == 2
    num_steps = sum(line["phase"] in ("trunk", "branch") for line in curve(golden_job))
    assert num_steps > 30  # at this size the curve has a line per step
    for steps in range(1, num_steps, 2):
        job = make_job(f"killed-{steps}", loss=loss)
        with monkeypatch.context() as patch:
            kill_after(patch, steps)
            with pytest.raises(Killed):
                run(job)
        assert losses(job).items() <= golden.items()
        assert run(job) == golden


def test_a_rerun_trains_nothing_and_a_deleted_cell_only_its_branch(make_job):
    job = make_job()
    golden = run(job)
    lines = len(curve(job))
    assert run(job) == golden
    assert len(curve(job)) == lines
    (job.cell_dir / "d4000.json").unlink()
    assert run(job) == golden
    again = curve(job)[lines:]
    assert {(line["phase"], line["cell_events"]) for line in again} == {("branch", 4_000), ("cell", 4_000)}


def test_saving_on_the_way_changes_nothing_and_leaves_the_forks_of_finished_cells(make_job):
    golden = run(make_job("golden", sizes=(2_000, 4_000, 6_000)))
    often = ExecutionConfig(engine="torch", checkpoint_steps=4)
    first = make_job("often", sizes=(2_000, 4_000), execution=often)
    run(first)
    forks = saved_steps(first.checkpoint_dir)
    assert len(forks) == 2
    grown = make_job("often", sizes=(6_000,), execution=often)  # a larger grid asks for the missing cell alone
    assert run(grown) == golden
    assert saved_steps(first.checkpoint_dir) > forks
    assert len(saved_steps(first.checkpoint_dir)) == 3


def test_a_torn_checkpoint_is_named_and_not_used(make_job):
    job = make_job()
    golden = run(job)
    for path in job.cell_dir.iterdir():
        path.unlink()
    newest = max(job.checkpoint_dir.glob("step-*"))
    damaged = newest / "engine-00000.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert run(job) == golden
    [note] = [line["text"] for line in curve(job) if line["phase"] == "note"]
    assert str(newest) in note and "engine-00000.safetensors" in note


def test_robust_training_at_eps_1_is_plain_training_to_the_last_bit(make_job):
    plain = run(make_job("plain"))
    assert run(make_job("robust", loss=Cvar(eps=1.0))) == plain
    assert run(make_job("worst", loss=Cvar(eps=0.2, warmup_steps=0))) != plain


def poison(monkeypatch, call: int) -> None:
    """Make the loss of the so-many-th step NaN."""
    real, calls = robust.token_losses, iter(range(10**6))
    monkeypatch.setattr(robust, "token_losses", lambda *a: real(*a) * (float("nan") if next(calls) == call else 1))


def test_a_trunk_that_diverges_loses_its_open_cells_and_says_where(make_job, monkeypatch):
    job = make_job()
    poison(monkeypatch, 5)
    assert run(job) == {}
    rows = [json.loads(p.read_text()) for p in job.cell_dir.glob("*.json")]
    assert [(row["status"], row.get("loss")) for row in rows] == [("diverged", None)] * 2
    assert "loss nan at step 5" in rows[0]["reason"]


def test_a_branch_that_diverges_loses_its_own_cell_alone(make_job, monkeypatch):
    golden_job = make_job("golden")
    golden = run(golden_job)
    first_branch_step = [line["phase"] for line in curve(golden_job)].index("branch")
    job = make_job("diverged")
    poison(monkeypatch, first_branch_step)
    assert run(job) == {4_000: golden[4_000]}
    assert json.loads((job.cell_dir / "d2000.json").read_text())["status"] == "diverged"


def test_validation_is_the_plain_mean_over_scored_targets(make_job, dataset):
    job = make_job()
    model = BehaveGPT(job.model)
    initialise(model, 3)
    batches = read_validation(dataset, read_manifest(dataset), 7)
    values, windows = [], []
    for batch in batches:
        with torch.no_grad():
            logits = model(*(torch.from_numpy(batch.features[n]) for n in ("weekday", "slot", "location", "event")))
        logp = log_softmax(logits.double().numpy(), axis=-1)
        for row, targets in zip(logp, batch.targets, strict=True):
            scored = [-row[i, t] for i, t in enumerate(targets) if t >= 0]
            values += scored
            windows.append(sum(scored))
    result = evaluate(model, batches, CPU)
    assert len(values) == 7 * 90
    assert result.loss == pytest.approx(np.mean(values), rel=1e-6)
    # All windows have 90 targets, so the ratio estimator is the plain standard error of the window means.
    assert result.stderr == pytest.approx(np.std(windows, ddof=1) / 90 / np.sqrt(7), rel=1e-5)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_shard_that_changes_under_the_run_is_named_before_a_loss_is_computed(make_job, tmp_path, monkeypatch, split):
    job = make_job()
    damaged = replace(job, dataset=shutil.copytree(job.dataset, tmp_path / "damaged"))
    path = damaged.dataset / split / "part-00000.parquet"
    losses_computed = []
    monkeypatch.setattr(robust, "token_losses", lambda *args: losses_computed.append(args) or token_losses(*args))
    data = bytearray(path.read_bytes())
    data[pq.read_metadata(path).row_group(3).column(2).data_page_offset + 30] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match=rf"^{path}: damaged or not this dataset's: row group 3 does not match"):
        run(damaged)
    assert losses_computed == [] and not damaged.cell_dir.exists()


def test_what_is_asked_for_later_costs_its_decay_alone_and_gives_the_same_loss(make_job):
    at_once = run(make_job("at-once", sizes=(2_000, 3_000, 4_500)))
    job = replace(make_job("later", sizes=(4_500,)), later=(2_000, 3_000, 4_500))
    assert run(job) == {4_500: at_once[4_500]}
    before = len(curve(job))
    assert run(make_job("later", sizes=(2_000, 3_000))) == at_once
    assert {line["phase"] for line in curve(job)[before:]} == {"branch", "cell"}
