"""Where to spend a budget: a law, its draws and a budget in, the optimal N, D and loss with intervals out.

The optimum minimises L(N, D) on the line k N D = C (Hoffmann et al. 2022, eq. 4), for any form: by a grid over log N
and finer grids around its best node, for all draws at once.
"""

from dataclasses import dataclass

import numpy as np

from analysis.bootstrap import Interval
from analysis.budget import Budget, Flops
from analysis.calibration import Spread
from analysis.fit import Fit
from analysis.forms import Form, Points

_REACH = 1e2
"""An optimum farther than this from the cells, in N or D, is none."""
_NODES, _ZOOM_NODES, _ZOOMS = 73, 9, 7
_FLAT = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """The splits of a budget that are looked at."""

    product: float
    """N D = C / k."""
    low: float
    """Least log N."""
    high: float
    unique_events: float = np.inf
    """Events that there are; D beyond them repeats."""

    def losses(self, form: Form, theta: np.ndarray, log_params: np.ndarray) -> np.ndarray:
        """Return (..., M) losses of (..., P) parameters at (M,) or (..., M) log N on the line."""
        params = np.exp(log_params)
        events = self.product / params
        return form.value(theta, params, events, np.maximum(events / self.unique_events, 1.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimum:
    """The best split of one budget; NaN where the law has none within reach of the cells."""

    budget: Budget
    flops: float
    """The budget C."""
    num_params: float
    """N*."""
    num_params_interval: Interval | None
    num_events: float
    """D*."""
    num_events_interval: Interval | None
    ratio: float
    """D* / N*, events per parameter."""
    ratio_interval: Interval | None
    loss: float
    """L(N*, D*)."""
    loss_interval: Interval | None
    """Of the law's own loss at each draw's best split: what more cells make narrower."""
    run_interval: Interval | None
    """Where one run with this split lands: the law's uncertainty and the noise of a run, which no cell makes less."""
    half: float
    """Loss of half of N* on the same budget over `loss`, less 1."""
    double: float
    """Loss of twice N* on the same budget over `loss`, less 1."""
    half_waste: float
    """Share of the budget that half of N* wastes: the rest would reach its loss with the best split."""
    double_waste: float
    no_optimum: float
    """Share of the draws without an optimum within reach."""
    extrapolation: float
    """How many times N* or D* lies outside the cells, or the budget above theirs, whichever is farther; 1 inside."""

    @property
    def exists(self) -> bool:
        """Whether the law has a best split of the budget within reach."""
        return bool(np.isfinite(self.num_params))


def line(points: Points, flops: float, rate: float, unique_events: float = np.inf) -> Line:
    """Return the splits of `flops` within reach of the cells, at `rate` FLOPs a parameter and event."""
    product = flops / rate
    low = max(points.num_params.min() / _REACH, product / (points.num_events.max() * _REACH))
    high = min(points.num_params.max() * _REACH, product / (points.num_events.min() / _REACH))
    return Line(product=product, low=float(np.log(low)), high=float(np.log(high)), unique_events=unique_events)


def best_log_params(form: Form, theta: np.ndarray, along: Line) -> np.ndarray:
    """Return (...) log N* of (..., P) parameters, NaN where the least loss is at an end of the line, or nowhere."""
    if along.low >= along.high:
        return np.full(np.shape(theta)[:-1], np.nan)
    grid = np.linspace(along.low, along.high, _NODES)
    losses = along.losses(form, theta, grid)
    at = np.argmin(losses, axis=-1)
    lowest = losses.min(axis=-1)
    inside = (at > 0) & (at < _NODES - 1) & (losses.max(axis=-1) - lowest > _FLAT * np.abs(lowest))
    best, step = grid[at], grid[1] - grid[0]
    for _ in range(_ZOOMS):
        nodes = best[..., None] + step * np.linspace(-1, 1, _ZOOM_NODES)
        at = np.argmin(along.losses(form, theta, nodes), axis=-1)
        best = np.take_along_axis(nodes, at[..., None], axis=-1)[..., 0]
        step *= 2.5 / (_ZOOM_NODES - 1)
    return np.where(inside, best, np.nan)


def find_optimum(
    fit: Fit, spread: Spread | None, points: Points, budget: Budget, rate: float, unique_events: float = np.inf
) -> Optimum:
    """Return the optimum of a budget, with intervals over the draws that have one.

    Args:
        fit: The law.
        spread: Its draws and their calibration; None for no intervals.
        points: The cells, whose range tells what is extrapolation.
        budget: What may be spent.
        rate: k in C = k N D.
        unique_events: Events that there are, for a law that knows repeats.
    """
    along = line(points, budget.flops, rate, unique_events)
    best = best_log_params(fit.form, fit.theta, along)
    params = float(np.exp(best))
    events = along.product / params
    at = along.losses(fit.form, fit.theta, best + np.log([1.0, 0.5, 2.0]))
    spans: list[Interval | None] = [None] * 5
    lost = 0.0
    if spread is not None:
        logs = best_log_params(fit.form, spread.draws.draws, along)
        lost = float(np.isnan(logs).mean())
        drawn = along.losses(fit.form, spread.draws.draws, logs[..., None])[..., 0]
        values = (np.exp(logs), along.product / np.exp(logs), along.product / np.exp(2 * logs))
        values += (drawn,)
        found = (params, events, events / params, float(at[0]))
        spans = [spread.interval(point, draw) for point, draw in zip(found, values, strict=True)]
        spans.append(spread.run_interval(float(at[0]), drawn))
    outside = (_outside(params, points.num_params), _outside(events, points.num_events))
    return Optimum(
        budget=budget,
        flops=budget.flops,
        num_params=params,
        num_params_interval=spans[0],
        num_events=events,
        num_events_interval=spans[1],
        ratio=events / params,
        ratio_interval=spans[2],
        loss=float(at[0]),
        loss_interval=spans[3],
        run_interval=spans[4],
        half=float(at[1] / at[0] - 1),
        double=float(at[2] / at[0] - 1),
        half_waste=_waste(fit, points, budget.flops, rate, float(at[1])),
        double_waste=_waste(fit, points, budget.flops, rate, float(at[2])),
        no_optimum=lost,
        extrapolation=max(*outside, budget.flops / float(rate * points.compute().max()), 1.0),
    )


def default_budgets(points: Points, rate: float) -> tuple[Budget, ...]:
    """Return four budgets: the middle and the top of the cells' compute, ten and a hundred times the top."""
    compute = rate * points.compute()
    top = float(compute.max())
    return tuple(Flops(flops) for flops in (float(np.exp(np.log(compute).mean())), top, 10 * top, 100 * top))


def _waste(fit: Fit, points: Points, flops: float, rate: float, loss: float) -> float:
    """Return the share of `flops` that a run with `loss` wastes."""
    if not np.isfinite(loss):
        return float("nan")
    shares = np.linspace(1.0, 0.3, 29)
    lines = [line(points, share * flops, rate) for share in shares]
    logs = [best_log_params(fit.form, fit.theta, along) for along in lines]
    best = [along.losses(fit.form, fit.theta, log[None])[0] for along, log in zip(lines, logs, strict=True)]
    return float(1 - np.interp(loss, best, shares)) if np.isfinite(best).all() else float("nan")


def _outside(value: float, measured: np.ndarray) -> float:
    return float(max(value / measured.max(), measured.min() / value))
