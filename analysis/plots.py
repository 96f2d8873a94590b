"""The figures of a report: a law and its table in, matplotlib figures out, and their SVG text.

Object-oriented matplotlib only: no pyplot, no global state, no display. No text of the user's reaches a figure.
"""

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.forms import Parameters, separable
from analysis.frontier import optimal_split
from analysis.law import Law
from analysis.table import Table
from analysis.text import human

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "behavegpt",
}
_COLORMAP = matplotlib.colormaps["viridis"]
_DARKEST, _LIGHTEST = 0.0, 0.86
"""The end of viridis beyond this is too pale on white."""
_ACCENT, _OTHER, _GREY = "#0072b2", "#d55e00", "#555555"
"""Blue and vermilion of Okabe & Ito's palette, told apart by all common forms of colour blindness."""
_MAX_LEVELS = 8
_NUM_CURVES = 6


def draw(law: Law, table: Table, floor: float | None) -> dict[str, Figure]:
    """Return the figures by file name.

    Args:
        law: The law; a refused one draws its cells without curves.
        table: Its cells.
        floor: The entropy that no model can beat, where the data's generator knows it.
    """
    with matplotlib.rc_context(_STYLE):
        figures = {}
        if law.n_used:
            figures = {
                "loss_by_events": _plot_loss(law, table, floor, along_events=True),
                "loss_by_params": _plot_loss(law, table, floor, along_events=False),
            }
        if law.fits and not law.refused:
            figures["residuals"] = _plot_residuals(law, table)
            figures["parameters"] = _plot_parameters(law)
            figures["optimum"] = _plot_optimum(law, table)
        return figures


def to_svg(figure: Figure) -> str:
    """Return the figure as one <svg> element without prolog, metadata or date."""
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)


def _plot_loss(law: Law, table: Table, floor: float | None, *, along_events: bool) -> Figure:
    """Draw the loss against D with a curve for each N, as the paper's figure 8, or the other way round."""
    points = table.points
    x, level = (points.num_events, points.num_params) if along_events else (points.num_params, points.num_events)
    letter = "N" if along_events else "D"
    figure, axes = _figure(7.4, 4.6)
    levels, norm = np.unique(level), _norm(level)
    few = len(levels) <= _MAX_LEVELS
    shown = levels if few else np.geomspace(levels[0], levels[-1], _NUM_CURVES)
    grid = np.geomspace(x.min() / 1.15, x.max() * 1.15, 200)
    for value in shown if law.fits and not law.refused else ():
        along = (np.full_like(grid, value), grid) if along_events else (grid, np.full_like(grid, value))
        axes.plot(grid, separable(np.array(law.fit.parameters), *along), color=_color(norm, value), linewidth=1.5)
        if law.bootstrap is not None and few:
            low, high = law.bootstrap.band(*along)
            axes.fill_between(grid, low, high, color=_color(norm, value), alpha=0.13, linewidth=0)
    size = 30 if len(x) < 100 else 14
    for value in levels if few else ():
        rows = level == value
        marks = {"color": _color(norm, value), "s": size, "zorder": 3, "edgecolor": "white", "linewidth": 0.6}
        axes.scatter(x[rows], points.loss[rows], label=f"{letter} = {human(value)}", **marks)
    if not few:
        axes.scatter(
            x, points.loss, c=level, norm=norm, cmap=_ramp(), s=size, zorder=3, edgecolor="white", linewidth=0.4
        )
        _colorbar(figure, axes, norm, "parameters N" if along_events else "training events D")
    _floors(axes, law, floor)
    axes.set_xlabel("training events D" if along_events else "parameters N")
    axes.set_ylabel("loss L, nats per event" if table.is_study else "loss L")
    _log_axis(axes, "x")
    if points.loss.max() > 3 * points.loss.min():
        _log_axis(axes, "y")
    if few:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    else:
        _legend_above(axes)
    return figure


