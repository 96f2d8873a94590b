"""The worst distributions against linear programmes, generic convex solvers, duals, and weights worked by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize, minimize_scalar
from torch import Tensor

from behavegpt.loss.behavior_sets import class_eps, worst_chi2, worst_cvar, worst_kl, worst_smoothed_cvar

EPSILONS = [1.0, 0.8, 0.5, 0.2, 0.05, 1e-4]
RADII = [1e-8, 1e-3, 0.05, 0.5, 2.0, 50.0]


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def random_problem(seed: int, num_classes: int = 23) -> tuple[Tensor, Tensor]:
    """Return scores and a long-tailed distribution with classes of probability 0; every second has many ties."""
    rng = np.random.default_rng(seed)
    probs = rng.permutation(np.arange(1, num_classes + 1) ** -1.6)
    probs[rng.choice(num_classes, 3, replace=False)] = 0.0
    scores = rng.gamma(2.0, 1.0, num_classes)
    if seed % 2:
        scores = np.round(scores)
    return torch.from_numpy(scores), torch.from_numpy(probs / probs.sum())


def value(q: Tensor, scores: Tensor) -> float:
    return float((q * scores).sum())


def is_distribution(q: Tensor, probs: Tensor) -> None:
    assert float(q.sum()) == pytest.approx(1.0, abs=1e-12)
    assert (q >= 0).all()
    assert (q[probs == 0] == 0).all()


def divergence(q: Tensor, probs: Tensor, kind: str) -> float:
    q, probs = q[probs > 0], probs[probs > 0]
    if kind == "kl":
        return float(torch.special.xlogy(q, q / probs).sum())
    return float(((q - probs) ** 2 / probs).sum() / 2)


@pytest.mark.parametrize("eps", EPSILONS)
@pytest.mark.parametrize("seed", range(6))
def test_cvar_solves_the_linear_programme_and_meets_the_dual(seed, eps):
    scores, probs = random_problem(seed)
    bounds = [(0.0, float(p) / eps) for p in probs]
    primal = linprog(-scores.numpy(), A_eq=np.ones((1, len(scores))), b_eq=[1.0], bounds=bounds)
    dual = min(float(eta + (probs * (scores - eta).clamp(min=0)).sum() / eps) for eta in scores)
    q = worst_cvar(scores, probs, eps)
    assert primal.status == 0
    assert value(q, scores) == pytest.approx(-primal.fun, abs=1e-9)
    assert value(q, scores) == pytest.approx(dual, abs=1e-9)
    is_distribution(q, probs)
    assert (q <= probs / eps + 1e-15).all()


def test_cvar_by_hand():
    scores, probs = vector(1.0, 3.0, 2.0, 9.0), vector(0.5, 0.1, 0.4, 0.0)
    # caps 1, .2, .8: class 1 takes .2, class 2 the other .8; class 3 has no data.
    torch.testing.assert_close(worst_cvar(scores, probs, 0.5), vector(0.0, 0.2, 0.8, 0.0))
    # caps .625, .125, .5: .125, then .5, then the .375 that is left.
    torch.testing.assert_close(worst_cvar(scores, probs, 0.8), vector(0.375, 0.125, 0.5, 0.0))
    # Equal scores go to the lower class id.
    torch.testing.assert_close(worst_cvar(torch.ones(4), vector(0.25, 0.25, 0.25, 0.25), 0.5), vector(0.5, 0.5, 0, 0))


def test_cvar_lies_between_mean_and_maximum_and_falls_with_eps():
    for seed in range(20):
        scores, probs = random_problem(seed)
        values = [value(worst_cvar(scores, probs, eps), scores) for eps in EPSILONS]
        assert (np.diff(values) >= -1e-12).all()
        mean, worst = float((probs * scores).sum()), float(scores[probs > 0].max())
        assert values[0] == mean
        assert values[-1] == pytest.approx(worst, abs=1e-12)  # 1e-4 is below every probability here


@pytest.mark.parametrize(
    "worst",
    [
        lambda s, p: worst_cvar(s, p, 0.3),
        lambda s, p: worst_smoothed_cvar(s, p, 0.3, 0.4),
        lambda s, p: worst_kl(s, p, 0.3),
        lambda s, p: worst_chi2(s, p, 0.3),
    ],
)
def test_relabelling_classes_or_shifting_scores_changes_nothing_else(worst):
    scores, probs = random_problem(8)
    order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(worst(scores[order], probs[order]), worst(scores, probs)[order], atol=1e-12, rtol=0)
    torch.testing.assert_close(worst(scores + 100.0, probs), worst(scores, probs), atol=1e-9, rtol=0)


def test_sets_of_p_alone_return_p_itself():
    scores, probs = random_problem(3)
    for q in (
        worst_cvar(scores, probs, 1.0),
        worst_smoothed_cvar(scores, probs, 1.0, 0.3),
        worst_kl(scores, probs, 0.0),
        worst_chi2(scores, probs, 0.0),
    ):
        assert torch.equal(q, probs)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("eps", [0.8, 0.2, 1e-3])
def test_class_dependent_caps_solve_their_linear_programme(eps, exponent):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        counts = np.append(rng.permutation((1e5 * np.arange(1, 20) ** -2.0).astype(int)), 0)
        probs, scores = torch.from_numpy(counts / counts.sum()), torch.from_numpy(rng.gamma(2.0, 1.0, 20))
        own = [1 - (1 - eps) * (counts[counts > 0].min() / n) ** exponent if n else 1.0 for n in counts]
        bounds = [(0.0, float(p) / e) for p, e in zip(probs, own, strict=True)]
        primal = linprog(-scores.numpy(), A_eq=np.ones((1, 20)), b_eq=[1.0], bounds=bounds)
        q = worst_cvar(scores, probs, class_eps(torch.from_numpy(counts).double(), eps, exponent))
        assert value(q, scores) == pytest.approx(-primal.fun, abs=1e-9)
        is_distribution(q, probs)


def test_class_eps_by_hand():
    eps_G = class_eps(vector(100.0, 4.0, 0.0), 0.5, 0.5)
    torch.testing.assert_close(eps_G[:2], vector(0.9, 0.5))  # 1 - .5 sqrt(4 / 100); the rarest has eps itself


def smoothed_value(q: np.ndarray, scores: np.ndarray, probs: np.ndarray, temperature: float) -> float:
    kl = np.sum(np.where(q > 0, q * np.log(np.maximum(q, 1e-300) / probs), 0.0))
    return float(q @ scores - temperature * kl)


@pytest.mark.parametrize("temperature", [0.05, 0.4, 3.0])
@pytest.mark.parametrize("eps", [0.8, 0.3, 0.02])
@pytest.mark.parametrize("capped", [False, True])
def test_smoothed_cvar_beats_a_generic_solver_on_its_own_objective(eps, temperature, capped):
    for seed in range(3):
        scores, probs = random_problem(seed, 9)
        counts = (probs * 1e5).round()
        eps_G = class_eps(counts, eps, 0.5) if capped else torch.full_like(probs, eps)
        q = worst_smoothed_cvar(scores, probs, eps_G if capped else eps, temperature)
        is_distribution(q, probs)
        assert (q <= probs / eps_G * (1 + 1e-12)).all()
        known = (probs > 0).numpy()
        s, p, caps = scores.numpy()[known], probs.numpy()[known], (probs / eps_G).numpy()[known]
        generic = minimize(
            lambda x, s=s, p=p: -smoothed_value(x, s, p, temperature),
            p,
            method="SLSQP",
            bounds=[(1e-12, c) for c in caps],
            constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
            options={"maxiter": 500, "ftol": 1e-12},
        )
        assert smoothed_value(q.numpy()[known], s, p, temperature) == pytest.approx(-generic.fun, abs=1e-5)


@pytest.mark.parametrize("eps", [0.7, 0.1])
def test_smoothed_cvar_has_its_defining_form_by_root_finding(eps):
    for seed in range(8):
        scores, probs = random_problem(seed)
        low, high = -100.0, 100.0
        for _ in range(200):  # bisection on eta
            eta = (low + high) / 2
            mass = float((probs * ((scores - eta) / 0.4).exp().clamp(max=1 / eps)).sum())
            low, high = (eta, high) if mass > 1 else (low, eta)
        expected = probs * ((scores - low) / 0.4).exp().clamp(max=1 / eps)
        torch.testing.assert_close(worst_smoothed_cvar(scores, probs, eps, 0.4), expected, atol=1e-10, rtol=0)


def test_smoothed_cvar_runs_from_cvar_to_plain():
    for seed in range(0, 8, 2):  # without ties, where CVaR has one answer
        scores, probs = random_problem(seed)
        cold, hot = (worst_smoothed_cvar(scores, probs, 0.4, t) for t in (1e-5, 1e9))
        torch.testing.assert_close(cold, worst_cvar(scores, probs, 0.4), atol=1e-6, rtol=0)
        torch.testing.assert_close(hot, probs, atol=1e-8, rtol=0)


@pytest.mark.parametrize("rho", RADII)
@pytest.mark.parametrize("seed", range(6))
def test_kl_meets_its_dual_and_lies_on_the_sphere(seed, rho):
    scores, probs = random_problem(seed)
    s, p = scores[probs > 0].numpy(), probs[probs > 0].numpy()

    def dual(log_tau: float) -> float:
        tau = math.exp(log_tau)
        return tau * rho + tau * math.log(np.sum(p * np.exp((s - s.max()) / tau))) + s.max()

    least = minimize_scalar(dual, bounds=(-12, 12), method="bounded", options={"xatol": 1e-10, "maxiter": 2_000})
    q = worst_kl(scores, probs, rho)
    is_distribution(q, probs)
    assert value(q, scores) == pytest.approx(min(least.fun, s.max()), abs=1e-6)  # pyright: ignore[reportAttributeAccessIssue]
    reach = -math.log(p[s == s.max()].sum())
    assert divergence(q, probs, "kl") == pytest.approx(min(rho, reach), rel=1e-6)


@pytest.mark.parametrize("rho", RADII)
@pytest.mark.parametrize("seed", range(6))
def test_chi2_meets_its_dual_and_lies_on_the_sphere(seed, rho):
    scores, probs = random_problem(seed)
    s, p = scores[probs > 0].numpy(), probs[probs > 0].numpy()

    def dual(eta: float) -> float:
        return eta + math.sqrt(1 + 2 * rho) * math.sqrt(np.sum(p * np.maximum(s - eta, 0) ** 2))

    starts = s.max() - np.geomspace(1e-9, 1e6, 40)
    brackets = [(a, b) for a, b in zip(starts[1:], starts[:-1], strict=True)]
    values = [minimize_scalar(dual, bounds=b, method="bounded", options={"xatol": 1e-12}).fun for b in brackets]  # pyright: ignore[reportAttributeAccessIssue]
    q = worst_chi2(scores, probs, rho)
    is_distribution(q, probs)
    assert value(q, scores) == pytest.approx(min(*values, s.max()), abs=1e-7)
    reach = (1 / p[s == s.max()].sum() - 1) / 2
    assert divergence(q, probs, "chi2") == pytest.approx(min(rho, reach), rel=1e-5)


@pytest.mark.parametrize(("worst", "kind"), [(worst_kl, "kl"), (worst_chi2, "chi2")])
def test_balls_beat_a_generic_solver(worst, kind):
    for seed in range(4):
        scores, probs = random_problem(seed, 8)
        known = (probs > 0).numpy()
        s, p = scores.numpy()[known], probs[probs > 0]
        generic = minimize(
            lambda x, s=s: -float(x @ s),
            p.numpy(),
            method="SLSQP",
            bounds=[(1e-12, 1)] * len(s),
            constraints=[
                {"type": "eq", "fun": lambda x: x.sum() - 1},
                {"type": "ineq", "fun": lambda x, p=p: 0.2 - divergence(torch.from_numpy(x), p, kind)},
            ],
            options={"maxiter": 500, "ftol": 1e-13},
        )
        assert value(worst(scores, probs, 0.2), scores) == pytest.approx(-generic.fun, abs=1e-5)


def test_balls_by_hand():
    # Two even classes: q = (1 + d, 1 - d) / 2 has chi-square distance d^2 / 2, so rho = .08 gives d = .4.
    torch.testing.assert_close(worst_chi2(vector(5.0, 1.0), vector(0.5, 0.5), 0.08), vector(0.7, 0.3))
    # KL of (.8, .2) to even is log 2 + .8 log .8 + .2 log .2.
    rho = math.log(2) + 0.8 * math.log(0.8) + 0.2 * math.log(0.2)
    torch.testing.assert_close(worst_kl(vector(5.0, 1.0), vector(0.5, 0.5), rho), vector(0.8, 0.2))
    # A ball that holds the worst class gives that class, and ties by p.
    for worst in (worst_kl, worst_chi2):
        torch.testing.assert_close(
            worst(vector(1.0, 7.0, 7.0, 9.0), vector(0.6, 0.3, 0.1, 0.0), 100.0), vector(0.0, 0.75, 0.25, 0.0)
        )
        torch.testing.assert_close(worst(torch.ones(2).double(), vector(0.5, 0.5), 1.0), vector(0.5, 0.5))


def test_small_balls_add_a_multiple_of_the_standard_deviation():
    """Both are mean + sqrt(2 rho variance) to first order (Duchi and Namkoong 2019)."""
    scores, probs = random_problem(2)
    mean = float((probs * scores).sum())
    spread = math.sqrt(2 * 1e-6 * float((probs * (scores - mean) ** 2).sum()))
    for worst in (worst_kl, worst_chi2):
        assert value(worst(scores, probs, 1e-6), scores) - mean == pytest.approx(spread, rel=1e-2)
