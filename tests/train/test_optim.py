"""Clipping equals torch's own bit for bit, whether it clips or not."""

import math

import pytest
import torch
from torch import nn

from behavegpt.train.optim import clip_gradients


def with_gradients(scale: float) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in ((7, 5), (13,), (2, 3, 4), (1,))]
    for parameter in parameters[:-1]:  # the last one has none
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
    return parameters


@pytest.mark.parametrize("scale", [1e-3, 0.11, 0.12, 1.0, 1e4])
def test_clipping_equals_torchs(scale: float):
    ours, torchs = with_gradients(scale), with_gradients(scale)
    assert clip_gradients(ours, 1.0) == float(nn.utils.clip_grad_norm_(torchs, 1.0))
    for a, b in zip(ours[:-1], torchs[:-1], strict=True):
        assert a.grad is not None and b.grad is not None and torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_norm_that_is_not_a_number_is_returned(bad: float):
    parameters = with_gradients(1e-3)
    assert parameters[0].grad is not None
    parameters[0].grad[2, 1] = bad
    assert not math.isfinite(clip_gradients(parameters, 1.0))