def _plot_residuals(law: Law, table: Table) -> Figure:
    """Draw what the law leaves over, in percent of it, against compute."""
    points = table.points
    figure, axes = _figure(7.4, 3.2)
    fitted = separable(np.array(law.fit.parameters), points.num_params, points.num_events)
    miss, norm = 100 * (points.loss / fitted - 1), _norm(points.num_params)
    error = 100 * law.fit.mean_error
    axes.axhspan(-error, error, color=_GREY, alpha=0.1, linewidth=0, label=f"mean error {error:.2g} %")
    axes.axhline(0, color=_GREY, linewidth=1)
    axes.scatter(
        law.flops_per_param_event * points.compute(),
        miss,
        c=points.num_params,
        norm=norm,
        cmap=_ramp(),
        s=26 if len(miss) < 100 else 14,
        edgecolor="white",
        linewidth=0.5,
        zorder=3,
    )
    _colorbar(figure, axes, norm, "parameters N")
    axes.set_xscale("log")
    axes.set_xlabel("training compute k N D, FLOPs")
    axes.set_ylabel("measured over fitted - 1, %")
    _legend_above(axes)
    return figure


def _plot_parameters(law: Law) -> Figure:
    """Draw each parameter of both methods: bootstrap interval of the chosen, 1.96 standard errors of the other."""
    symbols = ("$C_N$", r"$\alpha$", "$C_D$", r"$\beta$", "$L_0$")
    figure = _new_figure(9.2, 1.9)
    panels = figure.subplots(1, len(symbols), sharey=True)
    names = (law.method, law.other)
    for at, (axes, symbol, name) in enumerate(zip(panels, symbols, Parameters._fields, strict=True)):
        for row, method in enumerate(names):
            value, half = getattr(law.fits[method].parameters, name), 1.96 * getattr(law.fits[method].stderr, name)
            chosen = method == law.method and law.bootstrap is not None
            low, high = law.intervals()[name] if chosen else (value - half, value + half)
            if name.startswith("C"):
                low = max(low, value / 1e3)
            color = _ACCENT if row == 0 else _OTHER
            axes.plot([low, high], [row, row], color=color, linewidth=3 if row == 0 else 1.8, alpha=0.55)
            axes.plot([value], [row], "o", color=color, markersize=5.5)
        axes.set_title(symbol, fontsize=11)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        if name.startswith("C"):
            _few_log_ticks(axes)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(3))
        if at == 0:
            axes.set_yticks(range(len(names)), names)
        axes.spines["left"].set_visible(False)
    figure.subplots_adjust(wspace=0.25)
    return figure


def _plot_optimum(law: Law, table: Table) -> Figure:
    """Draw the cells in the plane of N and D, and the line of optimal splits through them."""
    points, k = table.points, law.flops_per_param_event
    figure, axes = _figure(7.4, 4.2)
    axes.scatter(
        points.num_params, points.num_events, s=20, color=_GREY, alpha=0.75, linewidth=0, label="cells", zorder=3
    )
    compute = k * points.compute()
    top = max(compute.max(), *(optimum.flops for optimum in law.optima))
    budgets = np.geomspace(compute.min(), top, 60)
    best = np.array([optimal_split(np.array(law.fit.parameters), budget, k) for budget in budgets])
    axes.plot(best[:, 0], best[:, 1], color=_ACCENT, linewidth=1.8, label="optimal split of a budget")
    if law.bootstrap is not None:
        # The split moves along a line of equal compute, so its interval is drawn as the region between the two ends.
        draws = law.bootstrap.draws
        ends = np.array([law.bootstrap.interval(optimal_split(draws, budget, k)[0]) for budget in budgets])
        outline = np.concatenate([ends[:, 0], ends[::-1, 1]])
        heights = np.concatenate([budgets / k / ends[:, 0], (budgets / k / ends[:, 1])[::-1]])
        axes.fill(outline, heights, color=_ACCENT, alpha=0.13, linewidth=0, label=f"{law.bootstrap.level:.0%} interval")
    for optimum in law.optima:
        axes.plot([optimum.num_params], [optimum.num_events], "D", color=_OTHER, markersize=6, zorder=4)
    axes.plot([], [], "D", color=_OTHER, markersize=6, linestyle="none", label="budgets of the table")
    axes.set_xlabel("parameters N")
    axes.set_ylabel("training events D")
    _log_axis(axes, "x")
    _log_axis(axes, "y")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    return figure


