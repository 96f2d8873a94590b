"""The separable law's value, gradient and change of units, against numbers worked by hand and finite differences."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from analysis.forms import Points, r_squared, rescale, separable, separable_gradient

THETA = np.array([8.0, 0.5, 27.0, 1 / 3, 1.0])


def test_value_by_hand():
    # 8 / sqrt(4) + 27 / 27^(1/3) + 1 = 4 + 9 + 1, and 8 / sqrt(16) + 27 / 1 + 1 = 2 + 27 + 1.
    loss = separable(THETA, np.array([4.0, 16.0]), np.array([27.0, 1.0]))
    np.testing.assert_allclose(loss, [14.0, 30.0], rtol=1e-14)


def test_leading_axes_are_draws():
    loss = separable(np.stack([THETA, [0, 0.5, 0, 1, 2.0]]), np.array([4.0]), np.array([27.0]))
    np.testing.assert_allclose(loss, [[14.0], [2.0]])


def test_gradient_matches_finite_differences():
    num_params, num_events = np.array([3.0]), np.array([0.4])
    numeric = np.asarray(approx_fprime(THETA, lambda theta: separable(theta, num_params, num_events)[0], 1e-7))
    np.testing.assert_allclose(separable_gradient(THETA, num_params, num_events)[0], numeric, rtol=1e-5)


def test_rescale_keeps_the_law():
    # 8 N^-0.5 with N in units of 4: 8 / sqrt(4) = 4; 27 D^(-1/3) in units of 8: 27 / 2.
    scaled = rescale(THETA, 4.0, 8.0)
    np.testing.assert_allclose(scaled, [4.0, 0.5, 13.5, 1 / 3, 1.0])


def test_r_squared_by_hand():
    # Losses 1, 2, 3 (total sum of squares 2) against a constant 2.5: residual squares 2.25 + 0.25 + 0.25.
    points = Points(np.ones(3), np.ones(3), np.array([1.0, 2.0, 3.0]))
    assert r_squared(points, np.array([0, 1, 0, 1, 2.5])) == pytest.approx(1 - 2.75 / 2)
