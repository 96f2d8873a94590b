"""SASRec: its forward pass written out, its two losses by hand, its counts, and training by the common loop."""

import json
import math
import pickle
import shutil
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from behavegpt.baselines.sasrec import (
    SASREC,
    FullSoftmax,
    SampledBinary,
    Sasrec,
    SasrecBce,
    SasrecModel,
    count_sasrec,
    initialise_sasrec,
    sasrec_flops,
)
from behavegpt.errors import InputError, RefusedError
from behavegpt.model.config import for_width
from behavegpt.tasks.fitting import TrainHere, TrainOnCluster, fit_row
from behavegpt.tasks.models import read_weights

SIZES = {"weekday": 8, "slot": 49, "location": 30, "event": 12, "behavior": 9}
CONFIG = replace(for_width(16, 2, vocabulary_sizes=SIZES), num_heads=1)


@pytest.fixture
def model() -> SasrecModel:
    made = SasrecModel(CONFIG)
    initialise_sasrec(made, 0)
    with torch.no_grad():  # so that no term of the formula is silent
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return made.eval()


@pytest.fixture
def ids() -> list[torch.Tensor]:
    sizes = list(SIZES.values())[:4]
    return [torch.randint(n, (3, 90), generator=torch.Generator().manual_seed(n)) for n in sizes]


def norm(x, layer):
    scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return scaled * layer.weight.detach().numpy() + layer.bias.detach().numpy()


def linear(x, layer):
    bias = 0 if layer.bias is None else layer.bias.detach().numpy()
    return x @ layer.weight.detach().numpy().T + bias


def test_the_forward_pass_is_the_formula(model, ids):
    tables = [t.weight.detach().numpy() for t in model.embeddings.values()]
    read = np.concatenate([table[i.numpy()] for table, i in zip(tables, ids, strict=True)], axis=-1)
    x = linear(read, model.project) + model.positions.detach().numpy()
    for block in model.blocks:
        q = norm(x, block.query_norm)
        a = linear(q, block.query) @ linear(x, block.key).transpose(0, 2, 1) / math.sqrt(16)
        a = np.where(np.tril(np.ones((90, 90))) > 0, a, -np.inf)
        a = np.exp(a - a.max(-1, keepdims=True))
        x = q + a / a.sum(-1, keepdims=True) @ linear(x, block.value)
        f = norm(x, block.feed_forward_norm)
        x = f + linear(np.maximum(linear(f, block.hidden), 0), block.output)
    expected = linear(norm(x, model.final_norm), model.classes)
    assert model(*ids).detach().numpy() == pytest.approx(expected, abs=1e-4)


def test_counts_equal_the_built_model(model, ids):
    counts = count_sasrec(CONFIG)
    assert counts.total == sum(p.numel() for p in model.parameters())
    assert counts.embedding == sum(p.numel() for p in model.embeddings.parameters()) + model.positions.numel()
    assert counts.head == model.classes.weight.numel()
    matrices = [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert counts.matmul == sum(w.numel() for w in matrices)
    # The counter has no entry for the CPU's fused kernel.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*(i[:1] for i in ids))
    assert sasrec_flops(CONFIG).forward == counter.get_total_flops()


def test_the_initialisation_depends_on_the_seed_alone():
    first, again, other = (SasrecModel(CONFIG) for _ in range(3))
    torch.manual_seed(5)
    initialise_sasrec(first, 0)
    torch.manual_seed(6)
    initialise_sasrec(again, 0)
    initialise_sasrec(other, 1)
    for (name, a), b, c in zip(first.named_parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c) or "norm" in name or "bias" in name or name == "positions"


def test_the_sampled_loss_by_hand():
    """Of two classes the negative is always the other one, so nothing is left to chance."""
    logits = torch.tensor([[[0.3, -1.2], [2.0, 0.5], [0.0, 0.0]]], requires_grad=True)
    targets = torch.tensor([[0, 1, -1]])
    plain, losses = SampledBinary()(logits, targets, 0)
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    assert losses[0].tolist() == pytest.approx(
        [-math.log(sigmoid(0.3)) - math.log(1 - sigmoid(-1.2)), -math.log(sigmoid(0.5)) - math.log(1 - sigmoid(2)), 0]
    )
    assert plain[0].tolist() == pytest.approx([math.log(1 + math.exp(-1.5)), math.log(1 + math.exp(1.5)), 0])
    losses.sum().backward()
    assert logits.grad is not None
    assert logits.grad[0, 2].tolist() == [0, 0]


def test_negatives_are_uniform_over_the_other_classes():
    """The gradient says which class was drawn: it is positive there, negative at the target."""
    torch.manual_seed(0)
    logits = torch.zeros(1, 6_000, 5, requires_grad=True)
    targets = torch.arange(6_000)[None] % 5
    SampledBinary()(logits, targets, 0)[1].sum().backward()
    assert logits.grad is not None
    drawn = logits.grad[0] > 0
    assert (drawn.sum(dim=1) == 1).all()
    assert not drawn[torch.arange(6_000), targets[0]].any()
    counts = torch.stack([drawn[targets[0] == c].sum(dim=0) for c in range(5)])
    others = counts[~torch.eye(5, dtype=torch.bool)]
    assert ((others - 300).abs() < 5 * math.sqrt(300)).all()


def test_the_fair_row_trains_plain_cross_entropy():
    assert type(Sasrec.family.loss(None, torch.device("cpu"))) is FullSoftmax  # type: ignore[arg-type]
    logits, targets = torch.randn(2, 4, 5), torch.randint(5, (2, 4))
    plain, losses = FullSoftmax()(logits, targets, 0)
    assert torch.equal(plain, losses)
    assert losses == pytest.approx(-logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0], abs=1e-6)


