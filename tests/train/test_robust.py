"""The training loss as the loop uses it: slices and workers do not show, state resumes, limits are plain to the bit."""

import json
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from behavegpt.data.manifest import read_manifest
from behavegpt.data.plan import plan_reads
from behavegpt.data.stream import local_tables, stream_batches
from behavegpt.errors import InputError
from behavegpt.files import sha256_of
from behavegpt.loss.config import (
    Chi2,
    Chi2Doro,
    ClassBalanced,
    Cvar,
    Doro,
    Focal,
    Kl,
    Ldam,
    LogitAdjusted,
    Loss,
    ReferenceModel,
    SampleCvar,
    SampleLoss,
    SmoothedCvar,
)
from behavegpt.loss.counts import count_targets
from behavegpt.loss.nll import token_losses
from behavegpt.loss.prior import PRIOR_SUM, trained_prior
from behavegpt.model.transformer import BehaveGPT, initialise
from behavegpt.schema import FEATURES
from behavegpt.train import baseline, loop, robust
from behavegpt.train.baseline import baseline_losses
from behavegpt.train.export import export_model
from behavegpt.train.robust import TrainingLoss, build_loss

CPU = torch.device("cpu")
LOSSES: list[Loss] = [
    Cvar(warmup_steps=2),
    Cvar(warmup_steps=0, adjust=1.0, caps=0.5, baseline="markov"),
    SmoothedCvar(warmup_steps=0, baseline="unigram"),
    Kl(warmup_steps=0),
    Chi2(warmup_steps=0),
    SampleCvar(),
    Doro(),
    Chi2Doro(),
    LogitAdjusted(),
    ClassBalanced(),
    Focal(),
    Ldam(),
]
PLAIN: list[Loss] = [
    *(Cvar(eps=1.0), SmoothedCvar(eps=1.0), Kl(rho=0.0), Chi2(rho=0.0), Cvar(floor=1.0)),
    *(SampleCvar(eps=1.0), Doro(eps=1.0, outliers=0.0), Chi2Doro(eps=1.0, outliers=0.0)),
    *(LogitAdjusted(tau=0.0), ClassBalanced(beta=0.0), Focal(gamma=0.0), Ldam(margin=0.0)),
]


def ids(loss: Loss) -> str:
    return loss.name


@pytest.fixture
def steps(make_job) -> list[tuple[Tensor, Tensor]]:
    """Logits (8, 90, V) and targets of a few steps."""
    num_classes = make_job().model.num_classes
    generator = torch.Generator().manual_seed(0)
    return [
        (
            2 * torch.randn(8, 90, num_classes, generator=generator),
            torch.randint(-1, num_classes, (8, 90), generator=generator),
        )
        for _ in range(4)
    ]


