"""Refit one form to many sets of losses at once: starts and (B, C) losses in, (B, P) parameters out.

Levenberg-Marquardt on all draws together, one small linear system a draw and step. The Huber objective is the same
problem with weights min(1, delta / |residual|), renewed at each step (iteratively reweighted least squares), whose
quadratic lies above the Huber penalty and touches it, so a step that lowers the one lowers the other.
"""

from typing import Final, Literal, get_args

import numpy as np

from analysis.forms import Form, Points

Method = Literal["curve_fit", "huber"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)
DELTA = 1e-3
"""Where Huber's penalty turns from squared to absolute, in units of relative loss (Hoffmann et al. 2022, D.3)."""
_MAX_STEPS = 400
_MAX_DAMPING = 1e8


def refit(
    form: Form, points: Points, losses: np.ndarray, starts: np.ndarray, method: Method, *, tolerance: float = 1e-6
) -> np.ndarray:
    """Return (B, P) parameters, one law for each row of losses.

    Args:
        form: The law.
        points: Cells in scaled units (N and D around 1); their own losses are not read.
        losses: (B, C).
        starts: (P,) where every draw starts, or (B, P).
        method: Whose objective is minimised.
        tolerance: A draw is done when a step lowers its objective by less than this share, or moves uphill however
            short it is.
    """
    bounds = form.bounds()
    thetas = np.clip(np.broadcast_to(starts, (len(losses), len(form.parameters))), *bounds)
    damping = np.full(len(losses), 1e-3)
    active = np.arange(len(losses))
    for _ in range(_MAX_STEPS):
        now, target = thetas[active], losses[active]
        residual, jacobian = _linearize(form, points, now, target, method)
        cost = penalty(residual, method)
        step = _step(residual, jacobian, now, damping[active], bounds, method)
        trial = np.clip(now + step, *bounds)
        gain = cost - penalty(residuals(form.predict(trial, points), target, points.weight, method), method)
        better = gain > 0
        thetas[active[better]] = trial[better]
        damping[active] *= np.where(better, 0.3, 4.0)
        done = (better & (gain <= tolerance * cost)) | (damping[active] > _MAX_DAMPING)
        active = active[~done]
        if not len(active):
            break
    return thetas


def residuals(fitted: np.ndarray, loss: np.ndarray, weight: np.ndarray, method: Method) -> np.ndarray:
    """Return (..., C) weighted residuals: of the loss, or of its logarithm in units of delta."""
    if method == "curve_fit":
        return weight * (fitted - loss)
    return weight * np.log(np.maximum(fitted, 1e-300) / loss) / DELTA


def penalty(residual: np.ndarray, method: Method) -> np.ndarray:
    """Return (...) objectives of (..., C) residuals."""
    if method == "curve_fit":
        return np.einsum("...c,...c->...", residual, residual) / 2
    size = np.abs(residual)
    return np.where(size <= 1, size**2 / 2, size - 0.5).sum(axis=-1)


def _linearize(
    form: Form, points: Points, thetas: np.ndarray, losses: np.ndarray, method: Method
) -> tuple[np.ndarray, np.ndarray]:
    """Return (B, C) residuals and their (B, C, P) Jacobian."""
    fitted, jacobian = form.linearize(thetas, points)
    if method == "huber":
        jacobian = jacobian * (points.weight / (np.maximum(fitted, 1e-300) * DELTA))[..., None]
    else:
        jacobian = jacobian * np.broadcast_to(points.weight, losses.shape[-1:])[:, None]
    return residuals(fitted, losses, points.weight, method), jacobian


def _step(
    residual: np.ndarray,
    jacobian: np.ndarray,
    thetas: np.ndarray,
    damping: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
    method: Method,
) -> np.ndarray:
    """Return (B, P) damped Gauss-Newton steps; a parameter that its gradient holds at a bound stays there."""
    weight = np.ones_like(residual) if method == "curve_fit" else 1 / np.maximum(1, np.abs(residual))
    weighted = np.swapaxes(jacobian * weight[..., None], 1, 2)
    normal, gradient = weighted @ jacobian, (weighted @ residual[..., None])[..., 0]
    held = ((thetas <= bounds[0]) & (gradient > 0)) | ((thetas >= bounds[1]) & (gradient < 0))
    normal[held[:, :, None] | held[:, None, :]] = 0
    gradient[held] = 0
    diagonal = np.einsum("bii->bi", normal)
    diagonal += damping[:, None] * diagonal + 1e-12 * diagonal.max(axis=1, keepdims=True) + held
    return -np.linalg.solve(normal, gradient[..., None])[..., 0]
