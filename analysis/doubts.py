"""When a law may mislead although it stands: cells, fit, draws and ladder in, warnings with numbers out."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.stats import chi2
from scipy.stats import f as fisher

from analysis.calibration import Spread
from analysis.fit import Fit
from analysis.forms import Points
from analysis.frontier import Optimum
from analysis.isoflop import CrossCheck
from analysis.ladder import Contest, Rung
from analysis.text import scientific

_WIDE = 1.0
_MAX_AT_BOUND = 0.05
_MAX_NAMED = 8
_MIN_REPLICATES = 3
_SIGNIFICANT = 0.01
_NOISE = 0.5
"""Share of a misfit below this times the noise is no matter, however significant."""
_DISAGREE = 2.0
_WORSE = 1.5
_LOST_DRAWS = 0.05


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


def warn_repeats(points: Points, form_name: str) -> tuple[str, ...]:
    """Return a warning when events seen again are counted as if they were new."""
    repeated = np.broadcast_to(points.num_epochs, points.loss.shape) > 1 + 1e-6
    if form_name == "repeats" or not repeated.any():
        return ()
    return (
        f"Repeats are counted as data in {repeated.sum()} cells (up to {np.max(points.num_epochs):.3g} epochs): the"
        f" {form_name} form takes an event seen again for a new one; the repeats form does not.",
    )


def warn_fit(fit: Fit, spread: Spread | None, points: Points, noise: np.ndarray | None = None) -> tuple[str, ...]:
    """Return warnings about the law's spread, and about its misfit where the noise of a loss is known.

    Args:
        fit: The law.
        spread: Its draws and their calibration; None for no intervals.
        points: Its cells; several with one N and D show the noise between seeds.
        noise: (C,) standard deviation of each loss where the table states it, NaN where it does not; None for a study,
            whose seeds are all that tell.
    """
    warnings = []
    if spread is not None:
        for name, (low, high) in spread.parameters(fit).items():
            if name in ("alpha", "beta", "L0", "exponent") and high - low > _WIDE * abs(fit.parameters[name]):
                warnings.append(
                    f"{name} is weakly identified: its {spread.draws.level:.0%} interval {low:.3g} .. {high:.3g} is"
                    f" wider than {name} itself ({fit.parameters[name]:.3g})."
                )
        warnings += _draws_at_bound(spread)
    return (*warnings, *_lack_of_fit(fit, points, noise))


def warn_form(contest: Contest) -> tuple[str, ...]:
    """Return a warning when another form predicts dearer cells far better than the law's."""
    errors, name = contest.errors, contest.chosen.name
    if name not in errors or errors[name] <= _WORSE * min(errors.values()):
        return ()
    best = min(errors, key=lambda form: errors[form])
    return (
        f"Lack of fit of the form: on dearer cells that the fits had not seen the {name} form errs by"
        f" {errors[name]:.2%}, the {best} form by {errors[best]:.2%}.",
    )


def warn_ladder(fit: Fit, rungs: Sequence[Rung]) -> tuple[str, ...]:
    """Return a warning when the law misses larger compute by far more than its own cells."""
    if not rungs or max(rung.error for rung in rungs) <= max(0.01, 2 * fit.mean_error):
        return ()
    worst = max(rungs, key=lambda rung: rung.error)
    return (
        f"Extrapolation misses: fitted below {scientific(worst.rung)} FLOPs the law is off by {worst.error:.1%} on the"
        f" cells above, against {fit.mean_error:.1%} on its own.",
    )


def warn_optima(optima: Sequence[Optimum], max_extrapolation: float) -> tuple[str, ...]:
    """Return warnings about budgets far beyond the cells, and about those where no split is best."""
    none = [optimum for optimum in optima if not optimum.exists]
    some = [optimum for optimum in optima if optimum.exists and optimum.no_optimum > _LOST_DRAWS]
    far = [optimum for optimum in optima if optimum.extrapolation > max_extrapolation]
    warnings = []
    if none:
        named = ", ".join(optimum.budget.words for optimum in none)
        warnings.append(f"No interior optimum for {named}: within reach of the cells the loss falls to one end.")
    if some:
        named = ", ".join(f"{optimum.budget.words} ({optimum.no_optimum:.0%})" for optimum in some)
        warnings.append(f"Draws without an interior optimum, left out of the intervals: {named}.")
    if far:
        named = ", ".join(f"{optimum.budget.words} ({optimum.extrapolation:.3g} times)" for optimum in far)
        warnings.append(f"Extrapolated beyond {max_extrapolation:g} times the cells' N, D or compute: {named}.")
    return tuple(warnings)


