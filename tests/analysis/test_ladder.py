"""The ladder: what it scores, which form wins and why, and whether intervals calibrated on it hold."""

from collections.abc import Callable

import numpy as np
import pytest

from analysis.calibration import Spread, calibrate
from analysis.forms import Coupled, Farseer, Points, Repeats, Separable, Tied
from analysis.ladder import CUTS, Step, as_asked, candidates, climb, compete

ROWS = np.arange(36)


def bend(points: Points) -> Points:
    """Return the cells of a coupled law, far from separable."""
    return points._replace(loss=1 + 8 * (points.num_params**-0.5 + 20 * points.num_events**-0.5) ** 0.5)


def test_a_true_law_predicts(grid: Callable[..., Points]):
    steps = climb(Separable(), grid(), ROWS, "curve_fit")
    rungs = [step.rung(6.0) for step in steps]
    assert len(rungs) == len(CUTS)
    assert [rung.n_fitted + rung.n_held_out for rung in rungs] == [36] * 5
    assert max(rung.error for rung in rungs) < 1e-6
    assert all(step.below.compute().max() < step.above.compute().min() for step in steps)


def test_a_rung_by_hand(grid: Callable[..., Points]):
    step = climb(Separable(), grid(), ROWS, "curve_fit")[0]
    high = step._replace(above=step.above._replace(loss=step.fit.predict(step.above) / 1.1))
    assert (high.rung(2.0).error, high.rung(2.0).bias) == pytest.approx((0.1, 0.1))
    assert high.rung(2.0).rung == pytest.approx(2 * step.below.compute().max())


def test_the_true_form_wins_and_the_reason_is_said(grid: Callable[..., Points]):
    contest = compete((Tied(), Separable(), Coupled()), bend(grid()), ROWS, "curve_fit")
    assert contest.chosen.name == "coupled"
    assert contest.errors["coupled"] < 0.1 * contest.errors["separable"]
    assert contest.why.startswith("coupled, by its error on dearer cells")


def test_a_tie_goes_to_fewer_parameters(grid: Callable[..., Points]):
    points = grid()
    noise = 1 + 0.003 * np.random.default_rng(0).standard_normal(36)
    loss = (30 * points.num_params**-0.5 + 60 * points.num_events**-0.5 + 1.5) * noise
    contest = compete((Tied(), Separable(), Coupled()), points._replace(loss=loss), ROWS, "curve_fit")
    assert contest.chosen.name == "tied"


def test_few_cells_hold_nothing_out(grid: Callable[..., Points]):
    points = grid().take(np.array([0, 7, 14, 16, 21, 28, 35, 3, 11]))
    contest = compete((Tied(), Separable()), points, np.arange(9), "curve_fit")
    assert contest.chosen.name == "separable"
    assert "too few cells" in contest.why


def test_the_users_form_stands_beside_the_errors_of_the_others(grid: Callable[..., Points]):
    contest = as_asked(compete((Separable(), Coupled()), bend(grid()), ROWS, "curve_fit"), Separable())
    assert contest.chosen.name == "separable"
    assert contest.why.startswith("separable, as asked; errors on dearer cells")
    assert "coupled" in contest.why


def test_repeats_compete_where_events_are_repeated(grid: Callable[..., Points]):
    assert {form.name for form in candidates(grid())} == {"tied", "separable", "coupled", "farseer"}
    assert Repeats().name in {form.name for form in candidates(grid()._replace(num_epochs=np.full(36, 2.0)))}
    assert Farseer().name not in compete(candidates(grid()), grid().take(ROWS[:24]), ROWS[:24], "curve_fit").errors


def test_a_right_form_is_hardly_widened_and_a_wrong_one_is(grid: Callable[..., Points]):
    noise = np.exp(0.002 * np.random.default_rng(0).standard_normal(36))
    right = grid()._replace(loss=grid().loss * noise)
    wrong = bend(grid())._replace(loss=bend(grid()).loss * noise)
    factors = []
    for points in (right, wrong):
        told = calibrate(climb(Separable(), points, ROWS, "curve_fit"), 0.95, 0)
        assert told is not None
        assert told.coverage >= told.raw_coverage
        factors.append(told.factor)
    assert 1 <= factors[0] < 2 < factors[1]


def test_too_few_held_out_cells_calibrate_nothing(grid: Callable[..., Points]):
    steps: tuple[Step, ...] = climb(Separable(), grid(0.002), ROWS, "curve_fit")
    assert calibrate(steps[:1], 0.95, 0) is None
    assert calibrate((), 0.95, 0) is None


def test_without_a_calibration_intervals_are_the_bootstraps(grid: Callable[..., Points]):
    from analysis.bootstrap import bootstrap

    step = climb(Separable(), grid(0.002), ROWS, "curve_fit")[-1]
    draws = bootstrap(step.below, step.trunk, step.fit, num_draws=100, seed=0)
    assert Spread(draws=draws, calibration=None).parameters(step.fit) == draws.intervals()
