"""The law of a table: a `Table` in, one `Law` out with its form, intervals, decisions, held-out error and refusals.

The order: cells that cannot give a law are refused before a fit; forms compete on a ladder of held-out rungs; the
winner is fitted by both methods, bootstrapped, calibrated on its ladder, cross-checked and asked what to do with each
budget, under every counting of N; report.py writes what is here and computes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis import doubts
from analysis.bootstrap import Interval, bootstrap
from analysis.budget import Budget
from analysis.calibration import Calibration, Spread, calibrate
from analysis.fit import METHODS, Fit, Method, fit
from analysis.forms import Form, FormName, Points, form_of
from analysis.frontier import Optimum, default_budgets, find_optimum
from analysis.isoflop import CrossCheck, Valley, cross_check, find_valleys
from analysis.ladder import Contest, Rung, as_asked, candidates, compete
from analysis.recount import Counting, flops_rate, recount
from analysis.refusals import refuse_cells
from analysis.table import Dropped, Table

FormChoice = FormName | Literal["auto"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Law:
    """A fitted L(N, D) with everything that a reader needs to believe it or not."""

    method: Method
    """The method whose law this is."""
    form: Form
    fits: dict[Method, Fit]
    """Both methods side by side; empty when the cells were refused."""
    contest: Contest | None
    """The forms' held-out errors, and why this form was chosen; None when refused."""
    spread: Spread | None
    """Draws of the chosen method and their calibration; None when refused or not asked for."""
    optima: tuple[Optimum, ...]
    countings: tuple[Counting, ...]
    """Under the table's other countings of N."""
    valleys: tuple[Valley, ...]
    cross_checks: tuple[CrossCheck, ...]
    held_out: tuple[Rung, ...]
    """The ladder of the chosen form."""
    warnings: tuple[str, ...]
    reasons: tuple[str, ...]
    """Why the law is refused; empty for a law that stands."""
    dropped: tuple[Dropped, ...]
    n_used: int
    num_params_convention: str
    """The column that N was read from."""
    flops_per_param_event: float
    """k in C = k N D."""

    @property
    def refused(self) -> bool:
        """Return whether the law must not be used."""
        return bool(self.reasons)

    @property
    def fit(self) -> Fit:
        """Return the fit of the chosen method; only for cells that were fitted."""
        return self.fits[self.method]

    @property
    def other(self) -> Method:
        """Return the method that stands beside the chosen one."""
        return "huber" if self.method == "curve_fit" else "curve_fit"

    @property
    def calibration(self) -> Calibration | None:
        return self.spread.calibration if self.spread else None

    def intervals(self) -> dict[str, Interval]:
        """Return the interval of each parameter; empty without a bootstrap."""
        return self.spread.parameters(self.fit) if self.spread else {}


def fit_law(
    table: Table,
    *,
    method: Method = "curve_fit",
    form: FormChoice = "auto",
    num_draws: int = 1000,
    seed: int = 0,
    budgets: Sequence[Budget] = (),
    flops_per_param_event: float | None = None,
    unique_events: float = np.inf,
    max_extrapolation: float = 10.0,
) -> Law:
    """Return the law of a table's cells.

    Args:
        table: The cells.
        method: Whose law is the headline; the other stands beside it.
        form: The form of the law, or auto: chosen by held-out error.
        num_draws: Bootstrap draws; 0 for no intervals, which also spares their calibration.
        seed: Of the bootstrap.
        budgets: What may be spent; by default four around the table's own compute.
        flops_per_param_event: k in C = k N D; by default the median of the table's flops column, else 6.
        unique_events: Events that there are to train on, for decisions of a law that knows repeats.
        max_extrapolation: How many times beyond the cells' N, D or compute a decision may lie before it is warned of.
    """
    points = table.points
    rate = flops_per_param_event or flops_rate(table, points.num_params)
    asked = form_of("separable" if form == "auto" else form)
    reasons = refuse_cells(asked, points)
    warnings = doubts.warn_cells(points, table.cell_id, _runs(table))
    contest = fits = spread = None
    optima, countings, valleys, checks, rungs = (), (), (), (), ()
    if not reasons:
        both = len(asked.axes) == 2
        contest = compete(_entrants(asked, points), points, table.trunk, method)
        contest = contest if form == "auto" else as_asked(contest, asked)
        asked = contest.chosen
        fits = dict[Method, Fit]((name, fit(asked, points, name)) for name in METHODS)
        reasons += fits[method].failures
        warnings += tuple(f"{name}: {why}" for name in METHODS if name != method for why in fits[name].failures)
        warnings += doubts.warn_repeats(points, asked.name) + doubts.warn_form(contest)
        warnings += doubts.warn_counting(table.columns.params, points.num_params, table.countings)
        valleys = find_valleys(points, rate) if both else ()
    if contest and fits and not reasons:
        law = fits[method]
        steps = contest.steps.get(asked.name, ())
        rungs = tuple(step.rung(rate) for step in steps)
        if num_draws:
            draws = bootstrap(points, table.trunk, law, num_draws=num_draws, seed=seed)
            spread = Spread(draws=draws, calibration=calibrate(steps, draws.level, seed))
        if len(asked.axes) == 2:
            chosen = budgets or default_budgets(points, rate)
            optima = tuple(find_optimum(law, spread, points, budget, rate, unique_events) for budget in chosen)
            countings = tuple(recount(table, name, law, spread, chosen, unique_events) for name in table.countings)
            checks = cross_check(law, points, rate, valleys)
        warnings += doubts.warn_fit(law, spread, points, table.stated_noise) + doubts.warn_ladder(law, rungs)
        warnings += doubts.warn_optima(optima, max_extrapolation) + doubts.warn_cross_checks(checks)
    return Law(
        method=method,
        form=asked,
        fits=fits or dict[Method, Fit](),
        contest=contest,
        spread=spread,
        optima=optima,
        countings=countings,
        valleys=valleys,
        cross_checks=checks,
        held_out=rungs,
        warnings=warnings,
        reasons=reasons,
        dropped=table.dropped,
        n_used=len(points.loss),
        num_params_convention=table.columns.params,
        flops_per_param_event=rate,
    )


def _entrants(asked: Form, points: Points) -> tuple[Form, ...]:
    """Return the forms that compete: those of N and D, and the one that the user asked for."""
    if len(asked.axes) < 2:
        return (asked,)
    forms = candidates(points)
    return forms if asked.name in {form.name for form in forms} else (*forms, asked)


def _runs(table: Table) -> np.ndarray:
    """Return (C,) the index of each cell's run: one N, seed and trunk, the trunk only where the table knows it."""
    known = len(np.unique(table.trunk)) < len(table.trunk)
    trunk = table.trunk if known else np.zeros_like(table.trunk)
    keys = np.stack([table.points.num_params, table.seed, trunk, np.round(_unique(table))], axis=-1)
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)


def _unique(table: Table) -> np.ndarray:
    """Return (C,) the unique events of runs that repeat them, 0 for those that do not: growing D is then one run."""
    epochs = np.broadcast_to(table.points.num_epochs, table.points.loss.shape)
    return np.where(epochs > 1, table.points.num_events / epochs, 0.0)
