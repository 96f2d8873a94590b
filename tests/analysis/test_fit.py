"""Both methods: known parameters, published figures on real tables, and the silent failures of scipy's curve_fit."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import curve_fit

from analysis.fit import fit
from analysis.forms import Coupled, Farseer, Form, Points, Repeats, Separable, Tied
from analysis.forms.points import unit_points
from analysis.huber import huber_objective
from analysis.refit import METHODS, Method
from analysis.soundness import stalled


def law(x: np.ndarray, C_N: float, alpha: float, C_D: float, beta: float, L0: float) -> np.ndarray:
    """Return the law as a user would hand it to scipy."""
    return C_N * x[0] ** -alpha + C_D * x[1] ** -beta + L0


@pytest.mark.parametrize("method", METHODS)
def test_recovers_the_law_of_noise_free_cells(method: Method, grid: Callable[..., Points], truth: dict[str, float]):
    found = fit(Separable(), grid(), method)
    np.testing.assert_allclose(found.theta, list(truth.values()), rtol=1e-5)
    assert found.r2 == pytest.approx(1)
    assert found.failures == ()


@pytest.mark.parametrize("method", METHODS)
def test_units_do_not_matter(method: Method, grid: Callable[..., Points]):
    points = grid(0.002)
    small = fit(Separable(), points, method)
    large = fit(Separable(), unit_points(points, (1e-6, 1e-9)), method)
    np.testing.assert_allclose(large.theta[[1, 3, 4]], small.theta[[1, 3, 4]], rtol=1e-4)
    np.testing.assert_allclose(large.theta[0], small.theta[0] * 1e6 ** small.theta[1], rtol=1e-2)


def test_curve_fit_agrees_with_scipy_from_a_good_start(grid: Callable[..., Points], truth: dict[str, float]):
    points = grid(0.002)
    found = fit(Separable(), points, "curve_fit")
    theirs, covariance = curve_fit(law, np.stack(points[:2]), points.loss, p0=list(truth.values()), maxfev=20_000)
    np.testing.assert_allclose(found.theta, theirs, rtol=1e-4)
    np.testing.assert_allclose(list(found.stderr.values()), np.sqrt(np.diag(covariance)), rtol=1e-3)


def test_huber_objective_by_brute_force(grid: Callable[..., Points], truth: dict[str, float]):
    points, theta = grid(0.002), np.array(list(truth.values()))
    total = 0.0
    for num_params, num_events, loss in zip(*points[:3], strict=True):
        miss = abs(math.log(loss / law(np.array([num_params, num_events]), *theta)))
        total += miss**2 / 2 if miss <= 1e-3 else 1e-3 * (miss - 5e-4)
    assert huber_objective(law(np.stack(points[:2]), *theta), points.loss) == pytest.approx(total, rel=1e-12)
    assert fit(Separable(), points, "huber").objective <= total


def test_huber_stands_an_outlier_that_moves_least_squares(grid: Callable[..., Points], truth: dict[str, float]):
    points = grid(0.0005)
    points.loss[-1] += 0.3
    assert abs(fit(Separable(), points, "huber").parameters["L0"] - truth["L0"]) < 0.005
    assert abs(fit(Separable(), points, "curve_fit").parameters["L0"] - truth["L0"]) > 0.02


@pytest.mark.parametrize("axis", [0, 1])
def test_a_loss_that_ignores_an_axis_is_at_its_bound(axis: int, grid: Callable[..., Points]):
    points = grid()
    loss = 5 * points[1 - axis] ** -0.4 + 1
    found = fit(Separable(), points._replace(loss=loss), "curve_fit")
    name = ("C_N", "C_D")[axis]
    assert any(failure.startswith((name, ("alpha", "beta")[axis])) for failure in found.failures), found.failures


def test_no_floor_is_a_failure(grid: Callable[..., Points]):
    points = grid()
    rising = points._replace(loss=3 * points.num_params**-0.1 + 3 * points.num_events**-0.1 - 0.2)
    assert any("L0 is at its bound 0" in failure for failure in fit(Separable(), rising, "curve_fit").failures)


def test_a_point_on_a_slope_is_stalled_and_the_optimum_is_not(grid: Callable[..., Points]):
    form, points = Separable(), grid(0.002)
    units = form.units(points)
    scaled, ones = unit_points(points, units), np.ones(5)
    assert "handed its start back" in stalled(form, scaled, ones, ones.copy())[0]
    optimum = form.rescale(fit(form, points, "curve_fit").theta, *units)
    assert stalled(form, scaled, optimum, optimum) == ()
    assert "stopped before an optimum" in stalled(form, scaled, ones, optimum + 0.01)[0]


@pytest.mark.parametrize(
    ("form", "theta"),
    [
        (Tied(), (12.0, 0.4, 30.0, 1.5)),
        (Coupled(), (400.0, 0.6, 9000.0, 0.7, 1.5, 0.5)),
        (Repeats(), (40.0, 0.4, 90.0, 1.5, 4.0, 10.0)),
    ],
    ids=lambda value: value.name if isinstance(value, Form) else "",
)
@pytest.mark.parametrize("method", METHODS)
def test_every_form_recovers_its_own_law(method: Method, form: Form, theta: tuple[float, ...], grid):
    points = grid()._replace(num_epochs=np.tile([1.0, 3.0, 9.0], 12))
    found = fit(form, points._replace(loss=form.predict(np.array(theta), points)), method)
    np.testing.assert_allclose(found.theta, theta, rtol=1e-3)
    assert found.failures == ()


@pytest.mark.parametrize("method", METHODS)
def test_farseer_predicts_its_own_law(method: Method, grid: Callable[..., Points]):
    # Its nine parameters trade off against each other; what must come back is the law.
    theta = np.array([0.2, 3.0, -0.1, 1.5, 20.0, -0.2, 0.5, -1.0, 0.03])
    points = grid()
    points = points._replace(loss=Farseer().predict(theta, points))
    np.testing.assert_allclose(fit(Farseer(), points, method).predict(points), points.loss, rtol=2e-5)


def test_noisy_cells_count_less_where_their_errors_are_known(grid: Callable[..., Points], truth: dict[str, float]):
    points, noisy = grid(), np.arange(36) % 3 == 0
    points.loss[noisy] += 0.05 * np.random.default_rng(0).standard_normal(12)
    weighted = points._replace(weight=np.where(noisy, 1e-3, 1.0))
    blind, told = (fit(Separable(), cells, "curve_fit").parameters["L0"] for cells in (points, weighted))
    assert abs(told - truth["L0"]) < 1e-4 < 1e-3 < abs(blind - truth["L0"])


def test_scipy_giving_up_is_a_failure_of_the_fit(grid: Callable[..., Points], monkeypatch: pytest.MonkeyPatch):
    def give_up(*_: object, **__: object) -> None:
        raise RuntimeError("Optimal parameters not found")

    monkeypatch.setattr("analysis.fit.curve_fit", give_up)
    failures = fit(Separable(), grid(0.002), "curve_fit").failures
    assert failures[0] == "curve_fit gave up: Optimal parameters not found."
    assert "infinite or singular" in failures[1]


def test_an_infinite_covariance_is_a_failure(
    grid: Callable[..., Points], truth: dict[str, float], monkeypatch: pytest.MonkeyPatch
):
    form = Separable()
    theta = form.rescale(np.array(list(truth.values())), *form.units(grid()))
    monkeypatch.setattr("analysis.fit.curve_fit", lambda *_, **__: (theta, np.full((5, 5), np.inf)))
    assert fit(Separable(), grid(), "curve_fit").failures == (
        "The parameters' covariance is infinite or singular: the cells do not determine all of them.",
    )
