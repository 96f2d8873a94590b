"""Each warning about a law that stands, with the number that it must name, and its silence where all is well."""

from collections.abc import Callable

import numpy as np

from analysis.bootstrap import Bootstrap
from analysis.calibration import Spread
from analysis.doubts import (
    warn_cells,
    warn_counting,
    warn_cross_checks,
    warn_fit,
    warn_form,
    warn_ladder,
    warn_optima,
    warn_repeats,
)
from analysis.fit import fit
from analysis.forms import Coupled, Points, Separable
from analysis.frontier import default_budgets, find_optimum
from analysis.isoflop import CrossCheck
from analysis.ladder import Contest, Rung

FORM = Separable()


def only(sentences: tuple[str, ...], *words: str) -> None:
    """Check that there is one sentence and that it has all the words."""
    assert len(sentences) == 1, sentences
    for word in words:
        assert word in sentences[0], sentences[0]


def spread(draws: np.ndarray) -> Spread:
    """Return draws without a calibration."""
    drawn = Bootstrap(form=FORM, draws=draws, level=0.8, num_clusters=6, seed=0, noise=0.0)
    return Spread(draws=drawn, calibration=None)


def test_rising_losses_are_counted_and_named_within_a_run():
    points = Points(np.ones(5), np.array([4.0, 1.0, 2.0, 8.0, 2.0]), np.array([1.5, 2.0, 1.7, 1.6, 9.0]))
    # The run 0 in order of D: 2.0, 1.7, 1.5, 1.6; its last rises. Cell e is a run of its own.
    only(warn_cells(points, ["a", "b", "c", "d", "e"], np.array([0, 0, 0, 0, 1])), "1 cells: d.")


def test_lack_of_fit_needs_small_standard_errors(grid: Callable[..., Points]):
    points = grid(0.002)
    found = fit(FORM, points, "curve_fit")
    only(warn_fit(found, None, points, np.full(36, 0.0005)), "Lack of fit", "31 degrees of freedom")
    assert warn_fit(found, None, points, np.full(36, 0.002)) == ()
    assert warn_fit(found, None, points, np.full(36, np.nan)) == ()


def test_wide_intervals_and_vanishing_terms(grid: Callable[..., Points]):
    points = grid(0.002)
    found = fit(FORM, points, "curve_fit")
    draws = np.tile(found.theta, (1, 100, 1))
    draws[0, :, 1] = np.linspace(0.1, 1.2, 100)
    draws[0, :10, 4] = 0
    warnings = warn_fit(found, spread(draws), points, np.full(36, np.nan))
    assert [warning.split()[0] for warning in warnings] == ["alpha", "In"]
    assert "80% interval" in warnings[0]
    assert "10%" in warnings[1]


def test_held_out_error_far_above_the_fit(grid: Callable[..., Points]):
    found = fit(FORM, grid(0.002), "curve_fit")
    rungs = (Rung(1e12, 0.004, 0.0, 20, 6), Rung(3e12, 0.05, -0.05, 26, 6))
    only(warn_ladder(found, rungs), "3e12 FLOPs", "5.0%")
    assert warn_ladder(found, rungs[:1]) == ()
    assert warn_ladder(found, ()) == ()


def test_misfit_against_the_noise_between_seeds(grid: Callable[..., Points]):
    points = grid()
    twice = points.take(np.repeat(np.arange(36), 2))
    seeds = 1 + 1e-4 * np.tile([1.0, -1.0], 36)
    bent = 1 + 8 * (twice.num_params**-0.5 + 20 * twice.num_events**-0.5) ** 0.5
    unknown = np.full(72, np.nan)
    wrong, right = twice._replace(loss=bent * seeds), twice._replace(loss=twice.loss * seeds)
    only(warn_fit(fit(FORM, wrong, "curve_fit"), None, wrong, unknown), "noise between seeds", "31 and 36 degrees")
    assert warn_fit(fit(FORM, right, "curve_fit"), None, right, unknown) == ()


def test_misfit_is_measured_in_the_noise_of_each_cell():
    # Two seeds of each of 7 x 4 cells; noise 0.1 at the least D and 0.001 elsewhere, where the losses bend by 0.01.
    N, D = (np.repeat(axis.ravel(), 2) for axis in np.meshgrid(np.geomspace(1e4, 1e6, 7), np.geomspace(1e5, 1e7, 4)))
    noise = np.where(D < 1.5e5, 0.1, 0.001)
    bend = 0.01 * np.cos(np.pi * np.log10(N))
    loss = 12 / N**0.5 + 350 / D**0.6 + 1.5 + bend + noise * np.tile([1.0, -1.0], 28)
    equal = Points(N, D, loss)
    weighted = equal._replace(weight=(1 / noise) / (1 / noise).mean())
    assert warn_fit(fit(FORM, equal, "curve_fit"), None, equal) == ()
    only(warn_fit(fit(FORM, weighted, "curve_fit"), None, weighted), "Lack of fit", "23 and 28 degrees")


def test_far_budgets_are_named(grid: Callable[..., Points]):
    points = grid(0.002)
    law = fit(FORM, points, "curve_fit")
    optima = [find_optimum(law, None, points, budget, 6.0) for budget in default_budgets(points, 6.0)]
    only(warn_optima(optima, 50.0), "1.1e14 FLOPs (100 times)", "beyond 50 times")
    assert warn_optima(optima[:3], 50.0) == ()


def test_budgets_without_an_optimum_are_named(grid: Callable[..., Points]):
    points = grid()
    law = fit(FORM, points._replace(loss=1 + points.num_params**-0.5), "curve_fit")
    optima = [find_optimum(law, None, points, budget, 6.0) for budget in default_budgets(points, 6.0)[:1]]
    only(warn_optima(optima, 10.0), "No interior optimum", "FLOPs")


def test_repeats_counted_as_data(grid: Callable[..., Points]):
    points = grid()._replace(num_epochs=np.repeat([1.0, 4.0], 18))
    only(warn_repeats(points, "separable"), "18 cells", "up to 4 epochs")
    assert warn_repeats(points, "repeats") == ()
    assert warn_repeats(grid(), "separable") == ()


def test_embeddings_counted_as_parameters():
    total, without = np.array([20.0, 110.0, 1010.0]), np.array([10.0, 100.0, 1000.0])
    only(warn_counting("total", total, {"without": without}), "total exceeds without by 1% to 50%")
    assert warn_counting("without", without, {"total": total}) == ()
    assert warn_counting("total", 1.02 * without, {"without": without}) == ()


def test_a_better_form_is_named():
    contest = Contest(steps={}, errors={"separable": 0.03, "coupled": 0.006}, fits={}, chosen=FORM, why="")
    only(warn_form(contest), "Lack of fit", "3.00%", "the coupled form by 0.60%")
    better = Contest(steps={}, errors={"separable": 0.03, "coupled": 0.006}, fits={}, chosen=Coupled(), why="")
    assert warn_form(better) == ()


def test_disagreement_with_isoflop_is_told():
    def check(disagreement: float) -> CrossCheck:
        return CrossCheck(method="isoflop", num_budgets=5, exponent=0.5, law_exponent=0.6, disagreement=disagreement)

    only(warn_cross_checks([check(3.0), check(1.2)]), "isoflop", "3 times away", "5 budgets")
    assert warn_cross_checks([check(float("nan"))]) == ()
