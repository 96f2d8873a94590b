"""Does the law predict larger runs? Cells in, the error of laws fitted to the cheaper cells on the dearer ones out.

The cells are ordered by compute and cut at three places; below each cut a law is fitted, and scored on the cells
between the cut and the next: the ladder that one climbs in practice, walked on runs that are already known.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from analysis.fit import NUM_PARAMETERS, Method, fit
from analysis.forms import Points, separable

_CUTS = (0.5, 0.65, 0.8)
"""Shares of the cells, by compute, below which a law is fitted."""
NUM_RUNGS = len(_CUTS)


class Rung(NamedTuple):
    """One step of the ladder."""

    rung: float
    """FLOPs at the cut: cells up to here were fitted."""
    error: float
    """Mean |L_hat / L - 1| on the cells of the step."""
    bias: float
    """Mean L_hat / L - 1: below zero when the law promised too much."""
    n_fitted: int
    n_held_out: int


def climb(points: Points, method: Method, flops_per_param_event: float, min_levels: int) -> tuple[Rung, ...]:
    """Return the rungs whose cheaper cells give a law: a spare cell, `min_levels` levels of N and D, a sound fit."""
    compute = points.compute() * flops_per_param_event
    cuts = [*np.quantile(compute, _CUTS), np.inf]
    rungs = []
    for cut, following in pairwise(cuts):
        below, step = points.take(compute <= cut), points.take((compute > cut) & (compute <= following))
        levels = min(len(np.unique(below.num_params)), len(np.unique(below.num_events)))
        if levels < min_levels or len(below.loss) <= NUM_PARAMETERS or not len(step.loss):
            continue
        law = fit(below, method)
        if law.failures:
            continue
        miss = separable(np.array(law.parameters), step.num_params, step.num_events) / step.loss - 1
        rungs.append(Rung(float(cut), float(np.abs(miss).mean()), float(miss.mean()), len(below.loss), len(step.loss)))
    return tuple(rungs)
