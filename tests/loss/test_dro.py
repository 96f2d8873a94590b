"""Running means, importance weights, floor and warm-up against loops and numbers worked by hand; plain at eps = 1."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from behavegpt.errors import InputError
from behavegpt.loss.config import Chi2, Cvar, DistributionLoss, Kl, SmoothedCvar
from behavegpt.loss.dro import ClassState, adjustment, class_statistics, class_weights, update, weigh, worst_case
from behavegpt.loss.nll import mean_loss, token_losses

SETS = [Cvar, SmoothedCvar, Kl, Chi2]
PLAIN = [Cvar(eps=1.0), Cvar(eps=1.0, caps=0.5), SmoothedCvar(eps=1.0), Kl(rho=0.0), Chi2(rho=0.0), Cvar(floor=1.0)]
COUNTS = torch.tensor([5_000, 900, 800, 30, 2, 0])


def met(*losses: float, seen: int | None = None) -> ClassState:
    """Return a state with these running means, of which the first `seen` classes were met."""
    state = ClassState(len(losses))
    state.mean_loss_G = torch.tensor(losses)
    state.seen_G[:seen] = True
    return state


def weights(state: ClassState, counts: Tensor, config: DistributionLoss, step: int = 10**6) -> Tensor:
    return class_weights(state, counts, torch.zeros(len(counts), dtype=torch.float64), config, step)


def test_floor_and_warmup_by_hand():
    state, counts = met(1.0, 3.0, 2.0), torch.tensor([5, 1, 4])
    # eps .5: q = 0, .2, .8, so q/p = 0, 2, 2; floor .1 makes .1, 1.9, 1.9.
    config = Cvar(eps=0.5, floor=0.1, warmup_steps=4)
    expected = {
        0: [1.0, 1.0, 1.0],
        1: [0.775, 1.225, 1.225],
        2: [0.55, 1.45, 1.45],
        4: [0.1, 1.9, 1.9],
        9: [0.1, 1.9, 1.9],
    }
    for step, values in expected.items():
        np.testing.assert_allclose(weights(state, counts, config, step), values, atol=1e-12)


@pytest.mark.parametrize("kind", SETS)
def test_weights_average_one_over_the_training_data_and_keep_the_floor(kind):
    for seed in range(10):
        state = met(*torch.from_numpy(np.random.default_rng(seed).gamma(2.0, 1.0, 6)).float().tolist())
        for step in (0, 3, 10, 99):
            found = weights(state, COUNTS, kind(floor=0.2, warmup_steps=10), step)
            assert float((COUNTS.double() / COUNTS.sum() * found).sum()) == pytest.approx(1.0, abs=1e-12)
            assert found.min() >= 0.2 - 1e-12
            assert found[-1] == 1.0  # no training targets: nothing is weighed
        assert weights(state, COUNTS, kind(floor=0.0)).std() > 0.1


def test_weights_of_cvar_are_at_most_one_over_eps():
    for eps in (0.8, 0.2, 0.05):
        found = weights(met(1.0, 2.0, 3.0, 4.0, 5.0, 0.0), COUNTS, Cvar(eps=eps, floor=0.0))
        assert found.max() == pytest.approx(1 / eps, rel=1e-12)


@pytest.mark.parametrize("kind", SETS)
def test_the_worst_case_is_one_over_the_classes_met_so_far(kind):
    state = met(2.0, 1.0, 3.0, 9.0, seen=3)
    alone = weights(met(2.0, 1.0, 3.0), torch.tensor([5, 3, 2]), kind())
    found = weights(state, torch.tensor([5, 3, 2, 90]), kind())
    torch.testing.assert_close(found, torch.cat([alone, torch.ones(1).double()]))
    assert weights(met(0.0, 0.0, seen=0), torch.tensor([5, 3]), kind()).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("config", [Cvar(eps=0.3), SmoothedCvar(eps=0.3), Kl(rho=0.4), Chi2(rho=0.4)])
def test_every_record_reaches_its_own_set(config):
    """By what only that set does: bang-bang, bounded and smooth, exponential, linear in the score."""
    counts, scores = torch.tensor([4.0, 3.0, 2.0, 1.0]).double(), torch.tensor([1.0, 2.0, 3.0, 4.0]).double()
    probs = counts / counts.sum()
    ratio = worst_case(scores, probs, counts, config) / probs
    steps = ratio.diff()
    match config:
        case Cvar():
            np.testing.assert_allclose(ratio, [0.0, 0.0, 1 / 0.3, 1 / 0.3], atol=1e-12)
        case SmoothedCvar():
            assert ratio[3] == pytest.approx(1 / 0.3)
            assert float(ratio[1] / ratio[0]) == pytest.approx(np.exp(2.0))  # one nat over a temperature of .5
        case Kl():
            logs = ratio.log().diff()
            torch.testing.assert_close(logs, logs[0].expand(3))
        case Chi2():
            torch.testing.assert_close(steps[ratio[:-1] > 0], steps[-1].expand(int((ratio[:-1] > 0).sum())))
            assert (ratio[:-1] > 0).sum() >= 2


def test_shifts_move_what_is_compared_and_caps_what_may_be_given():
    state, counts = met(1.0, 3.0), torch.tensor([100, 4])
    shifts = torch.tensor([5.0, 0.0]).double()
    config = Cvar(eps=0.99, floor=0.0)
    assert weights(state, counts, config)[1] == pytest.approx(1 / 0.99)
    assert class_weights(state, counts, shifts, config, 10**6)[0] == pytest.approx(1 / 0.99)
    # eps of class 1 is .5, of class 0 it is 1 - .5 sqrt(4 / 100) = .9: the rare class doubles, the other pays.
    capped = weights(state, counts, Cvar(eps=0.5, caps=0.5, floor=0.0))
    np.testing.assert_allclose(capped, [96 / 100, 2.0], atol=1e-12)


def test_adjustment_by_hand():
    # C / sqrt(n) with C = 3 sqrt(4): .6 at n = 100, 3 at n = 4; a class without targets counts as the rarest.
    np.testing.assert_allclose(adjustment(torch.tensor([100, 4, 0]), 3.0), [0.6, 3.0, 3.0])


def test_class_statistics_equal_a_loop():
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(4, 9, generator=generator, requires_grad=True)
    targets = torch.randint(-1, 5, (4, 9), generator=generator)
    sums, counts = [0.0] * 6, [0] * 6
    for loss, target in zip(losses.flatten().tolist(), targets.flatten().tolist(), strict=True):
        if target >= 0:
            sums[target] += loss
            counts[target] += 1
    statistics = class_statistics(losses, targets, 6)
    assert not statistics.requires_grad
    np.testing.assert_allclose(statistics, [sums, counts], rtol=1e-12)
    assert counts[5] == 0


def test_running_means_and_priors_by_hand():
    state = ClassState(3)
    update(state, torch.tensor([[6.0, 0.0, 1.0], [2.0, 0.0, 1.0]]), torch.tensor([0.5, 0.3, 0.2]), 0.25)
    assert state.mean_loss_G.tolist() == [3.0, 0.0, 1.0]
    assert state.seen_G.tolist() == [True, False, True]
    update(state, torch.tensor([[7.0, 4.0, 0.0], [1.0, 2.0, 0.0]]), torch.tensor([0.1, 0.1, 0.8]), 0.25)
    assert state.mean_loss_G.tolist() == [4.0, 2.0, 1.0]  # 3 + .25 (7 - 3); first mean; absent
    assert state.seen_G.tolist() == [True, True, True]
    np.testing.assert_allclose(state.prior_sum_G, [0.6, 0.4, 1.0], atol=1e-7)


def test_statistics_of_workers_add_up_to_those_of_the_whole_batch():
    generator = torch.Generator().manual_seed(1)
    losses = torch.rand(8, 90, generator=generator)
    targets = torch.randint(-1, 12, (8, 90), generator=generator)
    for workers in (2, 4):
        states = [ClassState(12), ClassState(12)]
        parts = [class_statistics(losses[i::workers], targets[i::workers], 12) for i in range(workers)]
        for state, statistics in zip(states, (class_statistics(losses, targets, 12), sum(parts)), strict=True):
            assert isinstance(statistics, Tensor)
            update(state, statistics, torch.zeros(12), 0.1)
        assert torch.equal(states[0].mean_loss_G, states[1].mean_loss_G)


def test_state_survives_a_checkpoint():
    state, copy = ClassState(4), ClassState(4)
    update(state, torch.tensor([[1.0, 2.0, 0.0, 3.0], [3.0, 1.0, 0.0, 7.0]]), torch.full((4,), 0.25), 0.1)
    saved = state.state_dict()
    update(state, torch.ones(2, 4), torch.ones(4), 0.1)
    copy.load_state_dict(saved)
    assert copy.seen_G.tolist() == [True, True, False, True]
    assert copy.prior_sum_G.tolist() == [0.25] * 4
    torch.testing.assert_close(copy.mean_loss_G, torch.tensor([1 / 3, 2.0, 0.0, 3 / 7]))
    with pytest.raises(InputError, match="has 4 classes, the model has 5"):
        ClassState(5).load_state_dict(saved)


def gradients(config: DistributionLoss | None) -> tuple[Tensor, list[Tensor]]:
    """Return the loss and all gradients of a small net in the step after its classes were met."""
    generator = torch.Generator().manual_seed(4)
    layers = [torch.randn(6, 16, generator=generator).requires_grad_(), torch.randn(16, 9, generator=generator)]
    layers[1].requires_grad_()
    inputs = torch.randn(3, 30, 6, generator=generator)
    targets = torch.randint(-1, 9, (3, 30), generator=generator)
    losses = token_losses(torch.tanh(inputs @ layers[0]) @ layers[1], targets)
    if config:
        counts, state = (1e5 * torch.arange(1, 10).float() ** -1.3).long(), ClassState(9)
        update(state, class_statistics(losses, targets, 9), torch.zeros(9), config.ema)
        losses = weigh(losses, targets, weights(state, counts, config))
    loss = mean_loss(losses, int((targets >= 0).sum()))
    loss.backward()
    return loss.detach(), [w.grad for w in layers if w.grad is not None]


@pytest.mark.parametrize("config", PLAIN)
def test_where_the_set_holds_p_alone_training_is_plain_bit_for_bit(config):
    plain, robust = gradients(None), gradients(config)
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
    state = ClassState(4)
    update(state, torch.stack([sums, counts]), torch.zeros(4), 0.1)
    weighted = mean_loss(weigh(losses, targets, weights(state, counts, Cvar(eps=0.2, floor=0.0))), 5_000)
    bounds = [(0.0, float(p) / 0.2) for p in counts / 5_000]
    worst = linprog(-(sums / counts).numpy(), A_eq=np.ones((1, 4)), b_eq=[1.0], bounds=bounds)
    assert float(weighted) == pytest.approx(-worst.fun, abs=1e-9)


def test_no_gradient_flows_through_the_weights():
    losses = torch.tensor([2.0, 1.0, 4.0], requires_grad=True)
    targets, counts, state = torch.tensor([0, 0, 1]), torch.tensor([3, 1]), ClassState(2)
    update(state, class_statistics(losses, targets, 2), torch.zeros(2), 0.1)
    mean_loss(weigh(losses, targets, weights(state, counts, Cvar(eps=0.5, floor=0.0))), 3).backward()
    # caps 1.5 -> 1 and .5: class 1 (loss 4) takes .5, class 0 the other .5; w = .5/.75 and .5/.25.
    torch.testing.assert_close(losses.grad, torch.tensor([2 / 9, 2 / 9, 2 / 3]))
