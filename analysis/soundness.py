"""Is an optimum one? Parameters and scaled cells in, sentences about silent failures out.

scipy may hand its start back, stop on a slope, rest on a bound or return an infinite covariance without an error.
"""

import numpy as np

from analysis.forms import Form, Points

_NEGLIGIBLE = 1e-4
"""A term below this share of the smallest loss is at its bound of zero."""
_MEANING = {
    "C_N": "the loss does not depend on the number of parameters within these cells",
    "C_D": "the loss does not depend on the number of events within these cells",
    "A": "the loss does not fall along this axis within these cells",
    "L0": "the cells show no floor, so a loss beyond them cannot be told",
}


def stalled(form: Form, scaled: Points, start: np.ndarray, theta: np.ndarray) -> tuple[str, ...]:
    """Return why `theta` is no least-squares optimum.

    The test is the first-order condition, not the distance from the start: a good start may be the optimum. The cosine
    between the residual and each free column of the Jacobian is zero at a least-squares optimum (MINPACK's gtol).
    """
    low, high = form.bounds()
    stray = [f"{name} = {value:.3g}" for name, value in zip(form.parameters, theta, strict=True)]
    stray = [words for words, out in zip(stray, (theta < low) | (theta > high), strict=True) if out]
    if stray:
        return (f"curve_fit strayed out of every law's range: {', '.join(stray)}.",)
    fitted, jacobian = (array[0] for array in form.linearize(np.asarray(theta, float)[None], scaled))
    if not np.isfinite(fitted).all():
        return ("curve_fit stopped where the law is not finite.",)
    residual = scaled.weight * (fitted - scaled.loss)
    jacobian = jacobian * np.broadcast_to(scaled.weight, residual.shape)[:, None]
    free = (theta > low + 1e-6) & (theta < high - 1e-6)
    norm = np.linalg.norm(jacobian, axis=0) * np.linalg.norm(residual)
    free &= norm > 0
    if np.linalg.norm(residual) <= 1e-10 * np.linalg.norm(scaled.loss) or not free.any():
        return ()
    cosine = float(np.abs((jacobian.T @ residual)[free] / norm[free]).max())
    if cosine < 1e-4:
        return ()
    what = "handed its start back unchanged" if np.array_equal(theta, start) else "stopped before an optimum"
    return (f"curve_fit {what}: the residuals still lean on a parameter (cosine {cosine:.2g}, 0 at an optimum).",)


def bound_failures(form: Form, theta: np.ndarray, scaled: Points) -> tuple[str, ...]:
    """Return a sentence for each scaled parameter that rests on its bound."""
    low, high = form.bounds()
    zero = _NEGLIGIBLE * scaled.loss.min()
    failures = []
    for at, name in enumerate(form.parameters):
        if name in _MEANING:
            if theta[at] <= zero:
                failures.append(f"{name} is at its bound 0: {_MEANING[name]}.")
            continue
        if name in form.may_be_free:
            continue
        margins = 1e-3 * np.maximum(1.0, np.abs([low[at], high[at]]))
        if not low[at] + margins[0] < theta[at] < high[at] - margins[1]:
            failures.append(f"{name} = {theta[at]:.3g} is at the bound of its range {low[at]:g} .. {high[at]:g}.")
    return tuple(failures)


def is_singular(form: Form, theta: np.ndarray, scaled: Points) -> bool:
    """Return whether some direction of the parameters leaves every loss as it is; scipy's covariance may hide that."""
    needed = [at for at, name in enumerate(form.parameters) if name not in form.may_be_free]
    jacobian = form.linearize(theta[None], scaled)[1][0][:, needed]
    length = np.linalg.norm(jacobian, axis=0)
    return bool((length == 0).any() or np.linalg.matrix_rank(jacobian / length, tol=1e-9) < len(needed))