def _new_figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout=None)
    FigureCanvasAgg(figure)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = _new_figure(width, height)
    return figure, figure.subplots()


def _norm(values: np.ndarray) -> LogNorm:
    low, high = float(values.min()), float(values.max())
    return LogNorm(low, high) if high > low else LogNorm(low / 2, high * 2)


def _ramp() -> ListedColormap:
    return ListedColormap(_COLORMAP(np.linspace(_LIGHTEST, _DARKEST, 40)))


def _color(norm: LogNorm, value: float) -> tuple[float, ...]:
    return tuple(_ramp()(norm(value)))


def _colorbar(figure: Figure, axes: Axes, norm: LogNorm, label: str) -> None:
    bar = figure.colorbar(ScalarMappable(norm, _ramp()), ax=axes, pad=0.02, aspect=30)
    bar.set_label(label)
    # Matplotlib would embed it as a bitmap, which the report's content policy forbids.
    bar.ax.collections[0].set(rasterized=False, edgecolor="face")
    bar.outline.set_visible(False)
    _readable_ticks(bar.ax.yaxis, float(norm.vmin or 0), float(norm.vmax or 1))


def _floors(axes: Axes, law: Law, floor: float | None) -> None:
    """Draw the fitted floor, and the true one where it is known; named in the legend, since they may lie close."""
    if law.fits and not law.refused:
        value = law.fit.parameters.L0
        axes.axhline(value, color=_ACCENT, linewidth=1.2, label=f"fitted floor $L_0$ = {value:.4g}")
    if floor is not None:
        axes.axhline(floor, color="black", linewidth=1.2, linestyle=(0, (5, 3)), label=f"true floor = {floor:.4g}")


def _log_axis(axes: Axes, which: str) -> None:
    """Make an axis logarithmic, with ticks in human units that are never crowded and never fewer than two."""
    if which == "x":
        axes.set_xscale("log")
        _readable_ticks(axes.xaxis, *axes.get_xlim())
    else:
        axes.set_yscale("log")
        _readable_ticks(axes.yaxis, *axes.get_ylim())


def _readable_ticks(axis: Axis, low: float, high: float) -> None:
    decades = np.log10(high / low)
    steps: tuple[float, ...] = (1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.5 else (1.0, 2.0, 5.0)
    if decades < 0.7:
        ticks = MaxNLocator(5).tick_values(low, high)
    else:
        powers = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        ticks = np.sort(np.concatenate([step * 10.0**powers for step in steps]))
    axis.set_major_locator(FixedLocator([float(tick) for tick in ticks if low <= tick <= high]))
    axis.set_major_formatter(_formatter(human))
    axis.set_minor_locator(LogLocator(subs="all"))
    axis.set_minor_formatter(NullFormatter())


def _few_log_ticks(axes: Axes) -> None:
    """Make the x axis of a narrow panel logarithmic with two or three round ticks."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        ticks = np.sort(np.concatenate([step * powers for step in steps]))
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        if len(ticks) >= 2:
            break
    shown: list[float] = []
    for tick in ticks:
        if not shown or np.log(tick / shown[-1]) > 0.4 * np.log(high / low):
            shown.append(float(tick))
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_major_formatter(_formatter(human))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _legend_above(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, ncols=3)


def _formatter(write: Callable[[float], str]) -> FuncFormatter:
    return FuncFormatter(lambda value, _: write(value))
