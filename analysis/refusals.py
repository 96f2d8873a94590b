"""When a law would mislead: cells, fit and draws in, sentences with numbers out.

A refusal stops the law, a warning stands beside it.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.stats import chi2

from analysis.bootstrap import Bootstrap
from analysis.fit import NUM_PARAMETERS, Fit
from analysis.forms import Points, separable
from analysis.frontier import Optimum
from analysis.ladder import Rung
from analysis.text import scientific

MIN_LEVELS = 3
"""A power law with a floor has three unknowns along each axis."""
MAX_CORRELATION = 0.999
"""Of log N and log D over the cells; beyond it the two terms are one."""
_WIDE = 1.0
_FAR = 3.0
_MAX_AT_BOUND = 0.05
_MAX_NAMED = 8


def refuse_cells(points: Points) -> tuple[str, ...]:
    """Return why these cells cannot give a law, before any fit; empty when they can."""
    reasons = []
    count = len(points.loss)
    if count < NUM_PARAMETERS + 1:
        reasons.append(
            f"Only {count} completed cells; {NUM_PARAMETERS} parameters need at least {NUM_PARAMETERS + 1} cells."
        )
    for name, column in (
        ("N, the number of parameters,", points.num_params),
        ("D, the number of events,", points.num_events),
    ):
        levels = np.unique(column)
        if len(levels) < MIN_LEVELS:
            shown = ", ".join(f"{level:g}" for level in levels) or "none"
            reasons.append(
                f"{name} has {len(levels)} distinct levels ({shown}); its exponent needs at least {MIN_LEVELS}."
            )
    if not reasons:
        correlation = float(np.corrcoef(np.log(points.num_params), np.log(points.num_events))[0, 1])
        if abs(correlation) > MAX_CORRELATION:
            reasons.append(
                f"log N and log D move together over the cells (correlation {correlation:.5f}; allowed is at most"
                f" {MAX_CORRELATION}), so the model term cannot be told from the data term; vary D at fixed N."
            )
        if np.ptp(points.loss) == 0:
            reasons.append(f"Every cell has the same loss, {points.loss[0]:g}.")
    return tuple(reasons)


def warn_cells(points: Points, cell_id: Sequence[str], run: np.ndarray) -> tuple[str, ...]:
    """Return a warning when a loss rises with D within one run.

    Args:
        points: The cells, C of them.
        cell_id: (C,) their names.
        run: (C,) cells of one run have the same N, seed and trunk.
    """
    rises = []
    for label in np.unique(run):
        rows = np.flatnonzero(run == label)
        rows = rows[np.argsort(points.num_events[rows], kind="stable")]
        rises += [cell_id[after] for before, after in pairwise(rows) if _rises(points, before, after)]
    if not rises:
        return ()
    more = f" and {len(rises) - _MAX_NAMED} more" if len(rises) > _MAX_NAMED else ""
    named = ", ".join(rises[:_MAX_NAMED]) + more
    return (f"The loss rises with more events at fixed N and seed in {len(rises)} cells: {named}.",)


def warn_fit(fit: Fit, bootstrap: Bootstrap | None, points: Points, loss_stderr: np.ndarray) -> tuple[str, ...]:
    """Return warnings about the law's spread, and about its misfit where the noise of a loss is known."""
    warnings = []
    if bootstrap is not None:
        for name in ("alpha", "beta", "L0"):
            low, high = bootstrap.intervals()[name]
            if high - low > _WIDE * abs(getattr(fit.parameters, name)):
                warnings.append(
                    f"{name} is weakly identified: its {bootstrap.level:.0%} interval {low:.3g} .. {high:.3g} is wider"
                    f" than {name} itself ({getattr(fit.parameters, name):.3g})."
                )
        warnings += _draws_at_bound(bootstrap)
    residual = points.loss - separable(np.array(fit.parameters), points.num_params, points.num_events)
    freedom = len(residual) - NUM_PARAMETERS
    if np.isfinite(loss_stderr).all() and (loss_stderr > 0).all():
        chi_squared = float(((residual / loss_stderr) ** 2).sum())
        if chi2.sf(chi_squared, freedom) < 0.01:
            warnings.append(
                f"Lack of fit: the residuals are {np.sqrt(chi_squared / freedom):.1f} times the losses' own standard"
                f" errors (chi-square {chi_squared:.0f} on {freedom} degrees of freedom); the form, or the noise"
                " between runs, is to blame."
            )
    return tuple(warnings)


def warn_ladder(fit: Fit, rungs: Sequence[Rung]) -> tuple[str, ...]:
    """Return a warning when the law misses larger compute by far more than its own cells."""
    if not rungs or max(rung.error for rung in rungs) <= max(0.01, 2 * fit.mean_error):
        return ()
    worst = max(rungs, key=lambda rung: rung.error)
    return (
        f"Extrapolation misses: fitted below {scientific(worst.rung)} FLOPs the law is off by {worst.error:.1%} on the"
        f" cells above, against {fit.mean_error:.1%} on its own.",
    )


def warn_optima(optima: Sequence[Optimum]) -> tuple[str, ...]:
    """Return a warning naming the budgets whose optimum lies far outside the cells."""
    far = [optimum for optimum in optima if optimum.extrapolation > _FAR]
    if not far:
        return ()
    named = ", ".join(f"{scientific(optimum.flops)} FLOPs ({optimum.extrapolation:.3g} times)" for optimum in far)
    return (f"The optimum lies outside the measured N and D for the budgets {named}.",)


def _rises(points: Points, before: int, after: int) -> bool:
    return bool(points.num_events[after] > points.num_events[before] and points.loss[after] > points.loss[before])


def _draws_at_bound(bootstrap: Bootstrap) -> list[str]:
    # A term that a draw does without rests on exactly 0; an exponent at its bound is told by the interval's width.
    share = float((bootstrap.draws[..., [0, 2, 4]] <= 0).any(axis=-1).mean())
    if share <= _MAX_AT_BOUND:
        return []
    return [f"In {share:.0%} of the bootstrap draws one of the three terms vanishes: the cells barely need it."]
