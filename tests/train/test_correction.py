"""A robust loss's class prior, taken out of a finished model: what moves, by how much, and what is said of it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from behavegpt.config import plain
from behavegpt.data.manifest import read_manifest
from behavegpt.data.stream import local_tables
from behavegpt.errors import InputError
from behavegpt.loss.config import Cvar, Doro, Focal, Kl, Ldam, LogitAdjusted, Loss, ReferenceModel
from behavegpt.tasks.load import names_of, read_found
from behavegpt.train.config import TrunkJob
from behavegpt.train.correction import shift_note
from behavegpt.train.evaluate import evaluate, read_validation
from behavegpt.train.export import export_model
from behavegpt.train.loop import train_trunk
from behavegpt.train.saved import load_model, read_saved

BIAS = "head.output.bias"


@pytest.fixture
def trained(make_job):
    """Return a trainer of a small job with a loss."""

    def train(loss: Loss | None) -> TrunkJob:
        job = replace(make_job(sizes=(4_000,), loss=loss), keep_final=True)
        train_trunk(job, local_tables, torch.device("cpu"))
        return job

    return train


def export(job: TrunkJob, out: Path, strength: float) -> Path:
    return export_model(job.checkpoint_dir / "final-4000", job.dataset, out, None, strength)


def frequencies(dataset: Path) -> np.ndarray:
    """Return the share of each class among the training targets: behaviours from `first_target` on, id 1 is class 0."""
    counts = np.zeros(read_manifest(dataset).vocabulary_sizes["behavior"] - 1)
    for shard in sorted((dataset / "train").glob("*.parquet")):
        for row in pq.read_table(shard, columns=["behavior", "first_target"]).to_pylist():
            for behavior in filter(None, row["behavior"][row["first_target"] :]):
                counts[behavior - 1] += 1
    return counts / counts.sum()


def test_log_odds_move_from_the_prior_of_the_worst_cases_to_that_of_the_data(trained, tmp_path):
    job = trained(Cvar(eps=0.3))
    before = load_file(export(job, tmp_path / "as-trained", 0.0) / "model.safetensors")
    after = load_file(export(job, tmp_path / "corrected", 1.0) / "model.safetensors")
    half = load_file(export(job, tmp_path / "half", 0.5) / "model.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {BIAS}
    p = frequencies(job.dataset)
    worst = load_file(job.checkpoint_dir / "final-4000" / "loop.safetensors")["loss.prior_sum"].numpy()
    expected = np.zeros(len(p))
    expected[p > 0] = np.log(p[p > 0]) - np.log(worst[p > 0] / worst.sum())
    np.testing.assert_allclose(after[BIAS] - before[BIAS], expected, atol=1e-5)
    np.testing.assert_allclose(half[BIAS] - before[BIAS], expected / 2, atol=1e-5)
    # CVaR looks away from what is easy, so it is no correction by nothing.
    assert np.abs(expected).max() > 0.1


def test_the_corrected_model_predicts_the_data_better(trained, tmp_path):
    job = trained(LogitAdjusted(tau=1.0))
    validation = read_validation(job.dataset, read_manifest(job.dataset), None)
    losses = [
        evaluate(load_model(export(job, tmp_path / str(s), s)), validation, torch.device("cpu")).loss
        for s in (0.0, 0.5, 1.0)
    ]
    assert losses[0] > losses[1] + 0.01 > losses[2] + 0.02


def test_what_a_model_says_of_its_prior(trained, tmp_path):
    job = trained(Cvar())
    raw, corrected = export(job, tmp_path / "raw", 0.0), export(job, tmp_path / "corrected", 1.0)
    checkpoint = job.checkpoint_dir / "final-4000"
    for path in (raw, checkpoint):
        assert "trained with cvar" in str(read_found(path).note)
    assert read_found(corrected).note is None
    assert read_saved(corrected).record["prior_correction"] == 1.0
    assert "class prior corrected to the training split's, 1 of the way" in (corrected / "README.md").read_text()
    assert "note: trained with cvar" in (raw / "README.md").read_text()
    both = [read_found(raw), read_found(corrected)]
    assert names_of(both) == ["behavegpt-cvar", "behavegpt-cvar-corrected1"]
    assert both[0].group != both[1].group


def test_a_note_is_due_where_a_loss_moved_the_prior_and_not_all_was_taken_out(tmp_path):
    def note(loss: object, **more: object) -> str | None:
        return shift_note(tmp_path, {"train": {"loss": plain(loss)}, **more})

    partly = note(Cvar(), prior_correction=0.5)
    assert partly == str(note(Cvar())).replace("frequency;", "frequency, of which 0.5 was taken out;")
    off = (Cvar(eps=1.0), Kl(rho=0.0), LogitAdjusted(tau=0.0), Doro(eps=1.0, outliers=0.0))
    for loss in (None, Focal(), Ldam(), *off):
        assert note(loss) is None
    model = ReferenceModel(path=tmp_path, sha256="a")
    for loss in (Doro(eps=1.0, outliers=0.1), LogitAdjusted(), Kl(baseline=model)):
        assert f"trained with {loss.kind}" in str(note(loss))
    assert shift_note(tmp_path, {"model": {}}) is None
    for train in ("x", {"loss": "erm"}, {"loss": {}}, {"loss": {"kind": "x"}}):
        with pytest.raises(InputError, match="does not say with which loss"):
            shift_note(tmp_path, {"train": train})
    for strength in ("1", None, True, 2.0, float("nan")):
        with pytest.raises(InputError, match="prior_correction is"):
            note(Cvar(), prior_correction=strength)


def test_losses_of_a_corrected_model_are_not_those_of_the_checkpoint(trained, tmp_path):
    job = trained(Cvar())
    row = json.loads((job.cell_dir / "d4000.json").read_text())
    out = export_model(job.checkpoint_dir / "final-4000", job.dataset, tmp_path / "model", row, 1.0)
    assert read_saved(out).record["result"] is None
    assert f"{row['loss']:.4f}" not in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("loss", "strength", "words"),
    [
        (None, 1.0, "trained with plain cross-entropy, whose class prior is the data's own"),
        (Focal(), 1.0, "trained with focal"),
        (Cvar(eps=1.0), 1.0, "trained with cvar-1, whose class prior is the data's own"),
        (Cvar(), 1.5, "--prior-correction is 1.5; it must be above 0 and at most 1"),
        (Cvar(), float("nan"), "--prior-correction is nan"),
    ],
)
def test_what_cannot_be_corrected_is_refused_and_nothing_is_written(trained, tmp_path, loss, strength, words):
    job = trained(loss)
    with pytest.raises(InputError, match=words):
        export(job, tmp_path / "out" / "model", strength)
    assert not (tmp_path / "out").exists()
