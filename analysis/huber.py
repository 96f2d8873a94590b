"""Huber fit on log losses: scaled cells and starts in, parameters and their covariance out.

The objective of Hoffmann et al. 2022 (appendix D.3), sum of Huber_delta(log L_hat - log L) with delta = 1e-3, minimised
from many starts at once (refit.py) and from the best of them by L-BFGS-B with the analytic gradient.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.stats import median_abs_deviation

from analysis.forms import Form, Points
from analysis.refit import DELTA, penalty, residuals

_FLOOR = 1e-6
"""A coefficient of scaled cells is at least this share of the smallest loss: its logarithm must be finite."""
_MAX_RESTARTS = 10
_OPTIONS = {"maxiter": 2000, "maxfun": 4000, "maxcor": 20, "ftol": 1e-14, "gtol": 1e-7}


def minimize_huber(form: Form, points: Points, start: np.ndarray) -> np.ndarray:
    """Return the (P,) parameters of the lowest objective that L-BFGS-B reaches from `start`.

    Args:
        form: The law.
        points: Cells in scaled units (N and D around 1).
        start: (P,) near the optimum.
    """
    low, high = form.bounds()
    in_logs = low == 0
    least = np.where(in_logs, _FLOOR * points.loss.min(), low)

    def to_theta(x: np.ndarray) -> np.ndarray:
        return np.where(in_logs, np.exp(np.where(in_logs, x, 0.0)), x)

    def to_x(theta: np.ndarray) -> np.ndarray:
        inside = np.clip(theta, least, high)
        return np.where(in_logs, np.log(np.where(in_logs, inside, 1.0)), inside)

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        theta = to_theta(x)
        fitted, jacobian = (array[0] for array in form.linearize(theta[None], points))
        residual = residuals(fitted, points.loss, points.weight, "huber")
        pull = np.clip(residual, -1, 1) * points.weight / (np.maximum(fitted, 1e-300) * DELTA)
        return float(penalty(residual, "huber")), (pull @ jacobian) * np.where(in_logs, theta, 1.0)

    bounds = list(zip(to_x(least), np.where(np.isinf(high), np.inf, high), strict=True))
    x = to_x(np.asarray(start, float))
    value = objective(x)[0]
    # Its curvature jumps at every |residual| = delta, where L-BFGS-B may stop early: start it afresh while that helps.
    for _ in range(_MAX_RESTARTS):
        found = minimize(objective, x, jac=True, method="L-BFGS-B", bounds=bounds, options=_OPTIONS)
        before = value
        value, x = min((value, x), (float(found.fun), found.x), key=lambda pair: pair[0])
        if value >= before * (1 - 1e-8):
            break
    return to_theta(x)


def huber_objective(fitted: np.ndarray, loss: np.ndarray, weight: np.ndarray | float = 1.0) -> float:
    """Return the sum of Huber penalties of the log residuals, in the units of Hoffmann et al."""
    return float(penalty(residuals(fitted, loss, np.asarray(weight), "huber"), "huber")) * DELTA**2


def huber_covariance(form: Form, points: Points, theta: np.ndarray) -> np.ndarray:
    """Return the (P, P) asymptotic covariance of an M-estimate: E[psi^2] / E[psi']^2 (J'J)^-1 (Huber 1981, ch. 7).

    E[psi'] is the share of residuals within delta. With a delta far below the scatter almost none are, so the share is
    read from a wider band around zero, as is usual for the median (Powell 1991).
    """
    fitted, jacobian = (array[0] for array in form.linearize(theta[None], points))
    residual = residuals(fitted, points.loss, points.weight, "huber") * DELTA
    jacobian = jacobian * (points.weight / fitted)[:, None]
    scatter = 1.4826 * float(median_abs_deviation(residual))
    band = max(DELTA, 1.06 * scatter * len(residual) ** -0.2)
    slope = np.mean(np.abs(residual) <= band) * DELTA / band
    psi = np.clip(residual, -DELTA, DELTA)
    variance = (psi**2).sum() / max(len(residual) - len(theta), 1) / slope**2
    return variance * np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-14)
