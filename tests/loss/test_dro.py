"""Behaviour-level CVaR against a linear programme, its dual, hand-worked weights, and plain training at eps = 1."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from behavegpt.errors import InputError
from behavegpt.loss.dro import (
    DroConfig,
    DroState,
    class_statistics,
    cvar_weights,
    sample_weights,
    update,
    weigh,
)
from behavegpt.loss.nll import mean_loss, token_losses

EPSILONS = [1.0, 0.8, 0.5, 0.2, 0.05, 1e-4]


def random_problem(seed: int, num_classes: int = 23) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scores and a long-tailed distribution with classes of probability 0, in float64."""
    rng = np.random.default_rng(seed)
    probs = rng.permutation(np.arange(1, num_classes + 1) ** -1.6)
    probs[rng.choice(num_classes, 3, replace=False)] = 0.0
    return torch.from_numpy(rng.gamma(2.0, 1.0, num_classes)), torch.from_numpy(probs / probs.sum())


def value(scores: torch.Tensor, probs: torch.Tensor, eps: float) -> float:
    return float((cvar_weights(scores, probs, eps) * scores).sum())


@pytest.mark.parametrize("eps", EPSILONS)
@pytest.mark.parametrize("seed", range(5))
def test_fill_solves_the_linear_programme_and_meets_the_dual(seed, eps):
    scores, probs = random_problem(seed)
    bounds = [(0.0, float(p) / eps) for p in probs]
    primal = linprog(-scores.numpy(), A_eq=np.ones((1, len(scores))), b_eq=[1.0], bounds=bounds)
    dual = min(float(eta + (probs * (scores - eta).clamp(min=0)).sum() / eps) for eta in scores)
    weights = cvar_weights(scores, probs, eps)
    assert primal.status == 0
    assert value(scores, probs, eps) == pytest.approx(-primal.fun, abs=1e-9)
    assert value(scores, probs, eps) == pytest.approx(dual, abs=1e-9)
    np.testing.assert_allclose(weights, primal.x, atol=1e-9)
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-12)
    assert (weights <= probs / eps + 1e-15).all()
    assert (weights >= 0).all()
    assert (weights[probs == 0] == 0).all()


def test_fill_by_hand():
    scores, probs = torch.tensor([1.0, 3.0, 2.0, 9.0]), torch.tensor([0.5, 0.1, 0.4, 0.0])
    # caps 1, .2, .8: class 1 takes .2, class 2 the other .8; class 3 has no data.
    torch.testing.assert_close(cvar_weights(scores, probs, 0.5), torch.tensor([0.0, 0.2, 0.8, 0.0]))
    # caps .625, .125, .5: .125, then .5, then the .375 that is left.
    torch.testing.assert_close(cvar_weights(scores, probs, 0.8), torch.tensor([0.375, 0.125, 0.5, 0.0]))


def test_value_lies_between_mean_and_maximum_and_falls_with_eps():
    for seed in range(20):
        scores, probs = random_problem(seed)
        values = [value(scores, probs, eps) for eps in EPSILONS]
        assert (np.diff(values) >= -1e-12).all()
        mean, worst = float((probs * scores).sum()), float(scores[probs > 0].max())
        assert values[0] == mean
        assert all(mean - 1e-12 <= v <= worst + 1e-12 for v in values)
        assert values[-1] == pytest.approx(worst, abs=1e-12)  # 1e-4 is below every probability here


def test_relabelling_classes_relabels_the_weights():
    scores, probs = random_problem(7)
    order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(0))
    direct = cvar_weights(scores, probs, 0.3)[order]
    torch.testing.assert_close(cvar_weights(scores[order], probs[order], 0.3), direct, atol=1e-15, rtol=0)


def test_ties_go_to_the_lower_class_id():
    probs = torch.tensor([0.25, 0.25, 0.25, 0.25])
    torch.testing.assert_close(cvar_weights(torch.ones(4), probs, 0.5), torch.tensor([0.5, 0.5, 0.0, 0.0]))


def test_eps_one_returns_the_distribution_itself():
    scores, probs = random_problem(3)
    assert torch.equal(cvar_weights(scores, probs.float(), 1.0), probs.float())


def seen_state(scores: torch.Tensor) -> DroState:
    state = DroState(len(scores))
    state.load_state_dict({"mean_loss": scores.float(), "seen": torch.ones(len(scores), dtype=torch.bool)})
    return state