def take(loss: TrainingLoss, slices: Iterable[tuple[Tensor, Tensor]], step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return plain losses, training losses and the gradient of the logits of one step, as the learner takes it."""
    parts = [(logits.clone().requires_grad_(), targets) for logits, targets in slices]
    if loss.needs_look and len(parts) > 1:
        for logits, targets in parts:
            loss.look(logits.detach(), targets)
    # As the model's output: not a leaf, so that a loss may overwrite it.
    outputs = [loss(logits * 1.0, targets, step) for logits, targets in parts]
    sum(training.sum() for _, training in outputs).backward()  # pyright: ignore[reportAttributeAccessIssue]
    loss.finish_step()
    gradients = [logits.grad for logits, _ in parts if logits.grad is not None]
    plain, training = (torch.cat([output[i].detach() for output in outputs]) for i in range(2))
    return plain, training, torch.cat(gradients)


@pytest.mark.parametrize("config", [None, *PLAIN], ids=lambda c: c.name if c else "erm")
def test_switched_off_every_loss_is_plain_to_the_last_bit(make_job, steps, config):
    loss = build_loss(make_job(loss=config), CPU)
    for step, (logits, targets) in enumerate(steps, 100):
        leaf = logits.clone().requires_grad_()
        plain = token_losses(leaf, targets)
        plain.sum().backward()
        found = take(loss, [(logits, targets)], step)
        assert leaf.grad is not None
        for expected, value in zip((plain.detach(), plain.detach(), leaf.grad), found, strict=True):
            assert torch.equal(expected, value)


@pytest.mark.parametrize("config", LOSSES, ids=ids)
def test_every_loss_differs_from_plain_which_is_reported_beside_it(make_job, steps, config):
    loss = build_loss(make_job(loss=config), CPU)
    changed = []
    for step, (logits, targets) in enumerate(steps):
        plain, training, gradient = take(loss, [(logits, targets)], step)
        assert torch.equal(plain, token_losses(logits, targets))
        assert (training[targets < 0] == 0).all() and gradient.isfinite().all()
        assert (gradient[targets < 0] == 0).all()
        changed.append(not torch.equal(training, plain))
    assert changed[-1]


@pytest.mark.parametrize("config", LOSSES, ids=ids)
@pytest.mark.parametrize("cut", [[8], [4, 4], [1, 2, 5], [2, 2, 2, 2]])
def test_how_a_batch_is_cut_does_not_show(make_job, steps, config, cut):
    whole, sliced = (build_loss(make_job(loss=config), CPU) for _ in range(2))
    for step, (logits, targets) in enumerate(steps):
        expected = take(whole, [(logits, targets)], step)
        found = take(sliced, zip(logits.split(cut), targets.split(cut), strict=True), step)
        for one, other in zip(expected, found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
    for name, tensor in whole.tensors().items():
        torch.testing.assert_close(sliced.tensors()[name], tensor, rtol=1e-6, atol=1e-9)


class Workers:
    """Collectives among threads: each waits for all, as processes do."""

    def __init__(self, num: int) -> None:
        self.rank = threading.local()
        self._values: list[Tensor] = [torch.zeros(0)] * num
        self._barrier = threading.Barrier(num, timeout=60)

    def _exchange(self, value: Tensor) -> list[Tensor]:
        self._values[self.rank.index] = value.clone()
        self._barrier.wait()
        values = list(self._values)
        self._barrier.wait()
        return values

    def all_sum(self, value: Tensor) -> Tensor:
        return torch.stack(self._exchange(value)).sum(dim=0)

    def all_concatenate(self, value: Tensor) -> Tensor:
        return torch.cat(self._exchange(value))


@pytest.mark.parametrize("config", LOSSES, ids=ids)
@pytest.mark.parametrize("num_workers", [2, 4])
def test_the_number_of_workers_does_not_show(make_job, steps, config, num_workers, monkeypatch):
    job = make_job(loss=config)
    whole = build_loss(job, CPU)
    expected = [take(whole, [pair], step)[1] for step, pair in enumerate(steps)]
    workers = Workers(num_workers)
    monkeypatch.setattr(robust, "all_sum", workers.all_sum)
    monkeypatch.setattr(robust, "all_concatenate", workers.all_concatenate)

    def work(index: int) -> list[Tensor]:
        workers.rank.index = index
        loss, own = build_loss(job, CPU), []
        for step, (logits, targets) in enumerate(steps):
            mine = slice(index, None, num_workers)
            own.append(take(loss, [(logits[mine], targets[mine])], step)[1])
        return own

    with ThreadPoolExecutor(num_workers) as pool:
        found = list(pool.map(work, range(num_workers)))
    for step, training in enumerate(expected):
        for index in range(num_workers):
            if isinstance(config, SampleLoss):
                assert torch.equal(found[index][step], training[index::num_workers])
            else:
                torch.testing.assert_close(found[index][step], training[index::num_workers], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("config", LOSSES, ids=ids)
def test_a_restored_loss_goes_on_bit_for_bit(make_job, steps, config):
    whole, first, second = (build_loss(make_job(loss=config), CPU) for _ in range(3))
    for step in (0, 1):
        take(whole, [steps[step]], step)
        take(first, [steps[step]], step)
    # What a step left unfinished is not in the checkpoint, and is forgotten.
    second(steps[0][0] * 1.0, steps[0][1], 0)
    second.restore(first.tensors())
    for step in (2, 3):
        for one, other in zip(take(whole, [steps[step]], step), take(second, [steps[step]], step), strict=True):
            assert torch.equal(one, other)
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, second.tensors()[name])


def test_weights_come_from_the_steps_before(make_job, steps):
    loss = build_loss(make_job(loss=Cvar(warmup_steps=0)), CPU)
    plain, training, _ = take(loss, [steps[0]], 0)
    assert torch.equal(plain, training)
    plain, training, _ = take(loss, [steps[0]], 1)
    assert not torch.equal(plain, training)


@pytest.mark.parametrize("config", [Cvar(warmup_steps=0), SampleCvar(eps=0.2)], ids=ids)
def test_the_prior_under_which_it_trained_is_the_mean_of_the_weights(make_job, steps, config):
    """Recomputed from the training losses: the weight of a target is training over plain loss."""
    job = make_job(loss=config)
    loss, sums = build_loss(job, CPU), np.zeros(job.model.num_classes)
    counts = count_targets(job.dataset, read_manifest(job.dataset))
    for step, (logits, targets) in enumerate(steps):
        plain, training, _ = take(loss, [(logits, targets)], step)
        chosen, weight = targets[targets >= 0].numpy(), (training / plain)[targets >= 0].double().numpy()
        if isinstance(config, SampleCvar):
            sums += np.bincount(chosen, weights=weight, minlength=len(sums)) / len(chosen)
        else:
            by_class = np.ones(len(sums))
            by_class[chosen] = weight
            sums += counts / counts.sum() * by_class
    prior = trained_prior(config, torch.from_numpy(counts), loss.tensors())
    np.testing.assert_allclose(prior, sums / sums.sum(), atol=1e-5)
    assert set(loss.tensors()) >= {PRIOR_SUM}


def test_logit_adjustment_makes_no_copy_of_the_logits(make_job, steps):
    loss = build_loss(make_job(loss=LogitAdjusted()), CPU)
    logits, targets = steps[0][0].clone().requires_grad_() * 1.0, steps[0][1]
    before = logits.detach().clone()
    loss(logits, targets, 0)
    counts = count_targets(make_job().dataset, read_manifest(make_job().dataset))
    added = torch.from_numpy(np.log(np.maximum(counts, 1) / counts.sum())).float()
    torch.testing.assert_close(logits.detach(), before + added)  # overwritten in place


@pytest.fixture
def reference(make_job, tmp_path):
    """A small model that was trained and exported, and the loss that names it."""
    job = replace(make_job("reference", sizes=(2_000,)), keep_final=True)
    loop.train_trunk(job, local_tables, CPU)
    path = export_model(job.checkpoint_dir / "final-2000", job.dataset, tmp_path / "exported")
    return job, Cvar(baseline=ReferenceModel(path=path, sha256=sha256_of(path / "model.safetensors")))


def test_a_reference_model_is_scored_by_class_on_the_head_of_the_stream(make_job, reference, monkeypatch):
    made, loss = reference
    job, manifest = make_job(loss=loss), read_manifest(made.dataset)
    counts = count_targets(job.dataset, manifest)
    monkeypatch.setattr(baseline, "REFERENCE_WINDOWS", 40)
    found = baseline_losses(loss.baseline, job, manifest, counts, CPU)
    model = BehaveGPT(job.model)
    initialise(model, 1)
    model.load_state_dict(load_file(loss.baseline.path / "model.safetensors"))
    plan = plan_reads(job.dataset, manifest, "train", [(0, 40)], 0, 1)
    [batch] = stream_batches(plan, local_tables(plan), [(0, 40)])
    with torch.no_grad():
        logits = model(*(torch.from_numpy(batch.features[name]) for name in FEATURES))
    logp = logits.double().log_softmax(-1).numpy()
    own: dict[int, list[float]] = {c: [] for c in range(len(counts))}
    for window, position in zip(*np.nonzero(batch.targets >= 0), strict=True):
        target = int(batch.targets[window, position])
        own[target].append(-logp[window, position, target])
    unigram = [-np.log(n / counts.sum()) if n else 0.0 for n in counts]
    expected = [(sum(own[c]) + unigram[c]) / (len(own[c]) + 1) for c in own]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_reference_model_that_changed_is_refused(make_job, reference, tmp_path):
    _, loss = reference
    path = loss.baseline.path
    nowhere = replace(loss, baseline=replace(loss.baseline, path=tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"nowhere/config\.json: cannot be read"):
        build_loss(make_job(loss=nowhere), CPU)
    with pytest.raises(InputError, match="another model than when the run was planned"):
        build_loss(make_job(loss=replace(loss, baseline=replace(loss.baseline, sha256="0" * 64))), CPU)
    config = json.loads((path / "config.json").read_text())
    config["dataset"]["fingerprint"] = "0" * 64
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="trained on another dataset"):
        build_loss(make_job(loss=loss), CPU)
