"""The optimum without a law: cells and budgets in, the best N of each budget by two older methods out.

At each budget C every model size with cells on both sides of D = C / (k N) gives a loss there, interpolated between
its own cells (log loss over log D). Approach 2 (IsoFLOP) puts a parabola in log N through them, approach 1 (envelope)
takes the lowest (Hoffmann et al. 2022, sections 3.1 and 3.2). A law that disagrees with both is not to be trusted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.fit import Fit
from analysis.forms import Points
from analysis.frontier import best_log_params, line

_SAME_SIZE = 0.03
"""Sizes this close, in log N, are one."""
_NUM_BUDGETS = 9
_MIN_SIZES = 4
_MIN_VALLEYS = 3
_NEAR = np.log(10.0)
"""A parabola is a local picture: sizes within this of the lowest take part."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Valley:
    """The losses of one budget over model sizes."""

    flops: float
    num_params: np.ndarray
    """(M,) sizes, rising."""
    loss: np.ndarray
    """(M,) interpolated losses."""
    parabola: np.ndarray
    """(3,) coefficients over log N, highest power first; NaN with too few sizes."""
    isoflop: float
    """N at the parabola's lowest point, NaN unless it lies inside the sizes."""
    envelope: float
    """N of the lowest loss, NaN when it is the smallest or the largest size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossCheck:
    """What one method says beside the law."""

    method: Literal["isoflop", "envelope"]
    num_budgets: int
    """Budgets where it finds an optimum inside the sizes."""
    exponent: float
    """a in N* = c C^a; NaN with fewer than three budgets."""
    law_exponent: float
    """The law's own a over the same budgets."""
    disagreement: float
    """Typical factor between its N* and the law's (median of the absolute log ratio); NaN with none."""


def find_valleys(points: Points, rate: float, budgets: Sequence[float] = ()) -> tuple[Valley, ...]:
    """Return the valleys with at least three sizes; by default at nine budgets within the cells' compute."""
    if not budgets:
        low, high = np.quantile(np.log(rate * points.compute()), [0.1, 0.95])
        budgets = tuple(np.exp(np.linspace(low, high, _NUM_BUDGETS)).tolist())
    curves = _curves(points)
    valleys = []
    for flops in budgets:
        found = [(size, loss) for size, curve in curves if (loss := _at(curve, flops / (rate * size))) is not None]
        if len(found) >= _MIN_SIZES - 1:
            valleys.append(_valley(flops, np.array(found)))
    return tuple(valleys)


def cross_check(fit: Fit, points: Points, rate: float, valleys: Sequence[Valley]) -> tuple[CrossCheck, ...]:
    """Return both methods' N* against the law's."""
    return (_check("isoflop", fit, points, rate, valleys), _check("envelope", fit, points, rate, valleys))


def _check(
    method: Literal["isoflop", "envelope"], fit: Fit, points: Points, rate: float, valleys: Sequence[Valley]
) -> CrossCheck:
    best = [(v.flops, v.isoflop if method == "isoflop" else v.envelope) for v in valleys]
    pairs = [
        (np.log(flops), np.log(size), float(best_log_params(fit.form, fit.theta, line(points, flops, rate))))
        for flops, size in best
        if np.isfinite(size)
    ]
    logs = np.array([pair for pair in pairs if np.isfinite(pair).all()]).reshape(-1, 3)
    slopes = (np.nan, np.nan)
    if len(logs) >= _MIN_VALLEYS:
        slopes = tuple(float(np.polyfit(logs[:, 0], logs[:, at], 1)[0]) for at in (1, 2))
    ratio = float(np.exp(np.median(np.abs(logs[:, 1] - logs[:, 2])))) if len(logs) else float("nan")
    return CrossCheck(
        method=method, num_budgets=len(logs), exponent=slopes[0], law_exponent=slopes[1], disagreement=ratio
    )


def _curves(points: Points) -> list[tuple[float, np.ndarray]]:
    """Return (N, (2, K) rising log D and log loss) of each size with two or more data sizes, repeats left out."""
    once = np.broadcast_to(points.num_epochs, points.loss.shape) <= 1 + 1e-9
    logs = np.log(points.num_params)
    order = np.argsort(logs)
    starts = np.flatnonzero(np.diff(logs[order], prepend=-np.inf) > _SAME_SIZE)
    curves = []
    for rows in np.split(order, starts[1:]):
        rows = rows[once[rows]]
        events = np.unique(points.num_events[rows])
        if len(events) >= 2:
            loss = [np.log(points.loss[rows[points.num_events[rows] == value]]).mean() for value in events]
            size = float(np.exp(logs[rows].mean()))
            curves.append((size, np.stack([np.log(events), loss])))
    return curves


def _at(curve: np.ndarray, events: float) -> float | None:
    """Return the interpolated loss at `events`, None outside the curve."""
    log = np.log(events)
    slack = 1e-6
    if not curve[0, 0] - slack <= log <= curve[0, -1] + slack:
        return None
    return float(np.exp(np.interp(log, *curve)))


def _valley(flops: float, found: np.ndarray) -> Valley:
    sizes, losses = found.T
    logs, at = np.log(sizes), int(np.argmin(losses))
    near = np.abs(logs - logs[at]) <= _NEAR
    parabola, isoflop = np.full(3, np.nan), np.nan
    if near.sum() >= _MIN_SIZES:
        centre = logs[at]
        a, b, c = np.polyfit(logs[near] - centre, losses[near], 2)
        parabola = np.array([a, b - 2 * a * centre, c - b * centre + a * centre**2])
        vertex = centre - b / (2 * a) if a > 0 else np.inf
        isoflop = float(np.exp(vertex)) if logs[0] < vertex < logs[-1] else np.nan
    inner = 0 < at < len(sizes) - 1
    return Valley(
        flops=float(flops),
        num_params=sizes,
        loss=losses,
        parabola=parabola,
        isoflop=isoflop,
        envelope=float(sizes[at]) if inner else float("nan"),
    )
