"""The cells and the law: loss against D per N, against N per D, and against compute with the frontier."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.style import (
    ACCENT,
    GREY,
    MAX_LEVELS,
    color,
    colorbar,
    legend_above,
    log_axis,
    new_axes,
    norm,
    ramp,
)
from analysis.forms import Points
from analysis.frontier import best_log_params, line
from analysis.law import Law
from analysis.table import Table
from analysis.text import figures, human

_NUM_CURVES = 6
_BEYOND = 10.0
"""The frontier goes on this far beyond the cells' compute."""


def plot_loss(law: Law, table: Table, floor: float | None, *, along_events: bool) -> Figure:
    """Draw the loss against D with a curve for each N, as the paper's figure 8, or the other way round."""
    points = table.points
    x, level = (points.num_events, points.num_params) if along_events else (points.num_params, points.num_events)
    letter = "N" if along_events else "D"
    figure, axes = new_axes(7.4, 4.6)
    levels, scale = np.unique(level), norm(level)
    few = len(levels) <= MAX_LEVELS
    shown = levels if few else np.geomspace(levels[0], levels[-1], _NUM_CURVES)
    grid = np.geomspace(x.min() / 1.15, x.max() * 1.15, 200)
    for value in shown if law.fits and not law.refused else ():
        along = (np.full_like(grid, value), grid) if along_events else (grid, np.full_like(grid, value))
        where = Points(*along, np.ones_like(grid))
        axes.plot(grid, law.fit.predict(where), color=color(scale, value), linewidth=1.5)
        if law.spread is not None and few:
            low, high = law.spread.band(law.fit, where)
            axes.fill_between(grid, low, high, color=color(scale, value), alpha=0.13, linewidth=0)
    size = 30 if len(x) < 100 else 14
    for value in levels if few else ():
        rows = level == value
        marks = {"color": color(scale, value), "s": size, "zorder": 3, "edgecolor": "white", "linewidth": 0.6}
        axes.scatter(x[rows], points.loss[rows], label=f"{letter} = {human(value)}", **marks)
    if not few:
        axes.scatter(
            x, points.loss, c=level, norm=scale, cmap=ramp(), s=size, zorder=3, edgecolor="white", linewidth=0.4
        )
        colorbar(figure, axes, scale, "parameters N" if along_events else "training events D")
    _floors(axes, law, floor)
    axes.set_xlabel("training events D" if along_events else "parameters N")
    axes.set_ylabel("loss L, nats per event" if table.is_study else "loss L")
    log_axis(axes, "x")
    if points.loss.max() > 3 * points.loss.min():
        log_axis(axes, "y")
    if few:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    else:
        legend_above(axes)
    return figure


def plot_compute(law: Law, table: Table, floor: float | None) -> Figure:
    """Draw the loss against training compute, and the frontier: the least loss that the law promises a budget."""
    points, rate = table.points, law.flops_per_param_event
    compute = rate * points.compute()
    figure, axes = new_axes(7.4, 4.6)
    scale = norm(points.num_params)
    size = 26 if len(compute) < 100 else 14
    axes.scatter(
        compute,
        points.loss,
        c=points.num_params,
        norm=scale,
        cmap=ramp(),
        s=size,
        zorder=3,
        edgecolor="white",
        linewidth=0.5,
    )
    colorbar(figure, axes, scale, "parameters N")
    if law.optima:
        _frontier(axes, law, points, compute)
    if floor is not None:
        axes.axhline(floor, color="black", linewidth=1.2, linestyle=(0, (5, 3)), label=f"true floor = {figures(floor)}")
    axes.set_xscale("log")
    axes.set_xlabel("training compute k N D, FLOPs")
    axes.set_ylabel("loss L, nats per event" if table.is_study else "loss L")
    if points.loss.max() > 3 * points.loss.min():
        log_axis(axes, "y")
    legend_above(axes)
    return figure


def _frontier(axes: Axes, law: Law, points: Points, compute: np.ndarray) -> None:
    budgets = np.geomspace(compute.min(), _BEYOND * compute.max(), 60)
    lines = [line(points, budget, law.flops_per_param_event) for budget in budgets]
    logs = np.array([float(best_log_params(law.form, law.fit.theta, along)) for along in lines])
    known = np.isfinite(logs)
    if not known.any():
        return
    budgets, params = budgets[known], np.exp(logs[known])
    where = Points(params, budgets / law.flops_per_param_event / params, np.ones_like(params))
    best, inside = law.fit.predict(where), budgets <= compute.max()
    axes.plot(budgets[inside], best[inside], color=ACCENT, linewidth=2, label="frontier of the law")
    axes.plot(budgets[~inside], best[~inside], color=ACCENT, linewidth=2, linestyle=(0, (4, 2)))
    if law.spread is not None:
        low, high = law.spread.run_band(law.fit, where)
        label = f"{law.spread.draws.level:.0%} interval of one run"
        axes.fill_between(budgets, low, high, color=ACCENT, alpha=0.14, linewidth=0, label=label)
    axes.axvline(compute.max(), color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))


def _floors(axes: Axes, law: Law, floor: float | None) -> None:
    """Draw the fitted floor, and the true one where it is known; named in the legend, since they may lie close."""
    fitted = law.fit.parameters.get("L0") if law.fits and not law.refused else None
    if fitted is not None:
        axes.axhline(fitted, color=ACCENT, linewidth=1.2, label=f"fitted floor $L_0$ = {figures(fitted)}")
    if floor is not None:
        axes.axhline(floor, color="black", linewidth=1.2, linestyle=(0, (5, 3)), label=f"true floor = {figures(floor)}")
