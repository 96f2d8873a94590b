"""The worth of a cell, against variances written out in full and against designs that are known in closed form."""

import numpy as np
import pytest

from analysis import design
from analysis.forms import Coupled, Points, Separable

_PRIOR = 1 / 9
"""Precision of the prior along each direction: three times the spread of the draws."""


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def parts(between: float, within: float) -> design.Components:
    return design.Components(between, within, slope=0.0, typical=1.0)


def in_full(
    rows: np.ndarray, scale: np.ndarray, trunks: list[str], weight: np.ndarray, variances: design.Components
) -> tuple[np.ndarray, np.ndarray]:
    """Return J'WJ and J'WVWJ, (Q, Q) each, from whole matrices."""
    same = np.array([[one == other for other in trunks] for one in trunks])
    V = np.outer(scale, scale) * (variances.between * same + variances.within * np.eye(len(trunks)))
    W = np.diag(weight**2)
    return rows.T @ W @ rows, rows.T @ W @ V @ W @ rows


def variance_in_full(target, typical, rows, scale, trunks, weight, variances) -> float:
    A, B = in_full(rows, scale, trunks, weight, variances)
    prior = _PRIOR * np.eye(len(target))
    lever = np.linalg.solve(A + typical * prior, target)
    return float(lever @ (B + typical**2 * prior) @ lever)


def test_a_cell_more_is_a_refit_with_it(generator: np.random.Generator):
    rows, news = generator.normal(size=(2, 8, 3)), generator.normal(size=(2, 3, 3))
    target, scale = generator.normal(size=(2, 3)), generator.uniform(0.5, 2.0, 8)
    trunks, weight = list("aaabbccc"), generator.uniform(0.5, 1.5, 8)
    of_news, scale_of_news, weight_of_news = ["a", "c", "new"], np.array([1.7, 0.6, 1.2]), np.array([0.7, 1.4, 1.0])
    variances = parts(1.2, 0.8)
    plan = design.start(rows, scale, trunks, weight=weight, parts=variances, target=target)
    typical = 2.0 * (scale**2).mean()
    before = [variance_in_full(target[k], typical, rows[k], scale, trunks, weight, variances) for k in (0, 1)]
    assert plan.variance() == pytest.approx(before)
    ratios = plan.ratios(news, scale_of_news, weight_of_news, of_news)
    for at, trunk in enumerate(of_news):
        after = [
            variance_in_full(
                target[k],
                typical,
                np.vstack([rows[k], news[k, at]]),
                np.append(scale, scale_of_news[at]),
                [*trunks, trunk],
                np.append(weight, weight_of_news[at]),
                variances,
            )
            for k in (0, 1)
        ]
        more = plan.add(news[:, at], scale_of_news[at], weight_of_news[at], trunk)
        assert more.variance() == pytest.approx(after)
        assert ratios[at] == pytest.approx(np.mean(np.divide(after, before)))


def test_cells_of_a_trunk_share_its_noise():
    # The mean of two cells of one trunk, variances 4 between and 1 within: 4 + 1/2. A third of that trunk: 4 + 1/3; of
    # another trunk, by least squares: (2^2 4 + 4 + 3) / 9. The gradients are large, so the prior is nothing.
    one = np.full((1, 1, 1), 1e4)
    two = np.ones(2)
    plan = design.start(one.repeat(2, axis=1), two, ["a", "a"], weight=two, parts=parts(4.0, 1.0), target=one[:, 0])
    assert plan.variance()[0] == pytest.approx(4.5, rel=1e-6)
    ratios = plan.ratios(one.repeat(2, axis=1), two, two, ["a", "b"])
    assert ratios * 4.5 == pytest.approx([4 + 1 / 3, 23 / 9], rel=1e-6)


