"""Where to spend a budget: a law, its draws and a FLOP budget in, the optimal N, D and loss with intervals out.

The optimum minimises C_N N^-alpha + C_D D^-beta + L0 on the line k N D = C (Hoffmann et al. 2022, eq. 4).
"""

from dataclasses import dataclass

import numpy as np

from analysis.bootstrap import Bootstrap
from analysis.forms import Parameters, Points, separable

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimum:
    """The best split of one budget."""

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
    extrapolation: float
    """How many times N* or D* lies outside the cells, whichever is farther; 1 inside them."""


def optimal_split(theta: np.ndarray, flops: float, flops_per_param_event: float) -> tuple[np.ndarray, np.ndarray]:
    """Return N* and D*, each of shape (...), for (..., 5) parameters; NaN where a coefficient or exponent is zero.

    dL/dN = 0 on D = C / (k N) gives N* = G (C / k)^(beta / (alpha + beta)), D* = (C / k) / N* with
    G = (alpha C_N / (beta C_D))^(1 / (alpha + beta)). In logs, since C_N may be large.
    """
    C_N, alpha, C_D, beta, _ = np.moveaxis(np.where(np.asarray(theta, float) > 0, theta, np.nan), -1, 0)
    log_budget = np.log(flops / flops_per_param_event)
    log_gain = np.log(alpha) + np.log(C_N) - np.log(beta) - np.log(C_D)
    log_params = (log_gain + beta * log_budget) / (alpha + beta)
    return np.exp(log_params), np.exp(log_budget - log_params)


def find_optimum(
    parameters: Parameters, bootstrap: Bootstrap | None, points: Points, flops: float, flops_per_param_event: float
) -> Optimum:
    """Return the optimum of a budget, with intervals over the draws that have one."""
    num_params, num_events = (
        float(value) for value in optimal_split(np.array(parameters), flops, flops_per_param_event)
    )
    loss = float(separable(np.array(parameters), np.array([num_params]), np.array([num_events]))[0])
    spans: list[Interval | None] = [None] * 4
    if bootstrap is not None:
        params, events = optimal_split(bootstrap.draws, flops, flops_per_param_event)
        losses = separable(bootstrap.draws, params[..., None], events[..., None])[..., 0]
        spans = [bootstrap.interval(values) for values in (params, events, events / params, losses)]
    return Optimum(
        flops=flops,
        num_params=num_params,
        num_params_interval=spans[0],
        num_events=num_events,
        num_events_interval=spans[1],
        ratio=num_events / num_params,
        ratio_interval=spans[2],
        loss=loss,
        loss_interval=spans[3],
        extrapolation=max(_outside(num_params, points.num_params), _outside(num_events, points.num_events)),
    )


def default_budgets(points: Points, flops_per_param_event: float) -> tuple[float, ...]:
    """Return four budgets: the middle and the top of the cells' compute, ten and a hundred times the top."""
    compute = flops_per_param_event * points.compute()
    top = float(compute.max())
    return float(np.exp(np.log(compute).mean())), top, 10 * top, 100 * top


def _outside(value: float, measured: np.ndarray) -> float:
    return float(max(value / measured.max(), measured.min() / value, 1.0))
