"""Where to spend a budget: IsoFLOP valleys with law and parabola, and the optimal split in the plane of N and D."""

import numpy as np
from matplotlib.figure import Figure

from analysis.figures.style import ACCENT, GREY, OTHER, color, log_axis, new_axes, norm
from analysis.frontier import Line, best_log_params, line
from analysis.isoflop import Valley
from analysis.law import Law
from analysis.table import Table
from analysis.text import scientific

_MAX_VALLEYS = 6


def plot_valleys(law: Law) -> Figure:
    """Draw the loss over model sizes at equal compute: cells, parabola and the law's own valley."""
    valleys = _pick(law.valleys)
    figure, axes = new_axes(7.4, 4.6)
    scale = norm(np.array([valley.flops for valley in valleys]))
    for valley in valleys:
        ink = color(scale, valley.flops)
        label = f"C = {scientific(valley.flops)}"
        axes.scatter(
            valley.num_params, valley.loss, s=24, color=ink, edgecolor="white", linewidth=0.5, label=label, zorder=3
        )
        grid = np.geomspace(valley.num_params.min(), valley.num_params.max(), 80)
        if np.isfinite(valley.parabola).all():
            vertex = valley.isoflop if np.isfinite(valley.isoflop) else valley.envelope
            near = np.abs(np.log(grid / vertex)) <= np.log(10) if np.isfinite(vertex) else np.ones_like(grid, bool)
            axes.plot(
                grid[near],
                np.polyval(valley.parabola, np.log(grid[near])),
                color=ink,
                linewidth=1,
                linestyle=(0, (4, 2)),
            )
        if np.isfinite(valley.isoflop):
            lowest = np.polyval(valley.parabola, np.log(valley.isoflop))
            axes.plot([valley.isoflop], [lowest], "v", color=ink, markersize=6, zorder=4)
        if law.fits and not law.refused:
            along = Line(product=valley.flops / law.flops_per_param_event, low=0.0, high=0.0)
            axes.plot(grid, along.losses(law.form, law.fit.theta, np.log(grid)), color=ink, linewidth=1.5)
    axes.plot([], [], color=GREY, linewidth=1.5, label="law")
    axes.plot([], [], color=GREY, linewidth=1, linestyle=(0, (4, 2)), label="parabola")
    axes.plot([], [], "v", color=GREY, markersize=6, linestyle="none", label="its lowest point")
    axes.set_xlabel("parameters N")
    axes.set_ylabel("loss L")
    log_axis(axes, "x")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    return figure


def plot_optimum(law: Law, table: Table) -> Figure:
    """Draw the cells in the plane of N and D, and the line of optimal splits through them."""
    points, rate = table.points, law.flops_per_param_event
    figure, axes = new_axes(7.4, 4.2)
    axes.scatter(
        points.num_params, points.num_events, s=20, color=GREY, alpha=0.75, linewidth=0, label="cells", zorder=3
    )
    compute = rate * points.compute()
    top = max(compute.max(), *(optimum.flops for optimum in law.optima))
    budgets = np.geomspace(compute.min(), top, 40)
    lines = [line(points, budget, rate) for budget in budgets]
    best = np.exp([float(best_log_params(law.form, law.fit.theta, along)) for along in lines])
    axes.plot(best, budgets / rate / best, color=ACCENT, linewidth=1.8, label="optimal split of a budget")
    if law.spread is not None:
        # The split moves along a line of equal compute, so its interval is drawn as the region between the two ends.
        draws = law.spread.draws.draws[:, :200]
        logs = [best_log_params(law.form, draws, along) for along in lines]
        ends = np.array([law.spread.interval(at, np.exp(log)) for at, log in zip(best, logs, strict=True)])
        known = np.isfinite(ends).all(axis=1)
        ends, spent = ends[known], budgets[known]
        outline = np.concatenate([ends[:, 0], ends[::-1, 1]])
        heights = np.concatenate([spent / rate / ends[:, 0], (spent / rate / ends[:, 1])[::-1]])
        label = f"{law.spread.draws.level:.0%} interval"
        axes.fill(outline, heights, color=ACCENT, alpha=0.13, linewidth=0, label=label)
    for name, mark in (("isoflop", "v"), ("envelope", "s")):
        found = [(getattr(valley, name), valley.flops) for valley in law.valleys]
        found = [(n, flops / rate / n) for n, flops in found if np.isfinite(n)]
        if found:
            axes.plot(
                *zip(*found, strict=True), mark, color="black", markersize=4.5, linestyle="none", label=name, zorder=4
            )
    for optimum in law.optima:
        axes.plot([optimum.num_params], [optimum.num_events], "D", color=OTHER, markersize=6, zorder=4)
    axes.plot([], [], "D", color=OTHER, markersize=6, linestyle="none", label="budgets of the table")
    axes.set_xlabel("parameters N")
    axes.set_ylabel("training events D")
    log_axis(axes, "x")
    log_axis(axes, "y")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    return figure


def _pick(valleys: tuple[Valley, ...]) -> list[Valley]:
    """Return at most `_MAX_VALLEYS`, evenly over the budgets."""
    at = np.unique(np.linspace(0, len(valleys) - 1, min(_MAX_VALLEYS, len(valleys))).round().astype(int))
    return [valleys[index] for index in at]