@pytest.mark.parametrize(("powers", "support"), [((0, 1), (-1.0, 1.0)), ((0, 1, 2), (-1.0, 0.0, 1.0))])
def test_one_after_the_other_they_reach_the_best_extrapolation(powers: tuple[int, ...], support: tuple[float, ...]):
    # Hoel & Levine (1964): the best design for a polynomial's value outside the range lies on Chebyshev's points, with
    # shares in proportion to the absolute Lagrange polynomials there.
    at, outside = np.linspace(-1, 1, 9), 2.0
    rows = 100 * np.stack([at**power for power in powers], axis=-1)[None]
    target = 100 * np.array([[outside**power for power in powers]])
    begun = [0, 4, 8]
    one = np.ones(9)
    plan = design.start(rows[:, begun], one[:3], ["x", "y", "z"], weight=one[:3], parts=parts(0.0, 1.0), target=target)
    counts = np.zeros(len(at))
    for turn in range(300):
        best = int(np.argmin(plan.ratios(rows, one, one, [f"{turn}-{cell}" for cell in range(9)])))
        plan = plan.add(rows[:, best], 1.0, 1.0, f"{turn}-{best}")
        counts[best] += 1
    lagrange = [np.prod([abs(outside - x) / abs(own - x) for x in support if x != own]) for own in support]
    expected = dict(zip(support, np.array(lagrange) / np.sum(lagrange), strict=True))
    assert counts / 300 == pytest.approx([expected.get(x, 0.0) for x in at.tolist()], abs=0.02)


def test_noise_between_and_within_trunks_is_found(generator: np.random.Generator):
    trunk = np.repeat(np.arange(100), 7)
    compute = np.tile([25e3, 5e4, 1e5, 2e5, 4e5, 6e5, 8e5], 100)
    scale = (compute / np.exp(np.log(compute).mean())) ** -0.5
    residual = scale * (0.002 * generator.normal(size=100)[trunk] + 0.003 * generator.normal(size=len(trunk)))
    found = design.estimate_components(residual, np.ones((len(trunk), 1)), [f"t{at}" for at in trunk], compute)
    assert np.sqrt(found.between) == pytest.approx(0.002, rel=0.15)
    assert np.sqrt(found.within) == pytest.approx(0.003, rel=0.05)
    assert found.slope == pytest.approx(1.0, abs=0.1)
    assert found.scale(compute) == pytest.approx(scale, rel=0.1)


def test_a_handful_of_trunks_cannot_rule_their_noise_out():
    # Residuals whose trunk means are all zero: the likelihood is highest at no noise between trunks.
    residual = np.tile([0.01, -0.02, 0.01], 5)
    found = design.estimate_components(
        residual, np.ones((15, 1)), [f"t{at}" for at in np.repeat(np.arange(5), 3)], np.full(15, 1e5)
    )
    assert 0.01 < found.between / (found.between + found.within) < 0.3


@pytest.mark.parametrize(
    ("form", "theta"),
    [(Separable(), (0.05, 0.5, 0.07, 0.7, 1.6)), (Coupled(), (0.05, 0.5, 0.07, 0.7, 1.6, 0.8))],
)
def test_gradients_are_those_of_the_log_loss(form, theta):
    points = Points(np.array([0.2, 1.0, 9.0]), np.array([3.0, 0.1, 1.0]), np.ones(3))
    theta, step = np.array(theta), 1e-6
    for at in range(len(theta)):
        moved = np.eye(len(theta))[at] * step
        slope = np.log(form.predict(theta + moved, points) / form.predict(theta - moved, points)) / (2 * step)
        assert design.gradients(form, theta[None], points)[0, :, at] == pytest.approx(slope, rel=1e-6)


def test_directions_hold_the_spread_of_the_draws(generator: np.random.Generator):
    draws = generator.normal(size=(500, 3)) @ np.array([[1.0, 50.0, 0.0], [0.0, 2.0, 1e-4], [0.0, 0.0, 1e-3]])
    draws = np.insert(draws, 1, 0.25, axis=1)
    directions = design.open_directions(draws)
    assert directions.shape == (4, 3)
    assert not directions[1].any()
    assert directions @ directions.T == pytest.approx(np.cov(draws, rowvar=False, bias=True), rel=1e-6, abs=1e-12)