def warn_cross_checks(checks: Sequence[CrossCheck]) -> tuple[str, ...]:
    """Return a warning when the best N of IsoFLOP valleys or of the envelope is far from the law's."""
    far = [check for check in checks if check.disagreement > _DISAGREE]
    return tuple(
        f"The {check.method} optimum is typically {check.disagreement:.2g} times away from the law's N* (over"
        f" {check.num_budgets} budgets within the cells)."
        for check in far
    )


def warn_counting(name: str, num_params: np.ndarray, others: dict[str, np.ndarray]) -> tuple[str, ...]:
    """Return a warning when N counts embeddings: another counting is smaller by a share that changes with size."""
    warnings = []
    for other, values in others.items():
        share = 1 - values / num_params
        if share.max() > 0.1 and np.ptp(share) > 0.05:
            warnings.append(
                f"Embeddings counted as parameters: {name} exceeds {other} by {share.min():.0%} to {share.max():.0%} of"
                f" itself, more for small models, which bends the exponent of N; compare the answers by counting."
            )
    return tuple(warnings)


def _rises(points: Points, before: int, after: int) -> bool:
    return bool(points.num_events[after] > points.num_events[before] and points.loss[after] > points.loss[before])


def _draws_at_bound(spread: Spread) -> list[str]:
    # A term that a draw does without rests on exactly 0; an exponent at its bound is told by the interval's width.
    names = spread.draws.form.parameters
    terms = [at for at, name in enumerate(names) if name in ("C_N", "C_D", "L0", "A")]
    share = float((spread.draws.draws[..., terms] <= 0).any(axis=-1).mean()) if terms else 0.0
    if share <= _MAX_AT_BOUND:
        return []
    return [f"In {share:.0%} of the bootstrap draws one of the law's terms vanishes: the cells barely need it."]


def _lack_of_fit(fit: Fit, points: Points, noise: np.ndarray | None) -> list[str]:
    """Return a warning when residuals exceed the noise: between seeds where cells repeat, else the one stated.

    Residuals are weighted as in the fit, by one over their noise, so that the noise is the same everywhere (an F test
    of misfit over pure error, Draper & Smith 1998, 2.1).
    """
    weight = np.broadcast_to(points.weight, points.loss.shape)
    residual = points.loss - fit.predict(points)
    freedom = len(residual) - len(fit.theta)
    columns = np.stack([points.num_params, points.num_events, np.broadcast_to(points.num_epochs, residual.shape)], -1)
    cell = np.unique(columns, axis=0, return_inverse=True)[1].reshape(-1)
    mean = np.bincount(cell, weight**2 * points.loss) / np.bincount(cell, weight**2)
    pure, replicates = float(((weight * (points.loss - mean[cell])) ** 2).sum()), len(residual) - len(mean)
    misfit, lack = float(((weight * residual) ** 2).sum()) - pure, freedom - replicates
    if replicates >= _MIN_REPLICATES and lack > 0 and pure > 0:
        ratio = (misfit / lack) / (pure / replicates)
        if ratio > 1 + _NOISE and fisher.sf(ratio, lack, replicates) < _SIGNIFICANT:
            return [
                f"Lack of fit: the form misses the cells' means by {np.sqrt(ratio):.1f} times the noise between seeds"
                f" (F {ratio:.1f} on {lack} and {replicates} degrees of freedom)."
            ]
    elif noise is not None and np.isfinite(noise).all() and (noise > 0).all():
        chi_squared = float(((residual / noise) ** 2).sum())
        if chi2.sf(chi_squared, freedom) < _SIGNIFICANT:
            return [
                f"Lack of fit: the residuals are {np.sqrt(chi_squared / freedom):.1f} times the losses' own standard"
                f" errors (chi-square {chi_squared:.0f} on {freedom} degrees of freedom); the form, or the noise"
                " between runs, is to blame."
            ]
    return []
