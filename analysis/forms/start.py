"""Where a fit starts: cells in, parameters near the best of the whole exponent plane out, no guess needed.

For given exponents the separable law is linear in (C_N, C_D, L0), so the search is over two numbers only: a grid over
(alpha, beta), non-negative least squares inside (variable projection, Golub & Pereyra 1973).
"""

import numpy as np
from scipy.optimize import nnls

from analysis.forms.points import Points

_GRID = np.geomspace(0.02, 2.5, 18)
_FAR = 6
"""Starts that are kept; each differs from the better ones by more than two nodes of the grid in an exponent."""


def project(columns: np.ndarray, loss: np.ndarray, relative: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the (Q,) best non-negative coefficients of (C, Q) columns, and the root of their squared error."""
    return nnls(columns * relative[:, None], loss * relative)


def variable_projection(points: Points, relative: np.ndarray, *, tied: bool = False) -> np.ndarray:
    """Return (S, 5) separable parameters, best first: the node of the lowest error, then far ones in their order.

    Args:
        points: Cells in any units; the coefficients are of the same.
        relative: (C,) weight of each residual.
        tied: Only nodes with alpha = beta.
    """
    # Powers of centred logs keep the columns of order one, whatever the units.
    log_params, log_events = np.log(points.num_params), np.log(points.num_events)
    models = np.exp(-_GRID[:, None] * (log_params - log_params.mean()))
    datas = np.exp(-_GRID[:, None] * (log_events - log_events.mean()))
    ones = np.ones_like(points.loss)
    nodes = [(i, j) for i in range(len(_GRID)) for j in range(len(_GRID)) if i == j or not tied]
    found = [project(np.stack([models[i], datas[j], ones], -1), points.loss, relative) for i, j in nodes]
    chosen: list[int] = []
    for at in np.argsort([cost for _, cost in found], kind="stable"):
        gaps = [max(abs(nodes[at][axis] - nodes[best][axis]) for axis in (0, 1)) for best in chosen]
        if all(gap > 2 for gap in gaps):
            chosen.append(int(at))
        if len(chosen) == _FAR:
            break
    starts = []
    for at in chosen:
        (C_N, C_D, L0), (alpha, beta) = found[at][0], _GRID[list(nodes[at])]
        starts.append(
            (C_N * np.exp(alpha * log_params.mean()), alpha, C_D * np.exp(beta * log_events.mean()), beta, L0)
        )
    return np.array(starts)