@pytest.mark.parametrize("eps", [0.8, 0.2, 0.05])
def test_weights_are_bounded_and_average_one_over_the_training_data(eps):
    for seed in range(10):
        scores, probs = random_problem(seed)
        state = seen_state(scores)
        raw = sample_weights(state, probs, DroConfig(eps=eps, floor=0.0, warmup_steps=0), 0)
        assert raw.min() >= 0
        assert raw.max() <= 1 / eps * (1 + 1e-12)
        for step in (0, 3, 10, 99):
            config = DroConfig(eps=eps, floor=0.1, warmup_steps=10)
            weights = sample_weights(state, probs, config, step)
            assert float((probs * weights).sum()) == pytest.approx(1.0, abs=1e-12)
            assert (weights[probs == 0] == 0).all()
        assert weights[probs > 0].min() >= 0.1 - 1e-12


def test_floor_and_warmup_by_hand():
    state = seen_state(torch.tensor([1.0, 3.0, 2.0]))
    probs = torch.tensor([0.5, 0.1, 0.4], dtype=torch.float64)
    # eps .5: q = 0, .2, .8, so q/p = 0, 2, 2; floor .1 makes .1, 1.9, 1.9.
    config = DroConfig(eps=0.5, floor=0.1, warmup_steps=4)
    expected = {
        0: [1.0, 1.0, 1.0],
        1: [0.775, 1.225, 1.225],
        2: [0.55, 1.45, 1.45],
        4: [0.1, 1.9, 1.9],
        9: [0.1, 1.9, 1.9],
    }
    for step, weights in expected.items():
        np.testing.assert_allclose(sample_weights(state, probs, config, step), weights, atol=1e-12)


def test_classes_not_met_yet_are_filled_last():
    state = DroState(3)
    update(state, torch.tensor([2.0, 0.0, 0.0]), torch.tensor([4.0, 0.0, 0.0]), DroConfig(eps=0.5))
    probs = torch.tensor([0.3, 0.6, 0.1], dtype=torch.float64)
    # caps .6, 1, .2: the one met class takes .6 although its loss is low, then class 1 takes the rest by its id.
    weights = sample_weights(state, probs, DroConfig(eps=0.5, floor=0.0, warmup_steps=0), 0)
    np.testing.assert_allclose(weights, [2.0, 0.4 / 0.6, 0.0], atol=1e-12)


def test_class_statistics_equal_a_loop():
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(4, 9, generator=generator, requires_grad=True)
    targets = torch.randint(-1, 5, (4, 9), generator=generator)
    sums, counts = [0.0] * 6, [0] * 6
    for loss, target in zip(losses.flatten().tolist(), targets.flatten().tolist(), strict=True):
        if target >= 0:
            sums[target] += loss
            counts[target] += 1
    sums_G, counts_G = class_statistics(losses, targets, 6)
    assert not sums_G.requires_grad
    np.testing.assert_allclose(sums_G, sums, rtol=1e-12)
    assert counts_G.tolist() == counts
    assert counts[5] == 0


def test_running_means_by_hand():
    state, config = DroState(3), DroConfig(eps=0.5, ema=0.25)
    update(state, torch.tensor([6.0, 0.0, 1.0]), torch.tensor([2.0, 0.0, 1.0]), config)
    assert state.mean_loss_G.tolist() == [3.0, 0.0, 1.0]
    assert state.seen_G.tolist() == [True, False, True]
    update(state, torch.tensor([7.0, 4.0, 0.0]), torch.tensor([1.0, 2.0, 0.0]), config)
    assert state.mean_loss_G.tolist() == [4.0, 2.0, 1.0]  # 3 + .25 (7 - 3); first mean; absent
    assert state.seen_G.tolist() == [True, True, True]


def test_statistics_of_workers_add_up_to_those_of_the_whole_batch():
    generator = torch.Generator().manual_seed(1)
    losses = torch.rand(8, 90, generator=generator)
    targets = torch.randint(-1, 12, (8, 90), generator=generator)
    whole = class_statistics(losses, targets, 12)
    parts = [class_statistics(losses[i::2], targets[i::2], 12) for i in range(2)]
    states = [DroState(12), DroState(12)]
    update(states[0], *whole, DroConfig(eps=0.5))
    update(states[1], parts[0][0] + parts[1][0], parts[0][1] + parts[1][1], DroConfig(eps=0.5))
    assert torch.equal(states[0].mean_loss_G, states[1].mean_loss_G)


