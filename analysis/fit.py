"""Fit the separable law: cells in, one `Fit` out, by either method and never a silent failure.

`curve_fit` is the paper's method (scipy's, least squares on the loss); `huber` is the robust one on log losses.
Both work with N and D divided by their geometric means, start from `variable_projection` and say when they failed.
"""

import warnings
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit

from analysis.forms import Parameters, Points, r_squared, rescale, separable, separable_gradient
from analysis.huber import huber_covariance, huber_objective, minimize_huber
from analysis.start import EXPONENT_BOUNDS, spread_starts, variable_projection

Method = Literal["curve_fit", "huber"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)
NUM_PARAMETERS = len(Parameters._fields)

_NEGLIGIBLE = 1e-4
"""A term below this share of the smallest loss is at its bound of zero."""
_SPREAD = (0.05, 0.15, 0.3, 0.5, 0.8, 1.3)
"""Exponents of the starts far from the variable-projection solution."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """The law that one method found, with what it says about its own trustworthiness."""

    method: Method
    parameters: Parameters
    stderr: Parameters
    """Asymptotic standard errors; the bootstrap's intervals are the ones to quote."""
    covariance: np.ndarray
    """(5, 5) in the order of `Parameters`."""
    r2: float
    """1 - SS_residual / SS_total of the losses."""
    mean_error: float
    """Mean of |L_hat / L - 1| over the cells of the fit."""
    n_used: int
    objective: float
    """Sum of squared residuals (curve_fit) or of Huber penalties of log residuals (huber)."""
    failures: tuple[str, ...]
    """Why the parameters are not to be believed; empty for a sound fit."""


def fit(points: Points, method: Method) -> Fit:
    """Return the law that `method` finds for the points; needs more points than parameters."""
    scaled, units = scale(points)
    if method == "curve_fit":
        theta, covariance, failures = _curve_fit(scaled, variable_projection(scaled, np.ones_like(scaled.loss)))
        objective = float(((separable(theta, *scaled[:2]) - scaled.loss) ** 2).sum())
    else:
        theta = minimize_huber(scaled, huber_starts(scaled))
        covariance, failures = huber_covariance(scaled, theta), ()
        objective = huber_objective(scaled, theta)
    failures += bound_failures(theta, scaled.loss)
    if not np.isfinite(covariance).all() or _is_singular(scaled, theta):
        failures += ("The parameters' covariance is infinite or singular: the cells do not determine all five.",)
    parameters = rescale(theta, 1 / units[0], 1 / units[1])
    covariance = _unscaled_covariance(covariance, theta, parameters, units)
    return Fit(
        method=method,
        parameters=Parameters(*parameters.tolist()),
        stderr=Parameters(*np.sqrt(np.maximum(np.diag(covariance), 0)).tolist()),
        covariance=covariance,
        r2=r_squared(points, parameters),
        mean_error=float(np.abs(separable(theta, *scaled[:2]) / scaled.loss - 1).mean()),
        n_used=len(points.loss),
        objective=objective,
        failures=failures,
    )


def scale(points: Points) -> tuple[Points, tuple[float, float]]:
    """Return the points with N and D in units of their geometric means, and the two units."""
    units = tuple(float(np.exp(np.log(column).mean())) for column in points[:2])
    return Points(points.num_params / units[0], points.num_events / units[1], points.loss), (units[0], units[1])


def huber_starts(scaled: Points) -> list[np.ndarray]:
    """Return the starts of a Huber fit: variable projection on relative residuals, then a spread of exponents."""
    relative = 1 / scaled.loss
    return [variable_projection(scaled, relative), *spread_starts(scaled, relative, _SPREAD)]


def least_squares_bounds() -> tuple[list[float], list[float]]:
    """Return the lower and upper bounds of the five scaled parameters."""
    low, high = EXPONENT_BOUNDS
    return [0.0, low, 0.0, low, 0.0], [np.inf, high, np.inf, high, np.inf]


