"""Draws of the law: the batched refit against scipy, leverage by hand, and the coverage of the intervals."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import least_squares, minimize

from analysis.bootstrap import Bootstrap, bootstrap, inflate
from analysis.fit import METHODS, Method, fit, scale
from analysis.forms import Parameters, Points, rescale, separable
from analysis.huber import huber_objective
from analysis.refit import refit


def test_inflate_by_hand():
    # A mean of four cells in two trunks: H = 1/4 everywhere. In a trunk the common part of the residuals keeps
    # 1 - 2/4 of itself, so it doubles, and the difference keeps all: (1, 0) = (.5, .5) + (.5, -.5) -> (1.5, .5).
    residual, jacobian = np.array([1.0, 0.0, -0.5, -0.5]), np.ones((4, 1))
    np.testing.assert_allclose(inflate(residual, jacobian, np.array([0, 0, 1, 1])), [1.5, 0.5, -1.0, -1.0])


def test_inflate_by_row_is_the_jackknife():
    # A mean of three: leverage 1/3, so every residual grows by 3/2.
    residual = np.array([1.0, 0.0, -1.0])
    np.testing.assert_allclose(inflate(residual, np.ones((3, 1)), np.arange(3)), 1.5 * residual)


def test_refit_reaches_the_least_squares_optimum_of_every_draw(grid: Callable[..., Points], truth: Parameters):
    scaled, units = scale(grid())
    losses = np.stack([grid(0.003, seed).loss for seed in range(5)])
    for theta, loss in zip(refit(scaled, losses, rescale(np.array(truth), *units), "curve_fit"), losses, strict=True):
        theirs = least_squares(lambda x, y=loss: separable(x, *scaled[:2]) - y, theta * 1.1, xtol=1e-14, ftol=1e-14)
        assert ((separable(theta, *scaled[:2]) - loss) ** 2).sum() <= 2 * theirs.cost * (1 + 1e-5)


def test_refit_reaches_the_huber_optimum_of_every_draw(grid: Callable[..., Points], truth: Parameters):
    scaled, units = scale(grid())
    losses = np.stack([grid(0.003, seed).loss for seed in range(3)])
    for theta, loss in zip(refit(scaled, losses, rescale(np.array(truth), *units), "huber"), losses, strict=True):
        points = scaled._replace(loss=loss)
        theirs = minimize(
            lambda x, points=points: huber_objective(points, np.abs(x)) * 1e6,
            theta,
            method="Nelder-Mead",
            options={"maxiter": 5000, "maxfev": 5000, "fatol": 1e-9, "xatol": 1e-9},
        )
        assert huber_objective(points, theta) * 1e6 <= theirs.fun * (1 + 1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_intervals_hold_the_truth_and_repeat_by_seed(method: Method, grid: Callable[..., Points], truth: Parameters):
    points = grid(0.002)
    trunk = np.unique(points.num_params, return_inverse=True)[1]
    found = fit(points, method)
    draws = bootstrap(points, trunk, found, num_draws=300, seed=1)
    for name, (low, high) in draws.intervals().items():
        assert low < getattr(truth, name) < high, name
    assert draws.num_clusters == 6
    np.testing.assert_array_equal(draws.draws, bootstrap(points, trunk, found, num_draws=300, seed=1).draws)
    assert not np.array_equal(draws.draws, bootstrap(points, trunk, found, num_draws=300, seed=2).draws)


def test_noise_shared_within_trunks_widens_the_interval_of_alpha(grid: Callable[..., Points]):
    points = grid(0.0005)
    trunk = np.unique(points.num_params, return_inverse=True)[1]
    shared = 0.004 * np.array([1, -1, 1, -1, 1, -1])[trunk]
    points = points._replace(loss=points.loss + shared)
    found = fit(points, "curve_fit")
    widths = []
    for clusters in (trunk, np.arange(len(trunk))):
        low, high = bootstrap(points, clusters, found, num_draws=300, seed=0).intervals()["alpha"]
        widths.append(high - low)
    assert widths[0] > 2 * widths[1]


def test_the_wider_scheme_gives_the_interval():
    # 101 draws 0 .. 100 and 50 .. 60: the 90 % intervals are 5 .. 95 and 50.5 .. 59.5.
    narrow, wide = np.linspace(50, 60, 101), np.linspace(0, 100, 101)
    draws = Bootstrap(draws=np.zeros((2, 101, 5)), level=0.9, num_clusters=6, seed=0)
    assert draws.interval(np.stack([narrow, wide])) == pytest.approx((5, 95))
    assert draws.interval(np.stack([narrow, np.full(101, np.nan)])[:1]) == pytest.approx((50.5, 59.5))


@pytest.mark.slow
def test_coverage_of_the_intervals(grid: Callable[..., Points], truth: Parameters):
    # Half of the variance shared within trunks. Of 60 nominal 95 % intervals at least 51 hold with probability 0.999.
    rng = np.random.default_rng(0)
    clean = grid()
    trunk = np.unique(clean.num_params, return_inverse=True)[1]
    covered = np.zeros(3)
    for _ in range(60):
        noise = 0.003 * (rng.standard_normal(6)[trunk] + rng.standard_normal(36))
        points = clean._replace(loss=clean.loss + noise)
        intervals = bootstrap(points, trunk, fit(points, "curve_fit"), num_draws=199, seed=0).intervals()
        for at, name in enumerate(("alpha", "beta", "L0")):
            covered[at] += intervals[name][0] <= getattr(truth, name) <= intervals[name][1]
    assert (covered >= 51).all(), covered