def test_state_survives_a_checkpoint():
    state, copy = DroState(4), DroState(4)
    update(state, torch.tensor([1.0, 2.0, 0.0, 3.0]), torch.tensor([3.0, 1.0, 0.0, 7.0]), DroConfig(eps=0.5))
    saved = state.state_dict()
    update(state, torch.ones(4), torch.ones(4), DroConfig(eps=0.5))
    copy.load_state_dict(saved)
    assert copy.seen_G.tolist() == [True, True, False, True]
    torch.testing.assert_close(copy.mean_loss_G, torch.tensor([1 / 3, 2.0, 0.0, 3 / 7]))
    with pytest.raises(InputError, match="has 4 classes, the model has 5"):
        DroState(5).load_state_dict(saved)


def gradients(robust: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the loss and all gradients of a small net in one step, plain or robust with eps = 1."""
    generator = torch.Generator().manual_seed(4)
    weights = [torch.randn(6, 16, generator=generator).requires_grad_(), torch.randn(16, 9, generator=generator)]
    weights[1].requires_grad_()
    inputs = torch.randn(3, 30, 6, generator=generator)
    targets = torch.randint(-1, 9, (3, 30), generator=generator)
    num_targets = int((targets >= 0).sum())
    losses = token_losses(torch.tanh(inputs @ weights[0]) @ weights[1], targets)
    if robust:
        probs = torch.arange(1, 10).float() ** -1.3
        probs, state, config = probs / probs.sum(), DroState(9), DroConfig(eps=1.0, floor=0.1, warmup_steps=3)
        update(state, *class_statistics(losses, targets, 9), config)
        losses = weigh(losses, targets, sample_weights(state, probs, config, step=2))
    loss = mean_loss(losses, num_targets)
    loss.backward()
    return loss.detach(), [w.grad for w in weights if w.grad is not None]


def test_eps_one_is_plain_training_bit_for_bit():
    plain, robust = gradients(robust=False), gradients(robust=True)
    assert torch.equal(plain[0], robust[0])
    assert len(plain[1]) == len(robust[1]) == 2
    for a, b in zip(plain[1], robust[1], strict=True):
        assert torch.equal(a, b)


def test_weighted_batches_estimate_the_worst_case_without_bias():
    """The weighted mean over all the data is sum_b q(b) L_b exactly, whatever the losses within a class."""
    generator = torch.Generator().manual_seed(5)
    targets = torch.multinomial(torch.tensor([0.6, 0.3, 0.08, 0.02]), 5_000, replacement=True, generator=generator)
    losses = torch.rand(5_000, generator=generator, dtype=torch.float64) * (1 + targets)
    sums, counts = class_statistics(losses, targets, 4)
    probs, state = counts / counts.sum(), DroState(4)
    config = DroConfig(eps=0.2, floor=0.0, warmup_steps=0)
    update(state, sums, counts, config)
    weighted = mean_loss(weigh(losses, targets, sample_weights(state, probs, config, 0)), 5_000)
    bounds = [(0.0, float(p) / 0.2) for p in probs]
    worst = linprog(-(sums / counts).numpy(), A_eq=np.ones((1, 4)), b_eq=[1.0], bounds=bounds)
    assert float(weighted) == pytest.approx(-worst.fun, abs=1e-9)


def test_no_gradient_flows_through_the_weights():
    losses = torch.tensor([2.0, 1.0, 4.0], requires_grad=True)
    targets, probs = torch.tensor([0, 0, 1]), torch.tensor([0.75, 0.25], dtype=torch.float64)
    state, config = DroState(2), DroConfig(eps=0.5, floor=0.0, warmup_steps=0)
    update(state, *class_statistics(losses, targets, 2), config)
    mean_loss(weigh(losses, targets, sample_weights(state, probs, config, 0)), 3).backward()
    # caps 1.5 -> 1 and .5: class 1 (loss 4) takes .5, class 0 the other .5; w = .5/.75 and .5/.25.
    torch.testing.assert_close(losses.grad, torch.tensor([2 / 9, 2 / 9, 2 / 3]))


def test_config_names_every_problem():
    with pytest.raises(InputError) as caught:
        DroConfig(eps=0.0, ema=1.5, floor=-0.1, warmup_steps=-1)
    assert [p.split()[0] for p in caught.value.problems] == ["dro.eps", "dro.ema", "dro.floor", "dro.warmup_steps"]
