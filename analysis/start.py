"""Where a fit starts: cells in, parameters near the best of the whole exponent plane out, no guess needed.

For given exponents the separable law is linear in (C_N, C_D, L0), so the search is over two numbers only: a grid over
(alpha, beta), non-negative least squares inside (variable projection, Golub & Pereyra 1973). Works in scaled units.
"""

import numpy as np
from scipy.optimize import nnls

from analysis.forms import Points, separable

EXPONENT_BOUNDS = (0.01, 3.0)
"""Below, a power law is a constant that L0 already gives; above, the term is gone after one doubling."""
_GRID = np.geomspace(0.02, 2.5, 20)
_ZOOMS = 4


def project(exponents: tuple[float, float], points: Points, weight: np.ndarray) -> np.ndarray:
    """Return the (5,) parameters whose linear part is the best non-negative one for the two exponents.

    Args:
        exponents: alpha and beta.
        points: Cells in scaled units (N and D around 1).
        weight: (C,) factor of each residual.
    """
    alpha, beta = exponents
    columns = np.stack([points.num_params**-alpha, points.num_events**-beta, np.ones_like(points.loss)], axis=-1)
    C_N, C_D, L0 = nnls(columns * weight[:, None], points.loss * weight)[0]
    return np.array([C_N, alpha, C_D, beta, L0])


def variable_projection(points: Points, weight: np.ndarray) -> np.ndarray:
    """Return the (5,) least-squares parameters found by the grid and `_ZOOMS` finer grids around its best node."""
    alphas = betas = _GRID
    best, step = np.full(5, np.nan), _GRID[1] / _GRID[0]
    for _ in range(_ZOOMS):
        candidates = [project((alpha, beta), points, weight) for alpha in alphas for beta in betas]
        best = min(candidates, key=lambda theta: _cost(theta, points, weight))
        zoom = np.geomspace(1 / step, step, 9)
        alphas, betas = (np.clip(best[index] * zoom, *EXPONENT_BOUNDS) for index in (1, 3))
        step = step**0.25
    return best


def spread_starts(points: Points, weight: np.ndarray, levels: tuple[float, ...]) -> list[np.ndarray]:
    """Return one (5,) start for every pair of exponents from `levels`, each with its best linear part, well mixed."""
    pairs = [(alpha, beta) for alpha in levels for beta in levels]
    return [project(pairs[at], points, weight) for at in np.random.default_rng(0).permutation(len(pairs))]


def _cost(theta: np.ndarray, points: Points, weight: np.ndarray) -> float:
    residual = separable(theta, points.num_params, points.num_events) - points.loss
    return float(((weight * residual) ** 2).sum())
