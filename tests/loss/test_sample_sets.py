"""Weights of single targets against linear programmes, the published loops, and that order and workers do not show."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize_scalar
from torch import Tensor

from behavegpt.loss.config import Chi2Doro, Doro, SampleCvar, SampleLoss
from behavegpt.loss.sample_sets import sample_weights


def losses_of(seed: int, num: int = 37, ties: bool = False) -> Tensor:
    losses = np.random.default_rng(seed).gamma(2.0, 1.0, num).astype(np.float32)
    return torch.from_numpy(np.round(losses) if ties else losses)


def weighted(losses: Tensor, config: SampleLoss) -> float:
    return float((sample_weights(losses, config).of(losses).double() * losses.double()).mean())


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("eps", [1.0, 0.8, 0.5, 0.11, 1e-3])
def test_sample_cvar_solves_the_linear_programme_and_meets_the_dual(eps, ties):
    for seed in range(4):
        losses = losses_of(seed, ties=ties)
        num = len(losses)
        bounds = [(0.0, 1 / (eps * num))] * num
        primal = linprog(-losses.double().numpy(), A_eq=np.ones((1, num)), b_eq=[1.0], bounds=bounds)
        dual = min(float(eta + (losses - eta).clamp(min=0).double().mean() / eps) for eta in losses)
        assert weighted(losses, SampleCvar(eps=eps)) == pytest.approx(-primal.fun, rel=1e-6)
        assert weighted(losses, SampleCvar(eps=eps)) == pytest.approx(dual, rel=1e-6)


def doro_loop(losses: list[float], eps: float, outliers: float, chi2: bool) -> float:
    """Return the DORO risk as Zhai et al. write it: drop the top, then the dual of the rest."""
    kept = np.array(sorted(losses, reverse=True)[int(outliers * len(losses)) :])
    if not chi2:
        return min(eta + np.maximum(kept - eta, 0).mean() / eps for eta in kept)
    factor = math.sqrt(1 + (1 / eps - 1) ** 2)

    def dual(eta: float) -> float:
        return eta + factor * math.sqrt(np.mean(np.maximum(kept - eta, 0) ** 2))

    edges = kept.max() - np.geomspace(1e-9, 1e5, 40)
    spans = zip(edges[1:], edges[:-1], strict=True)
    return min(kept.max(), *(minimize_scalar(dual, bounds=span, method="bounded").fun for span in spans))  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("outliers", [0.0, 0.05, 0.4])
@pytest.mark.parametrize("eps", [0.8, 0.3, 0.05])
@pytest.mark.parametrize("kind", [Doro, Chi2Doro])
def test_doro_is_the_published_loop(kind, eps, outliers):
    for seed in range(4):
        losses = losses_of(seed, ties=seed % 2 == 1)
        expected = doro_loop(losses.double().tolist(), eps, outliers, kind is Chi2Doro)
        assert weighted(losses, kind(eps=eps, outliers=outliers)) == pytest.approx(expected, rel=1e-5)


def test_weights_by_hand():
    losses = torch.tensor([1.0, 5.0, 3.0, 3.0, 2.0])
    # eps n = 2: 5 has weight 2.5; of the two 3s one has it: half each.
    assert sample_weights(losses, SampleCvar(eps=0.4)).of(losses).tolist() == [0.0, 2.5, 1.25, 1.25, 0.0]
    # 5 is dropped; eps of the other four is 2: the two 3s have 2, times 5 / 4 that the mean of all five is 1.
    doro = sample_weights(losses, Doro(eps=0.5, outliers=0.2)).of(losses)
    assert doro.tolist() == [0.0, 0.0, 2.5, 2.5, 0.0]
    # A loss that is not in the batch is weighed as the next higher one, or as the highest.
    other = torch.tensor([2.5, 9.0, 4.0])
    assert sample_weights(losses, SampleCvar(eps=0.4)).of(other).tolist() == [1.25, 2.5, 2.5]


@pytest.mark.parametrize("config", [SampleCvar(eps=0.3), Doro(eps=0.3, outliers=0.1), Chi2Doro(eps=0.3, outliers=0.1)])
def test_the_order_of_the_batch_does_not_show_and_the_mean_weight_is_one(config):
    for seed in range(6):
        losses = losses_of(seed, 101, ties=seed % 2 == 1)
        order = torch.randperm(101, generator=torch.Generator().manual_seed(seed))
        whole, shuffled = sample_weights(losses, config), sample_weights(losses[order], config)
        assert torch.equal(shuffled.of(losses), whole.of(losses))
        assert float(whole.of(losses).double().mean()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("config", [SampleCvar(eps=1.0), Doro(eps=1.0, outliers=0.0), Chi2Doro(eps=1.0, outliers=0.0)])
@pytest.mark.parametrize("num", [1, 49, 100, 90_001])
def test_the_whole_batch_has_weights_of_exactly_one(config, num):
    losses = losses_of(0, num)
    assert torch.equal(sample_weights(losses, config).of(losses), torch.ones(num))


@pytest.mark.parametrize(
    "config", [SampleCvar(eps=1e-6), Doro(eps=1e-6, outliers=0.5), Chi2Doro(eps=1e-6, outliers=0.5)]
)
def test_a_tiny_share_is_the_worst_target_alone(config):
    losses = torch.tensor([1.0, 4.0, 2.0, 3.0])
    worst = 1 if isinstance(config, SampleCvar) else 2  # DORO has dropped 4 and 3
    torch.testing.assert_close(sample_weights(losses, config).of(losses), 4.0 * torch.eye(4)[worst])
