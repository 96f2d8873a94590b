"""Cross-entropy per target against numbers worked by hand."""

import math

import torch

from behavegpt.loss.nll import mean_loss, token_losses


def test_losses_by_hand():
    logits = torch.tensor([[[0.0, 0.0, 0.0, 0.0], [math.log(3.0), 0.0, -math.inf, -math.inf]]])
    losses = token_losses(logits, torch.tensor([[2, 1]]))
    torch.testing.assert_close(losses, torch.tensor([[math.log(4), math.log(4)]]))  # 1/4, and 1/(3 + 1)


def test_ignored_positions_cost_nothing_and_get_no_gradient():
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.tensor([[0, -1, 4], [-1, -1, 2]])
    losses = token_losses(logits, targets)
    assert losses[targets == -1].tolist() == [0.0, 0.0, 0.0]
    assert (losses[targets != -1] > 0).all()
    losses.sum().backward()
    assert logits.grad is not None
    assert (logits.grad[targets == -1] == 0).all()


def test_losses_of_bfloat16_logits_are_float32():
    logits = torch.tensor([[[1.0, 2.0, 3.0]]], dtype=torch.bfloat16)
    losses = token_losses(logits, torch.tensor([[2]]))
    assert losses.dtype == torch.float32
    expected = math.log(math.exp(1) + math.exp(2) + math.exp(3)) - 3
    torch.testing.assert_close(losses, torch.tensor([[expected]]))


def test_mean_divides_by_the_global_count():
    assert mean_loss(torch.tensor([[1.0, 0.0, 5.0]]), 4).item() == 1.5
