"""The optimal split of a budget: by hand, and against a search along the budget's line."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from analysis.bootstrap import Bootstrap
from analysis.forms import Parameters, Points, separable
from analysis.frontier import default_budgets, find_optimum, optimal_split


def test_symmetric_law_by_hand():
    # Equal terms: N* = D* = sqrt(C / k) = sqrt(600 / 6) = 10.
    assert optimal_split(np.array([2, 0.5, 2, 0.5, 1]), 600.0, 6.0) == pytest.approx((10.0, 10.0))


def test_closed_form_is_the_minimum_on_the_line(truth: Parameters):
    theta, budget = np.array(truth), 1e12 / 6.4

    def loss(log_params: float) -> float:
        num_params = np.exp(log_params)
        return float(separable(theta, np.array([num_params]), np.array([budget / num_params]))[0])

    found: Any = minimize_scalar(loss, bracket=(5, 20), tol=1e-12)
    num_params, num_events = optimal_split(theta, 1e12, 6.4)
    assert num_params == pytest.approx(np.exp(found.x), rel=1e-4)
    assert num_params * num_events == pytest.approx(budget)


def test_intervals_and_extrapolation():
    points = Points(np.array([1.0, 5.0]), np.array([1.0, 40.0]), np.ones(2))
    # Draws with C_N four times as large move N* of a law with exponents 0.5 from 10 to 40 and D* from 10 to 2.5.
    draws = np.array([[[2, 0.5, 2, 0.5, 1.0]] * 50 + [[8, 0.5, 2, 0.5, 1.0]] * 50])
    found = find_optimum(
        Parameters(2, 0.5, 2, 0.5, 1), Bootstrap(draws=draws, level=0.9, num_clusters=2, seed=0), points, 600.0, 6.0
    )
    assert found.num_params_interval == pytest.approx((10, 40))
    assert found.ratio_interval == pytest.approx((2.5 / 40, 1))
    assert found.loss == pytest.approx(2 / np.sqrt(10) * 2 + 1)
    assert found.extrapolation == pytest.approx(10 / 5)


def test_draws_without_an_optimum_are_left_out():
    draws = np.array([[[2, 0.5, 2, 0.5, 1.0]] * 9 + [[0, 0.5, 2, 0.5, 1.0]]])
    bootstrap = Bootstrap(draws=draws, level=0.95, num_clusters=2, seed=0)
    found = find_optimum(Parameters(2, 0.5, 2, 0.5, 1), bootstrap, Points(*np.ones((3, 2))), 600.0, 6.0)
    assert found.num_params_interval == pytest.approx((10, 10))


def test_default_budgets_reach_a_hundred_times_the_cells(grid: Callable[..., Points]):
    budgets = default_budgets(grid(), 6.0)
    assert budgets[1:] == pytest.approx([6 * 237_000 * 800_000 * factor for factor in (1, 10, 100)])
    assert 6 * 7_500 * 25_000 < budgets[0] < budgets[1]