def _curve_fit(scaled: Points, start: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return parameters, covariance and failures of scipy's curve_fit on scaled points, from a given start."""

    def law(x: np.ndarray, *theta: float) -> np.ndarray:
        return separable(np.array(theta), x[0], x[1])

    def gradient(x: np.ndarray, *theta: float) -> np.ndarray:
        return separable_gradient(np.array(theta), x[0], x[1])

    low, high = least_squares_bounds()
    with warnings.catch_warnings():
        # An infinite covariance is looked for in what comes back, where it can be refused with a reason.
        warnings.simplefilter("ignore", OptimizeWarning)
        try:
            theta, covariance = curve_fit(
                law,
                np.stack(scaled[:2]),
                scaled.loss,
                p0=np.clip(start, low, high),
                bounds=(low, high),
                jac=gradient,
                x_scale="jac",
                ftol=1e-14,
                xtol=1e-14,
                gtol=1e-14,
                max_nfev=20_000,
            )
        except RuntimeError as error:
            return start, np.full((5, 5), np.inf), (f"curve_fit gave up: {error}.",)
    return theta, covariance, stalled(scaled, start, theta)


def stalled(scaled: Points, start: np.ndarray, theta: np.ndarray) -> tuple[str, ...]:
    """Return why `theta` is no optimum: scipy may hand the start back, or stop on a slope, without an error.

    The test is the first-order condition, not the distance from the start: a good start may be the optimum. The cosine
    between the residual and each free column of the Jacobian is zero at a least-squares optimum (MINPACK's gtol).
    """
    residual = separable(theta, *scaled[:2]) - scaled.loss
    jacobian = separable_gradient(theta, *scaled[:2])
    low, high = least_squares_bounds()
    free = (theta > np.array(low) + 1e-6) & (theta < np.array(high) - 1e-6)
    norm = np.linalg.norm(jacobian, axis=0) * np.linalg.norm(residual)
    free &= norm > 0
    if np.linalg.norm(residual) <= 1e-10 * np.linalg.norm(scaled.loss) or not free.any():
        return ()
    cosine = float(np.abs((jacobian.T @ residual)[free] / norm[free]).max())
    if cosine < 1e-4:
        return ()
    what = "handed its start back unchanged" if np.array_equal(theta, start) else "stopped before an optimum"
    return (f"curve_fit {what}: the residuals still lean on a parameter (cosine {cosine:.2g}, 0 at an optimum).",)


def bound_failures(theta: np.ndarray, loss: np.ndarray) -> tuple[str, ...]:
    """Return a sentence for each scaled parameter that rests on its bound."""
    zero = _NEGLIGIBLE * loss.min()
    low, high = EXPONENT_BOUNDS
    failures = [
        f"{name} is at its bound 0: {meaning}."
        for name, value, meaning in (
            ("C_N", theta[0], "the loss does not depend on the number of parameters within these cells"),
            ("C_D", theta[2], "the loss does not depend on the number of events within these cells"),
            ("L0", theta[4], "the cells show no floor, so a loss beyond them cannot be told"),
        )
        if value <= zero
    ]
    for name, value in (("alpha", theta[1]), ("beta", theta[3])):
        if not low + 1e-3 < value < high - 1e-3:
            failures.append(f"{name} = {value:.3g} is at the bound of its range {low} .. {high}.")
    return tuple(failures)


def _is_singular(scaled: Points, theta: np.ndarray) -> bool:
    """Return whether some direction of the parameters leaves every loss as it is; scipy's covariance may hide that."""
    jacobian = separable_gradient(theta, *scaled[:2])
    length = np.linalg.norm(jacobian, axis=0)
    return bool((length == 0).any() or np.linalg.matrix_rank(jacobian / length, tol=1e-9) < NUM_PARAMETERS)


def _unscaled_covariance(
    covariance: np.ndarray, theta: np.ndarray, parameters: np.ndarray, units: tuple[float, float]
) -> np.ndarray:
    """Return the (5, 5) covariance after `rescale`, to first order (delta method)."""
    jacobian = np.eye(NUM_PARAMETERS)
    for at, unit in ((0, units[0]), (2, units[1])):
        jacobian[at, at] = parameters[at] / theta[at] if theta[at] > 0 else 1.0
        jacobian[at, at + 1] = parameters[at] * np.log(unit)
    with np.errstate(invalid="ignore"):
        return jacobian @ covariance @ jacobian.T
