"""Both methods: known parameters, published figures on real tables, and the silent failures of scipy's curve_fit."""

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import OptimizeWarning, curve_fit

from analysis.fit import METHODS, Method, fit, scale, stalled
from analysis.forms import Parameters, Points
from analysis.huber import huber_objective


def law(x: np.ndarray, C_N: float, alpha: float, C_D: float, beta: float, L0: float) -> np.ndarray:
    """Return the law as a user would hand it to scipy."""
    return C_N * x[0] ** -alpha + C_D * x[1] ** -beta + L0


@pytest.mark.parametrize("method", METHODS)
def test_recovers_the_law_of_noise_free_cells(method: Method, grid: Callable[..., Points], truth: Parameters):
    found = fit(grid(), method)
    np.testing.assert_allclose(found.parameters, truth, rtol=1e-5)
    assert found.r2 == pytest.approx(1)
    assert found.failures == ()


@pytest.mark.parametrize("method", METHODS)
def test_units_do_not_matter(method: Method, grid: Callable[..., Points]):
    points = grid(0.002)
    small = fit(points, method).parameters
    large = fit(Points(1e6 * points.num_params, 1e9 * points.num_events, points.loss), method).parameters
    np.testing.assert_allclose([large.alpha, large.beta, large.L0], [small.alpha, small.beta, small.L0], rtol=1e-4)
    np.testing.assert_allclose(large.C_N, small.C_N * 1e6**small.alpha, rtol=1e-2)


def test_curve_fit_agrees_with_scipy_from_a_good_start(grid: Callable[..., Points], truth: Parameters):
    points = grid(0.002)
    found = fit(points, "curve_fit")
    theirs, covariance = curve_fit(law, np.stack(points[:2]), points.loss, p0=truth, maxfev=20_000)
    np.testing.assert_allclose(found.parameters, theirs, rtol=1e-4)
    np.testing.assert_allclose(found.stderr, np.sqrt(np.diag(covariance)), rtol=1e-3)


def test_huber_objective_by_brute_force(grid: Callable[..., Points], truth: Parameters):
    points, theta = grid(0.002), np.array(truth)
    total = 0.0
    for num_params, num_events, loss in zip(*points, strict=True):
        miss = abs(math.log(loss / law(np.array([num_params, num_events]), *theta)))
        total += miss**2 / 2 if miss <= 1e-3 else 1e-3 * (miss - 5e-4)
    assert huber_objective(points, theta) == pytest.approx(total, rel=1e-12)
    assert fit(points, "huber").objective <= total


def test_huber_stands_an_outlier_that_moves_least_squares(grid: Callable[..., Points], truth: Parameters):
    points = grid(0.0005)
    points.loss[-1] += 0.3
    assert abs(fit(points, "huber").parameters.L0 - truth.L0) < 0.005
    assert abs(fit(points, "curve_fit").parameters.L0 - truth.L0) > 0.02


@pytest.mark.parametrize("axis", [0, 1])
def test_a_loss_that_ignores_an_axis_is_at_its_bound(axis: int, grid: Callable[..., Points]):
    points = grid()
    loss = 5 * points[1 - axis] ** -0.4 + 1
    found = fit(points._replace(loss=loss), "curve_fit")
    name = ("C_N", "C_D")[axis]
    assert any(failure.startswith((name, ("alpha", "beta")[axis])) for failure in found.failures), found.failures


def test_no_floor_is_a_failure(grid: Callable[..., Points]):
    points = grid()
    rising = points._replace(loss=3 * points.num_params**-0.1 + 3 * points.num_events**-0.1 - 0.2)
    assert any("L0 is at its bound 0" in failure for failure in fit(rising, "curve_fit").failures)


def test_a_point_on_a_slope_is_stalled_and_the_optimum_is_not(grid: Callable[..., Points], truth: Parameters):
    points = grid(0.002)
    scaled, units = scale(points)
    ones = np.ones(5)
    assert "handed its start back" in stalled(scaled, ones, ones.copy())[0]
    optimum = np.array(fit(points, "curve_fit").parameters)
    optimum[[0, 2]] *= np.array(units) ** -optimum[[1, 3]]
    assert stalled(scaled, optimum, optimum) == ()
    assert "stopped before an optimum" in stalled(scaled, ones, optimum + 0.01)[0]


def test_scipy_giving_up_is_a_failure_of_the_fit(grid: Callable[..., Points], monkeypatch: pytest.MonkeyPatch):
    def give_up(*_: object, **__: object) -> None:
        raise RuntimeError("Optimal parameters not found")

    monkeypatch.setattr("analysis.fit.curve_fit", give_up)
    failures = fit(grid(0.002), "curve_fit").failures
    assert failures[0] == "curve_fit gave up: Optimal parameters not found."
    assert "infinite or singular" in failures[1]


def test_an_infinite_covariance_is_a_failure(
    grid: Callable[..., Points], truth: Parameters, monkeypatch: pytest.MonkeyPatch
):
    units = scale(grid())[1]
    theta = np.array(truth) * np.array([units[0] ** -truth.alpha, 1, units[1] ** -truth.beta, 1, 1])
    monkeypatch.setattr("analysis.fit.curve_fit", lambda *_, **__: (theta, np.full((5, 5), np.inf)))
    assert fit(grid(), "curve_fit").failures == (
        "The parameters' covariance is infinite or singular: the cells do not determine all five.",
    )


@pytest.mark.real_data
def test_scipys_silent_failure_is_caught_on_the_chinchilla_table(load_points: Callable[..., Points]):
    points = load_points("chinchilla_kyo_takano")
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("ignore", OptimizeWarning)
        theirs = curve_fit(law, np.stack(points[:2]), points.loss)[0]
    assert (theirs == 1).all()
    assert "handed its start back unchanged" in stalled(points, np.ones(5), theirs)[0]
    ours = fit(points, "curve_fit")
    assert ours.failures == ()
    assert np.isfinite(ours.covariance).all()


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("method", "golden"),
    [
        ("huber", (442.2, 0.3426, 1271.8, 0.3420, 1.7839)),
        ("curve_fit", (475.4, 0.3470, 1798.9, 0.3588, 1.8091)),
    ],
)
def test_chinchilla_table(method: Method, golden: tuple[float, ...], load_points: Callable[..., Points]):
    found = fit(load_points("chinchilla_kyo_takano"), method)
    np.testing.assert_allclose(found.parameters, golden, rtol=3e-4)
    assert found.n_used == 234


@pytest.mark.real_data
def test_published_gemstones_fit(load_points: Callable[..., Points]):
    # McLeish et al. 2025, split hot, Huber 1e-3: ln A, alpha, ln B, beta, ln E.
    found = fit(load_points("gemstones", "split", "hot"), "huber").parameters
    logs = [math.log(found.C_N), found.alpha, math.log(found.C_D), found.beta, math.log(found.L0)]
    np.testing.assert_allclose(logs, [5.36134, 0.29287, 15.41599, 0.71287, 0.76226], rtol=5e-4)
