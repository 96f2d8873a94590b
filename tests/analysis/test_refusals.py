"""Each refusal and each warning, with the number that it must name."""

from collections.abc import Callable

import numpy as np
import pytest

from analysis.bootstrap import Bootstrap
from analysis.fit import fit
from analysis.forms import Points
from analysis.frontier import Optimum
from analysis.ladder import Rung, climb
from analysis.refusals import refuse_cells, warn_cells, warn_fit, warn_ladder, warn_optima


def only(sentences: tuple[str, ...], *words: str) -> None:
    """Check that there is one sentence and that it has all the words."""
    assert len(sentences) == 1, sentences
    for word in words:
        assert word in sentences[0], sentences[0]


def test_a_full_grid_is_not_refused(grid: Callable[..., Points]):
    assert refuse_cells(grid()) == ()


@pytest.mark.parametrize("axis", [0, 1])
def test_two_levels(axis: int, grid: Callable[..., Points]):
    points = grid()
    rows = np.isin(points[axis], np.unique(points[axis])[:2])
    only(refuse_cells(points.take(rows)), ("N,", "D,")[axis], "2 distinct levels", "at least 3")


def test_five_cells(grid: Callable[..., Points]):
    only(refuse_cells(grid().take(np.array([0, 7, 14, 21, 28]))), "Only 5 completed cells", "at least 6")


def test_no_cells():
    reasons = refuse_cells(Points(*np.zeros((3, 0))))
    assert "Only 0 completed cells" in reasons[0]
    assert len(reasons) == 3


def test_events_proportional_to_parameters(grid: Callable[..., Points]):
    points = grid()
    only(refuse_cells(points._replace(num_events=20 * points.num_params)), "correlation 1.00000", "vary D at fixed N")


def test_constant_loss(grid: Callable[..., Points]):
    only(refuse_cells(grid()._replace(loss=np.full(36, 1.5))), "same loss, 1.5")


def test_rising_losses_are_counted_and_named_within_a_run():
    points = Points(np.ones(5), np.array([4.0, 1.0, 2.0, 8.0, 2.0]), np.array([1.5, 2.0, 1.7, 1.6, 9.0]))
    # The run 0 in order of D: 2.0, 1.7, 1.5, 1.6; its last rises. Cell e is a run of its own.
    only(warn_cells(points, ["a", "b", "c", "d", "e"], np.array([0, 0, 0, 0, 1])), "1 cells: d.")


def test_lack_of_fit_needs_small_standard_errors(grid: Callable[..., Points]):
    points = grid(0.002)
    found = fit(points, "curve_fit")
    only(warn_fit(found, None, points, np.full(36, 0.0005)), "Lack of fit", "31 degrees of freedom")
    assert warn_fit(found, None, points, np.full(36, 0.002)) == ()
    assert warn_fit(found, None, points, np.full(36, np.nan)) == ()


def test_wide_intervals_and_vanishing_terms(grid: Callable[..., Points]):
    points = grid(0.002)
    found = fit(points, "curve_fit")
    draws = np.tile(np.array(found.parameters), (1, 100, 1))
    draws[0, :, 1] = np.linspace(0.1, 1.2, 100)
    draws[0, :10, 4] = 0
    warnings = warn_fit(found, Bootstrap(draws=draws, level=0.8, num_clusters=6, seed=0), points, np.full(36, np.nan))
    assert [warning.split()[0] for warning in warnings] == ["alpha", "In"]
    assert "80% interval" in warnings[0]
    assert "10%" in warnings[1]


def test_held_out_error_far_above_the_fit(grid: Callable[..., Points]):
    found = fit(grid(0.002), "curve_fit")
    rungs = (Rung(1e12, 0.004, 0.0, 20, 6), Rung(3e12, 0.05, -0.05, 26, 6))
    only(warn_ladder(found, rungs), "3e12 FLOPs", "5.0%")
    assert warn_ladder(found, rungs[:1]) == ()
    assert warn_ladder(found, ()) == ()


def test_far_optima_are_named():
    optima = [
        Optimum(
            flops=flops,
            num_params=1,
            num_params_interval=None,
            num_events=1,
            num_events_interval=None,
            ratio=1,
            ratio_interval=None,
            loss=1,
            loss_interval=None,
            extrapolation=factor,
        )
        for flops, factor in ((1e12, 1.0), (1e15, 40.0))
    ]
    only(warn_optima(optima), "1e15 FLOPs (40 times)")
    assert warn_optima(optima[:1]) == ()


def test_ladder_of_a_true_law_predicts(grid: Callable[..., Points]):
    rungs = climb(grid(), "curve_fit", 6.0, 3)
    assert len(rungs) == 3
    assert [rung.n_fitted + rung.n_held_out for rung in rungs][:2] == [rung.n_fitted for rung in rungs][1:]
    assert max(rung.error for rung in rungs) < 1e-6


def test_ladder_of_a_wrong_form_misses(grid: Callable[..., Points]):
    points = grid()
    coupled = 1 + 8 * (points.num_params**-0.5 + 20 * points.num_events**-0.5) ** 0.5
    found = fit(points._replace(loss=coupled), "curve_fit")
    rungs = climb(points._replace(loss=coupled), "curve_fit", 6.0, 3)
    assert rungs[-1].error > found.mean_error
