"""Fit one form: cells in, one `Fit` out, by either method and never a silent failure.

`curve_fit` is the paper's method (scipy's, least squares on the loss); `huber` is the robust one on log losses. Both
work with N and D in the form's units, start where variable projection and a batch of short descents point, never at
scipy's ones, and say when they failed. Residuals are weighted by one over the losses' errors where those are known.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.optimize import OptimizeWarning, approx_fprime, curve_fit

from analysis.forms import Form, Points
from analysis.forms.points import unit_points
from analysis.huber import huber_covariance, huber_objective, minimize_huber
from analysis.refit import METHODS, Method, penalty, refit, residuals
from analysis.soundness import bound_failures, is_singular, stalled

__all__ = ["METHODS", "Fit", "Method", "fit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """The law that one method found, with what it says about its own trustworthiness."""

    form: Form
    method: Method
    theta: np.ndarray
    """(P,) parameters in the units of the table."""
    covariance: np.ndarray
    """(P, P) asymptotic; the bootstrap's intervals are the ones to quote."""
    r2: float
    """1 - SS_residual / SS_total of the losses."""
    mean_error: float
    """Mean of |L_hat / L - 1| over the cells of the fit."""
    n_used: int
    objective: float
    """Sum of squared residuals (curve_fit) or of Huber penalties of log residuals (huber)."""
    failures: tuple[str, ...]
    """Why the parameters are not to be believed; empty for a sound fit."""

    @property
    def parameters(self) -> dict[str, float]:
        """Return the parameters by name."""
        return dict(zip(self.form.parameters, self.theta.tolist(), strict=True))

    @property
    def stderr(self) -> dict[str, float]:
        """Return the asymptotic standard errors by name."""
        errors = np.sqrt(np.maximum(np.diag(self.covariance), 0))
        return dict(zip(self.form.parameters, errors.tolist(), strict=True))

    def predict(self, points: Points) -> np.ndarray:
        """Return (C,) losses at the cells of `points`."""
        return self.form.predict(self.theta, points)


def fit(form: Form, points: Points, method: Method) -> Fit:
    """Return the law of `form` that `method` finds for the points; needs more points than parameters."""
    units = form.units(points)
    scaled = unit_points(points, units)
    theta = descend(form, scaled, method)
    if method == "curve_fit":
        theta, covariance, failures = _curve_fit(form, scaled, theta)
    else:
        theta = minimize_huber(form, scaled, theta)
        covariance, failures = huber_covariance(form, scaled, theta), ()
    failures += bound_failures(form, theta, scaled)
    if not np.isfinite(covariance).all() or is_singular(form, theta, scaled):
        failures += ("The parameters' covariance is infinite or singular: the cells do not determine all of them.",)
    fitted = form.predict(theta, scaled)
    in_units = form.rescale(theta, 1 / units[0], 1 / units[1])
    return Fit(
        form=form,
        method=method,
        theta=in_units,
        covariance=_unscale(form, covariance, theta, units),
        r2=r_squared(points.loss, fitted),
        mean_error=float(np.abs(fitted / points.loss - 1).mean()),
        n_used=len(points.loss),
        objective=_objective(fitted, points, method),
        failures=failures,
    )


def descend(form: Form, scaled: Points, method: Method) -> np.ndarray:
    """Return the (P,) best of short descents from all the form's starts at once."""
    starts = form.starts(scaled, scaled.weight / (scaled.loss if method == "huber" else np.ones_like(scaled.loss)))
    losses = np.broadcast_to(scaled.loss, (len(starts), len(scaled.loss)))
    found = refit(form, scaled, losses, starts, method, tolerance=1e-9)
    costs = penalty(residuals(form.predict(found, scaled), losses, scaled.weight, method), method)
    return found[int(np.argmin(np.where(np.isfinite(costs), costs, np.inf)))]


def r_squared(loss: np.ndarray, fitted: np.ndarray) -> float:
    """Return 1 - SS_residual / SS_total of the losses (not of their logarithms)."""
    return float(1 - ((loss - fitted) ** 2).sum() / ((loss - loss.mean()) ** 2).sum())


def _objective(fitted: np.ndarray, points: Points, method: Method) -> float:
    if method == "huber":
        return huber_objective(fitted, points.loss, points.weight)
    return float((residuals(fitted, points.loss, points.weight, method) ** 2).sum())


def _curve_fit(form: Form, scaled: Points, start: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return parameters, covariance and failures of scipy's curve_fit on scaled points, from a given start."""

    def law(_: np.ndarray, *theta: float) -> np.ndarray:
        return form.predict(np.array(theta), scaled)

    def gradient(_: np.ndarray, *theta: float) -> np.ndarray:
        return form.linearize(np.array(theta)[None], scaled)[1][0]

    low, high = form.bounds()
    with warnings.catch_warnings():
        # An infinite covariance is looked for in what comes back, where it can be refused with a reason.
        warnings.simplefilter("ignore", OptimizeWarning)
        try:
            theta, covariance = curve_fit(
                law,
                scaled.num_params,
                scaled.loss,
                p0=np.clip(start, low, high),
                sigma=1 / np.broadcast_to(scaled.weight, scaled.loss.shape),
                bounds=(low, high),
                jac=gradient,
                x_scale="jac",
                ftol=1e-14,
                xtol=1e-14,
                gtol=1e-14,
                max_nfev=2000,
            )
        except RuntimeError as error:
            unknown = np.full((len(start), len(start)), np.inf)
            return start, unknown, (f"curve_fit gave up: {error}.",)
    return theta, covariance, stalled(form, scaled, start, theta)


def _unscale(form: Form, covariance: np.ndarray, theta: np.ndarray, units: tuple[float, float]) -> np.ndarray:
    """Return the (P, P) covariance after `rescale`, to first order (delta method)."""

    def to_table(x: np.ndarray) -> np.ndarray:
        return form.rescale(x, 1 / units[0], 1 / units[1])

    size = np.maximum(np.abs(to_table(theta)), 1e-300)
    jacobian = np.asarray(approx_fprime(theta, lambda x: to_table(x) / size, 1e-7))
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(jacobian @ covariance @ jacobian.T) * np.outer(size, size)
