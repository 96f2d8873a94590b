"""Refit one law to many sets of losses at once: a start and (B, C) losses in, (B, 5) parameters out.

Levenberg-Marquardt on all draws together, one small linear system a draw and step. The Huber objective is the same
problem with weights min(1, delta / |residual|), renewed at each step (iteratively reweighted least squares), whose
quadratic lies above the Huber penalty and touches it, so a step that lowers the one lowers the other.
"""

import numpy as np

from analysis.fit import Method, least_squares_bounds
from analysis.forms import Points, separable
from analysis.huber import DELTA

_MAX_STEPS = 400
_TOLERANCE = 1e-6
"""A draw is done when a step lowers its objective by less than this share, or moves uphill however short it is."""
_MAX_DAMPING = 1e8


def refit(points: Points, losses: np.ndarray, theta: np.ndarray, method: Method) -> np.ndarray:
    """Return (B, 5) parameters, one law for each row of losses.

    Args:
        points: Cells in scaled units (N and D around 1); their own losses are not read.
        losses: (B, C).
        theta: (5,) where every draw starts.
        method: Whose objective is minimised.
    """
    low, high = (np.array(bound) for bound in least_squares_bounds())
    thetas = np.tile(np.clip(theta, low, high), (len(losses), 1))
    damping = np.full(len(losses), 1e-3)
    active = np.arange(len(losses))
    for _ in range(_MAX_STEPS):
        now, target = thetas[active], losses[active]
        residual, jacobian = _linearize(points, now, target, method)
        cost = _cost(residual, method)
        step = _step(residual, jacobian, now, damping[active], (low, high), method)
        trial = np.clip(now + step, low, high)
        gain = cost - _cost(_residual(points, trial, target, method), method)
        better = gain > 0
        thetas[active[better]] = trial[better]
        damping[active] *= np.where(better, 0.3, 4.0)
        done = (better & (gain <= _TOLERANCE * cost)) | (damping[active] > _MAX_DAMPING)
        active = active[~done]
        if not len(active):
            break
    return thetas


def _residual(points: Points, thetas: np.ndarray, losses: np.ndarray, method: Method) -> np.ndarray:
    """Return (B, C) residuals: of the loss, or of its logarithm in units of delta."""
    fitted = separable(thetas, points.num_params, points.num_events)
    return fitted - losses if method == "curve_fit" else np.log(np.maximum(fitted, 1e-300) / losses) / DELTA


def _cost(residual: np.ndarray, method: Method) -> np.ndarray:
    """Return (B,) objectives."""
    size = np.abs(residual)
    penalty = size**2 / 2 if method == "curve_fit" else np.where(size <= 1, size**2 / 2, size - 0.5)
    return penalty.sum(axis=1)


def _linearize(points: Points, thetas: np.ndarray, losses: np.ndarray, method: Method) -> tuple[np.ndarray, np.ndarray]:
    """Return (B, C) residuals and their (B, C, 5) Jacobian."""
    C_N, alpha, C_D, beta, L0 = (column[:, None] for column in thetas.T)
    model, data = points.num_params**-alpha, points.num_events**-beta
    columns = (
        model,
        -C_N * model * np.log(points.num_params),
        data,
        -C_D * data * np.log(points.num_events),
        np.ones_like(model),
    )
    jacobian = np.stack(columns, axis=-1)
    if method == "huber":
        jacobian /= (np.maximum(C_N * model + C_D * data + L0, 1e-300) * DELTA)[..., None]
    return _residual(points, thetas, losses, method), jacobian


def _step(
    residual: np.ndarray,
    jacobian: np.ndarray,
    thetas: np.ndarray,
    damping: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
    method: Method,
) -> np.ndarray:
    """Return (B, 5) damped Gauss-Newton steps; a parameter that its gradient holds at a bound stays there."""
    weight = np.ones_like(residual) if method == "curve_fit" else 1 / np.maximum(1, np.abs(residual))
    weighted = jacobian * weight[..., None]
    normal = np.einsum("bci,bcj->bij", weighted, jacobian)
    gradient = np.einsum("bci,bc->bi", weighted, residual)
    held = ((thetas <= bounds[0]) & (gradient > 0)) | ((thetas >= bounds[1]) & (gradient < 0))
    normal[held[:, :, None] | held[:, None, :]] = 0
    gradient[held] = 0
    diagonal = np.einsum("bii->bi", normal)
    diagonal += damping[:, None] * diagonal + 1e-12 * diagonal.max(axis=1, keepdims=True) + held
    return -np.linalg.solve(normal, gradient[..., None])[..., 0]
