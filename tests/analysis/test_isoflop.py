"""IsoFLOP valleys and the envelope: on cells of a known law, against its closed-form optimum."""

from collections.abc import Callable

import numpy as np
import pytest

from analysis.fit import fit
from analysis.forms import Points, Separable
from analysis.isoflop import cross_check, find_valleys


def dense(alpha: float = 0.5, beta: float = 0.5) -> Points:
    """Return a grid of 17 sizes by 17 data sizes, a factor of 1.78 apart, of 2 N^-alpha + 2 D^-beta + 1."""
    num_params, num_events = (axis.ravel() for axis in np.meshgrid(np.geomspace(1, 1e4, 17), np.geomspace(1, 1e4, 17)))
    return Points(num_params, num_events, 2 * num_params**-alpha + 2 * num_events**-beta + 1)


def test_a_symmetric_law_has_its_valley_at_the_root_of_the_budget():
    # N* = sqrt(C / 6) = 100 for C = 6e4, which is a node of the grid: sizes within 10 of it take part.
    (valley,) = find_valleys(dense(), 6.0, [6e4])
    assert valley.isoflop == pytest.approx(100, rel=1e-6)
    assert valley.envelope == pytest.approx(100, rel=1e-6)
    at_best = float(np.interp(100, valley.num_params, valley.loss))
    assert at_best == pytest.approx(2 / 10 + 2 / 10 + 1)


def test_losses_are_read_between_the_cells():
    # One size with D = 1 and 100 and losses e and 1: at D = 10, log loss is half way.
    points = Points(np.array([1.0, 1, 2, 2, 4, 4]), np.array([1.0, 100] * 3), np.exp(np.array([1.0, 0, 1, 0, 1, 0])))
    (valley,) = find_valleys(points, 1.0, [10.0])
    assert valley.loss[0] == pytest.approx(np.exp(0.5))
    assert np.isnan(valley.parabola).all()  # three sizes are too few


def test_repeated_events_take_no_part():
    points = dense()
    repeated = points._replace(num_epochs=np.where(points.num_params > 3, 4.0, 1.0))
    assert find_valleys(repeated, 6.0, [6e4]) == ()


def test_a_valley_that_only_falls_has_no_optimum():
    points = dense()
    falling = points._replace(loss=1 + points.num_params**-0.3)
    (valley,) = find_valleys(falling, 6.0, [6e4])
    assert np.isnan(valley.envelope)


def test_both_agree_with_the_law_of_their_cells():
    points = dense(0.4, 0.6)
    law = fit(Separable(), points, "curve_fit")
    isoflop, envelope = cross_check(law, points, 6.0, find_valleys(points, 6.0))
    # N* grows as C^(beta / (alpha + beta)) = C^0.6.
    assert isoflop.law_exponent == pytest.approx(0.6, abs=1e-3)
    assert isoflop.exponent == pytest.approx(0.6, abs=0.05)
    assert isoflop.disagreement < 1.2
    assert envelope.disagreement < 1.8  # it can only name sizes of the grid


def test_a_law_of_other_cells_disagrees(grid: Callable[..., Points]):
    points = dense()
    other = fit(
        Separable(), points._replace(loss=2e-2 * points.num_params**-0.5 + 2 * points.num_events**-0.5 + 1), "curve_fit"
    )
    isoflop, _ = cross_check(other, points, 6.0, find_valleys(points, 6.0))
    assert isoflop.disagreement > 10
