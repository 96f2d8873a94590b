"""The static rivals against their published forms, written out with a softmax, and plain where switched off."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor

from behavegpt.loss.dro import weigh
from behavegpt.loss.nll import token_losses
from behavegpt.loss.static import balanced_weights, class_offsets, focal, ldam, margins

COUNTS = torch.tensor([5_000, 800, 70, 16, 1, 0])


def example() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, 25, 6, generator=generator)
    return logits.requires_grad_(), torch.randint(-1, 5, (4, 25), generator=generator)


def expected(logits: Tensor, targets: Tensor, change: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
    """Return -log softmax(change(z, y))[y] of every target by a loop, in double precision."""
    losses = np.zeros(targets.shape)
    for index in np.ndindex(*targets.shape):
        if (y := int(targets[index])) >= 0:
            losses[index] = -log_softmax(change(logits[index].detach().double().numpy(), y))[y]
    return losses


@pytest.mark.parametrize("tau", [0.3, 1.0, 2.0])
def test_logit_adjustment_is_cross_entropy_of_shifted_logits(tau):
    logits, targets = example()
    offsets = class_offsets(COUNTS, tau)
    shares = [max(n, 1) / 5_887 for n in COUNTS.tolist()]
    np.testing.assert_allclose(offsets, [tau * math.log(p) for p in shares], rtol=1e-12)
    found = token_losses(logits + offsets.float(), targets)
    reference = expected(logits, targets, lambda z, y: z + tau * np.log(shares))
    np.testing.assert_allclose(found.detach(), reference, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("beta", [0.5, 0.9, 0.9999, 1 - 1e-12])
def test_class_balanced_weights_are_the_inverse_effective_number(beta):
    counts = np.maximum(COUNTS.numpy(), 1).astype(np.longdouble)
    effective = [sum(np.longdouble(beta) ** k for k in range(int(n))) for n in counts]  # (1 - beta^n) / (1 - beta)
    weights = 1 / np.array(effective)
    weights /= (weights * COUNTS.numpy()).sum() / 5_887
    np.testing.assert_allclose(balanced_weights(COUNTS, beta), weights.astype(float), rtol=1e-7)


def test_class_balanced_tends_to_inverse_frequency():
    weights = balanced_weights(COUNTS, 1 - 1e-13)
    np.testing.assert_allclose(weights[:5] * COUNTS[:5], [5_887 / 5] * 5, rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_loss_is_its_published_form_with_its_gradient(gamma):
    logits, targets = example()
    focal(token_losses(logits, targets), gamma).sum().backward()
    again = logits.detach().double().requires_grad_()
    chosen = again.softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    reference = torch.where(targets >= 0, -((1 - chosen) ** gamma) * chosen.log(), 0.0)
    reference.sum().backward()
    torch.testing.assert_close(focal(token_losses(logits, targets), gamma), reference.float(), rtol=1e-4, atol=1e-6)
    assert logits.grad is not None and again.grad is not None
    torch.testing.assert_close(logits.grad, again.grad.float(), rtol=1e-3, atol=1e-5)


def test_margins_fall_with_the_fourth_root_of_the_count():
    np.testing.assert_allclose(margins(COUNTS, 0.5)[[3, 4]], [0.25, 0.5])  # 16^(1/4) = 2
    assert float(margins(COUNTS, 0.5)[0]) == pytest.approx(0.5 * 5_000**-0.25)


def test_ldam_lowers_the_target_logit_by_its_margin_with_its_gradient():
    logits, targets = example()
    margins_G = margins(COUNTS, 0.9).float()
    found = ldam(token_losses(logits, targets), targets, margins_G)
    reference = expected(logits, targets, lambda z, y: z - float(margins_G[y]) * np.eye(6)[y])
    np.testing.assert_allclose(found.detach(), reference, rtol=2e-5, atol=1e-6)
    found.sum().backward()
    again = logits.detach().requires_grad_()
    one_hot = torch.nn.functional.one_hot(targets.clamp(min=0), 6)
    token_losses(again - one_hot * margins_G, targets).sum().backward()
    assert logits.grad is not None and again.grad is not None
    torch.testing.assert_close(logits.grad, again.grad, rtol=1e-4, atol=1e-6)


def test_ldam_overflows_for_no_loss():
    losses = torch.tensor([0.0, 1e-7, 90.0, 1e4])
    found = ldam(losses, torch.tensor([4, 4, 4, 4]), torch.full((6,), 2.0))
    assert found[0] == 0.0
    torch.testing.assert_close(found[1:], torch.tensor([1e-7 * math.exp(2), 92.0, 1e4 + 2]), rtol=1e-3, atol=0)


OFF: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "logit adjustment": lambda z, y: token_losses(z + class_offsets(COUNTS, 0.0).float(), y),
    "class-balanced": lambda z, y: weigh(token_losses(z, y), y, balanced_weights(COUNTS, 0.0)),
    "focal": lambda z, y: focal(token_losses(z, y), 0.0),
    "ldam": lambda z, y: ldam(token_losses(z, y), y, margins(COUNTS, 0.0).float()),
}
ON: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "class-balanced": lambda z, y: weigh(token_losses(z, y), y, balanced_weights(COUNTS, 0.99)),
    "focal": lambda z, y: focal(token_losses(z, y), 0.5),
    "ldam": lambda z, y: ldam(token_losses(z, y), y, margins(COUNTS, 0.5).float()),
}


@pytest.mark.parametrize("name", OFF)
def test_switched_off_each_is_plain_bit_for_bit(name):
    logits, targets = example()
    plain, found = token_losses(logits, targets), OFF[name](logits, targets)
    assert torch.equal(found, plain)
    [plain_gradient] = torch.autograd.grad(plain.sum(), logits)
    [gradient] = torch.autograd.grad(found.sum(), logits)
    assert torch.equal(gradient, plain_gradient)


@pytest.mark.parametrize("name", ON)
def test_ignored_and_certain_targets_cost_nothing_and_keep_gradients_numbers(name):
    logits = torch.zeros(1, 3, 6)
    logits[0, 1, 4] = 1e4  # a target that the model is sure of to the last bit
    logits.requires_grad_()
    losses = ON[name](logits, torch.tensor([[-1, 4, 2]]))
    losses.sum().backward()
    assert losses[0, :2].tolist() == [0.0, 0.0] and losses[0, 2] > 0
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert (logits.grad[0, 0] == 0).all()