@pytest.mark.parametrize("kind", [Sasrec, SasrecBce])
def test_the_common_loop_trains_it_once(kind, make_training, batch):
    """A second fit finds the finished cell, and trains nothing."""
    training, said = make_training(), []
    row = fit_row(kind, [training], said.append)
    [path] = (training.job.study_dir / "cells").iterdir()
    cell = json.loads(path.read_text())
    assert (cell["variant"], cell["num_events"], cell["num_params"]) == (kind.name, 1_800, row.runs[0].num_params)
    assert cell["num_params_total"] == count_sasrec(replace(training.job.model, num_heads=1)).total
    assert row.seeds == (0,)
    assert row.num_events == 1_800
    scores = row.runs[0].scores(batch)
    refuse = replace(training, train=lambda job: None)
    assert np.array_equal(fit_row(kind, [refuse], said.append).runs[0].scores(batch), scores)
    assert said == [f"{kind.name}, seed 0"] * 2


def test_the_rate_is_the_first_seeds_best_on_validation(make_training):
    training, said = make_training(), []
    again = replace(training, job=replace(training.job, train=replace(training.job.train, seed=1)))
    row = fit_row(Sasrec, [training, again], said.append, (1e-4, 1.0))
    assert said == ["sasrec-rate-x0.0001, seed 0", "sasrec, seed 0", "sasrec, seed 1"]
    assert (row.name, row.seeds) == ("sasrec", (0, 1))
    slow = fit_row(Sasrec, [training], said.append, (1e-5, 1e-4))
    cells = [json.loads(path.read_text()) for path in training.job.study_dir.glob("cells/sasrec-w16x2-s0-*")]
    best, second, _ = sorted(cell["loss"] for cell in cells)
    runs = row.runs[0], slow.runs[0]
    assert all(isinstance(run, Sasrec) for run in runs)
    assert [run.val_loss for run in runs if isinstance(run, Sasrec)] == [best, second]
    assert slow.name == "sasrec-rate-x0.0001"


def test_a_damaged_file_of_a_finished_run_is_named_and_deleting_it_trains_again(make_training, batch):
    training = make_training()
    scores = fit_row(Sasrec, [training], print).runs[0].scores(batch)
    [path] = training.job.study_dir.glob("checkpoints/*/final-1800/engine-*.safetensors")
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{path}: missing or damaged; delete"):
        fit_row(Sasrec, [training], print)
    shutil.rmtree(path.parent)
    assert np.array_equal(fit_row(Sasrec, [training], print).runs[0].scores(batch), scores)


def test_the_two_losses_give_two_models_and_seeds_do_too(make_training, tmp_path):
    training = make_training()
    for kind in (Sasrec, SasrecBce):
        fit_row(
            kind,
            [training, replace(training, job=replace(training.job, train=replace(training.job.train, seed=1)))],
            print,
        )
    finals = sorted((training.job.study_dir / "checkpoints").glob("*/final-1800"))
    assert len(finals) == 4
    weights = [read_weights(path)["classes.weight"] for path in finals]
    assert all(not torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])


def test_a_run_that_diverges_is_refused_and_says_why(make_training):
    with pytest.raises(RefusedError, match=r"sasrec-w16x2-s0-.*: diverged: "):
        fit_row(Sasrec, [make_training(learning_rate=1e30)], print)


@pytest.mark.ray
def test_the_cluster_trains_it_to_the_same_loss(ray_cluster, make_training):
    losses = []
    for name, train in (("here", TrainHere()), ("cluster", None)):
        training = make_training(name)
        train = train or TrainOnCluster(training.job.study_dir / "ray")
        fit_row(SasrecBce, [replace(training, train=train)], print)
        [path] = (training.job.study_dir / "cells").iterdir()
        losses.append(json.loads(path.read_text())["loss"])
        assert not (training.job.study_dir / "ray").exists()
    assert losses[0] == losses[1]


@pytest.mark.ray
def test_ctrl_c_ends_a_training_on_the_cluster_as_it_does_elsewhere(ray_cluster, make_training):
    """Ray Train would leave the process with exit code 0 or 1, and its handler where the next Ctrl-C finds it."""
    training, before = make_training(), signal.getsignal(signal.SIGINT)

    def interrupt_once_it_starts() -> None:
        while signal.getsignal(signal.SIGINT) is before:
            time.sleep(0.02)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    killer = threading.Thread(target=interrupt_once_it_starts, daemon=True)
    killer.start()
    with pytest.raises(KeyboardInterrupt):
        fit_row(SasrecBce, [replace(training, train=TrainOnCluster(training.job.study_dir / "ray"))], print)
    killer.join()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_family_reaches_the_workers():
    assert pickle.loads(pickle.dumps(SASREC)) == SASREC
