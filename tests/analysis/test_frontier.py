"""The optimal split of a budget: by hand, against a search along its line, as published; budgets and the valley."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from analysis.bootstrap import Bootstrap
from analysis.budget import Flops, GpuHours, Money
from analysis.calibration import Calibration, Spread
from analysis.fit import Fit
from analysis.forms import Coupled, Form, Points, Repeats, Separable, Tied
from analysis.frontier import best_log_params, default_budgets, find_optimum, line

CELLS = Points(np.array([1.0, 5.0]), np.array([1.0, 40.0]), np.ones(2))
SYMMETRIC = np.array([2, 0.5, 2, 0.5, 1.0])


def law(form: Form, theta: np.ndarray) -> Fit:
    """Return a law with given parameters."""
    size = len(theta)
    return Fit(
        form=form,
        method="curve_fit",
        theta=theta,
        covariance=np.eye(size),
        r2=1.0,
        mean_error=0.0,
        n_used=9,
        objective=0.0,
        failures=(),
    )


def spread(draws: np.ndarray, factor: float = 1.0, noise: float = 0.0) -> Spread:
    """Return draws of the separable law with a calibration factor."""
    told = Calibration(factor=factor, nominal=0.9, raw_coverage=0.5, coverage=0.9, num_held_out=20)
    drawn = Bootstrap(form=Separable(), draws=draws, level=0.9, num_clusters=2, seed=0, noise=noise)
    return Spread(draws=drawn, calibration=told)


def test_symmetric_law_by_hand():
    # Equal terms: N* = D* = sqrt(C / k) = sqrt(600 / 6) = 10, the loss 4 / sqrt(10) + 1.
    best = find_optimum(law(Separable(), SYMMETRIC), None, CELLS, Flops(600.0), 6.0)
    assert (best.num_params, best.num_events, best.ratio) == pytest.approx((10, 10, 1), rel=1e-4)
    assert best.loss == pytest.approx(4 / np.sqrt(10) + 1)
    assert best.extrapolation == pytest.approx(10 / 5, rel=1e-4)


def test_gophers_budget_as_published():
    # Muennighoff et al. 2023, parametric_fit.ipynb: 5.76e23 FLOPs, 70.0e9 parameters and 1.372e12 tokens.
    theta = np.array([np.exp(6.255414), 0.3526596, np.exp(7.3049974), np.exp(0.6254804)])
    cells = Points(np.array([1e8, 1e10]), np.array([1e9, 1e12]), np.ones(2))
    best = find_optimum(law(Tied(), theta), None, cells, Flops(5.76e23), 6.0)
    assert best.num_params == pytest.approx(69962173313.52132, rel=1e-4)
    assert best.num_events == pytest.approx(1372170066384.2363, rel=1e-4)


@pytest.mark.parametrize(
    ("form", "theta"),
    [(Separable(), (12.0, 0.5, 350.0, 0.69, 1.49)), (Coupled(), (400.0, 0.6, 9000.0, 0.7, 1.5, 0.5))],
    ids=("separable", "coupled"),
)
def test_the_optimum_is_the_minimum_on_the_line(form: Form, theta: tuple[float, ...], grid: Callable[..., Points]):
    budget = 1e12 / 6.4

    def loss(log_params: float) -> float:
        num_params = np.exp(log_params)
        return float(form.value(np.array(theta), np.array([num_params]), np.array([budget / num_params]))[0])

    found: Any = minimize_scalar(loss, bracket=(5, 20), tol=1e-12)
    best = find_optimum(law(form, np.array(theta)), None, grid(), Flops(1e12), 6.4)
    assert best.num_params == pytest.approx(np.exp(found.x), rel=1e-3)
    assert best.num_params * best.num_events == pytest.approx(budget)


def test_intervals_are_those_of_the_draws_and_widen_with_the_factor():
    # Draws with C_N four times as large move N* of a law with exponents 0.5 from 10 to 40 and D* from 10 to 2.5.
    draws = np.array([[[2, 0.5, 2, 0.5, 1.0]] * 50 + [[8, 0.5, 2, 0.5, 1.0]] * 50])
    best = find_optimum(law(Separable(), SYMMETRIC), spread(draws), CELLS, Flops(600.0), 6.0)
    assert best.num_params_interval == pytest.approx((10, 40), rel=1e-3)
    assert best.ratio_interval == pytest.approx((2.5 / 40, 1), rel=1e-3)
    wide = find_optimum(law(Separable(), SYMMETRIC), spread(draws, factor=2.0), CELLS, Flops(600.0), 6.0)
    assert wide.num_params_interval == pytest.approx((10, 160), rel=1e-3)


def test_the_interval_of_the_law_is_that_of_its_draws_and_that_of_one_run_adds_its_noise():
    # The law does not vary, so what is left is 1.645 standard deviations of 2 % on each side.
    draws = np.tile(SYMMETRIC, (1, 50, 1))
    best = find_optimum(law(Separable(), SYMMETRIC), spread(draws, noise=0.02), CELLS, Flops(600.0), 6.0)
    half = np.exp(1.6449 * 0.02)
    assert best.run_interval == pytest.approx((best.loss / half, best.loss * half), rel=1e-5)
    assert best.loss_interval == pytest.approx((best.loss, best.loss), rel=1e-9)
    # With L0 from 1.0 in one half of the draws to 1.2 in the other the law's loss moves by 0.2, whatever a run does.
    draws = np.array([[[2, 0.5, 2, 0.5, 1.0]] * 50 + [[2, 0.5, 2, 0.5, 1.2]] * 50])
    best = find_optimum(law(Separable(), SYMMETRIC), spread(draws, noise=0.02), CELLS, Flops(600.0), 6.0)
    assert best.loss_interval == pytest.approx((best.loss, best.loss + 0.2), rel=1e-6)


def test_a_factor_of_two_off_by_hand():
    # At N = 20, D = 5: 2 / sqrt(20) + 2 / sqrt(5) + 1 = 2.34164, against 2.26491 at best; the same at N = 5, D = 20.
    # The best split reaches 2.34164 with 4 (C/6)^-1/4 = 1.34164, C = 474.1: 21 % of 600 is wasted.
    best = find_optimum(law(Separable(), SYMMETRIC), None, CELLS, Flops(600.0), 6.0)
    assert (best.half, best.double) == pytest.approx((2.34164 / 2.26491 - 1,) * 2, rel=1e-3)
    assert (best.half_waste, best.double_waste) == pytest.approx((0.2099, 0.2099), abs=2e-3)


def test_draws_without_an_optimum_are_left_out_and_counted():
    draws = np.array([[[2, 0.5, 2, 0.5, 1.0]] * 9 + [[0, 0.5, 2, 0.5, 1.0]]])
    best = find_optimum(law(Separable(), SYMMETRIC), spread(draws), CELLS, Flops(600.0), 6.0)
    assert best.num_params_interval == pytest.approx((10, 10), rel=1e-4)
    assert best.no_optimum == pytest.approx(0.1)


def test_no_interior_optimum_is_nan():
    theta = np.array([0, 0.5, 2, 0.5, 1.0])
    best = find_optimum(law(Separable(), theta), None, CELLS, Flops(600.0), 6.0)
    assert np.isnan([best.num_params, best.num_events, best.loss]).all()


def test_few_unique_events_favour_parameters():
    theta = np.array([20.0, 0.5, 20.0, 1.0, 1000.0, 0.5])
    fit, cells = law(Repeats(), theta), Points(np.array([10.0, 1e3]), np.array([10.0, 1e3]), np.ones(2))
    plenty, few = (np.exp(best_log_params(fit.form, theta, line(cells, 6e5, 6.0, u))) for u in (np.inf, 30.0))
    assert plenty == pytest.approx(np.sqrt(1e5), rel=1e-3)
    assert few > 2 * plenty


def test_budgets_in_hours_and_money():
    # 10 hours at 1e14 FLOP/s are 3.6e18 FLOPs; 25 of money at 2.50 an hour buys those 10 hours.
    hours = GpuHours(hours=10, flops_per_second=1e14)
    money = Money(amount=25, price_per_gpu_hour=2.5, flops_per_second=1e14)
    assert hours.flops == money.flops == pytest.approx(3.6e18)
    assert "GPU-hours" in hours.words
    assert "money" in money.words


def test_default_budgets_reach_a_hundred_times_the_cells(grid: Callable[..., Points]):
    budgets = [budget.flops for budget in default_budgets(grid(), 6.0)]
    assert budgets[1:] == pytest.approx([6 * 237_000 * 800_000 * factor for factor in (1, 10, 100)])
    assert 6 * 7_500 * 25_000 < budgets[0] < budgets[1]
