"""Huber fit of the separable law on log losses: scaled cells and starts in, parameters and their covariance out.

The objective of Hoffmann et al. 2022 (appendix D.3): sum of Huber_delta(log L_hat - log L) with delta = 1e-3 and log
L_hat as a log-sum-exp of the three terms, minimised by L-BFGS-B from many starts with the analytic gradient.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.stats import median_abs_deviation

from analysis.forms import Points, separable, separable_gradient
from analysis.start import EXPONENT_BOUNDS

DELTA = 1e-3
"""Where the penalty turns from squared to absolute, in units of relative loss."""
_RANGE = (1e-6, 10.0)
"""A term at the centre of the cells lies within these multiples of the smallest and the largest loss."""
_MAX_RESTARTS = 10
_ENOUGH = 8
"""Starts that end at the same lowest objective; the others are then spared."""


def minimize_huber(points: Points, starts: list[np.ndarray]) -> np.ndarray:
    """Return the (5,) parameters of the lowest objective reached from any of the starts.

    Args:
        points: Cells in scaled units (N and D around 1).
        starts: (5,) parameters each.
    """
    logs = np.log(points.num_params), np.log(points.num_events), np.log(points.loss)
    low, high = np.log(_RANGE[0] * points.loss.min()), np.log(_RANGE[1] * points.loss.max())
    bounds = [(low, high), EXPONENT_BOUNDS, (low, high), EXPONENT_BOUNDS, (low, high)]
    options = {"maxiter": 2000, "maxfun": 4000, "maxcor": 20, "ftol": 1e-14, "gtol": 1e-7}

    def descend(x: np.ndarray) -> tuple[float, np.ndarray]:
        result = minimize(_objective, x, args=logs, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        return float(result.fun), result.x

    reached: list[tuple[float, np.ndarray]] = []
    for start in starts:
        reached.append(descend(_to_log(start, low)))
        best = min(value for value, _ in reached)
        if sum(value <= best * (1 + 1e-6) for value, _ in reached) == _ENOUGH:
            break
    value, x = min(reached, key=lambda pair: pair[0])
    # Its curvature jumps at every |residual| = delta, where L-BFGS-B may stop early: start it afresh while that helps.
    for _ in range(_MAX_RESTARTS):
        before = value
        value, x = min((value, x), descend(x), key=lambda pair: pair[0])
        if value >= before * (1 - 1e-6):
            break
    return _from_log(x)


def huber_objective(points: Points, theta: np.ndarray) -> float:
    """Return the sum of Huber penalties of the log residuals."""
    residual = np.abs(log_residual(points, theta))
    return float(np.where(residual <= DELTA, residual**2 / 2, DELTA * (residual - DELTA / 2)).sum())


def log_residual(points: Points, theta: np.ndarray) -> np.ndarray:
    """Return (C,) log L - log L_hat."""
    return np.log(points.loss) - np.log(separable(theta, points.num_params, points.num_events))


def huber_covariance(points: Points, theta: np.ndarray) -> np.ndarray:
    """Return the (5, 5) asymptotic covariance of an M-estimate: E[psi^2] / E[psi']^2 (J'J)^-1 (Huber 1981, ch. 7).

    E[psi'] is the share of residuals within delta. With a delta far below the scatter almost none are, so the share is
    read from a wider band around zero, as is usual for the median (Powell 1991).
    """
    residual = log_residual(points, theta)
    predicted = separable(theta, points.num_params, points.num_events)
    jacobian = separable_gradient(theta, points.num_params, points.num_events) / predicted[:, None]
    scatter = 1.4826 * float(median_abs_deviation(residual))
    band = max(DELTA, 1.06 * scatter * len(residual) ** -0.2)
    slope = np.mean(np.abs(residual) <= band) * DELTA / band
    psi = np.clip(residual, -DELTA, DELTA)
    variance = (psi**2).sum() / (len(residual) - 5) / slope**2
    return variance * np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-14)


def _objective(
    x: np.ndarray, log_params: np.ndarray, log_events: np.ndarray, log_loss: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return the objective over delta^2, which is of order C, and its gradient by x = (log C_N, alpha, ..., log L0)."""
    terms = np.stack([x[0] - x[1] * log_params, x[2] - x[3] * log_events, np.full_like(log_loss, x[4])])
    top = terms.max(axis=0)
    share = np.exp(terms - top)
    total = share.sum(axis=0)
    residual = (top + np.log(total) - log_loss) / DELTA
    size = np.abs(residual)
    value = np.where(size <= 1, size**2 / 2, size - 0.5).sum()
    pull = np.clip(residual, -1, 1) * share / total / DELTA
    model, data, floor = pull.sum(axis=1)
    return value, np.array([model, -pull[0] @ log_params, data, -pull[1] @ log_events, floor])


def _to_log(theta: np.ndarray, low: float) -> np.ndarray:
    x = np.array(theta, float)
    x[::2] = np.log(np.maximum(x[::2], np.exp(low)))
    x[1::2] = np.clip(x[1::2], *EXPONENT_BOUNDS)
    return x


def _from_log(x: np.ndarray) -> np.ndarray:
    theta = np.array(x, float)
    theta[::2] = np.exp(theta[::2])
    return theta
