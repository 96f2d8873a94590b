"""How every figure looks, and how it becomes SVG: palette, axes in human units, legends outside the data.

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

from analysis.text import human

STYLE: dict[Any, Any] = {
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
ACCENT, OTHER, GREY = "#0072b2", "#d55e00", "#555555"
"""Blue and vermilion of Okabe & Ito's palette, told apart by all common forms of colour blindness."""
MAX_LEVELS = 8
"""More levels than this are told by a colour bar, not by a legend."""


def to_svg(figure: Figure) -> str:
    """Return the figure as one <svg> element without prolog, metadata or date."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)


def new_figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout=None)
    FigureCanvasAgg(figure)
    return figure


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = new_figure(width, height)
    return figure, figure.subplots()


def norm(values: np.ndarray) -> LogNorm:
    low, high = float(values.min()), float(values.max())
    return LogNorm(low, high) if high > low else LogNorm(low / 2, high * 2)


def ramp() -> ListedColormap:
    return ListedColormap(_COLORMAP(np.linspace(_LIGHTEST, _DARKEST, 40)))


def color(norm: LogNorm, value: float) -> tuple[float, ...]:
    return tuple(ramp()(norm(value)))


def colorbar(figure: Figure, axes: Axes, norm: LogNorm, label: str) -> None:
    bar = figure.colorbar(ScalarMappable(norm, ramp()), ax=axes, pad=0.02, aspect=30)
    bar.set_label(label)
    # Matplotlib would embed it as a bitmap, which the report's content policy forbids.
    bar.ax.collections[0].set(rasterized=False, edgecolor="face")
    bar.outline.set_visible(False)
    readable_ticks(bar.ax.yaxis, float(norm.vmin or 0), float(norm.vmax or 1))


def log_axis(axes: Axes, which: str) -> None:
    """Make an axis logarithmic, with ticks in human units that are never crowded and never fewer than two."""
    if which == "x":
        axes.set_xscale("log")
        readable_ticks(axes.xaxis, *axes.get_xlim())
    else:
        axes.set_yscale("log")
        readable_ticks(axes.yaxis, *axes.get_ylim())


def readable_ticks(axis: Axis, low: float, high: float) -> None:
    decades = np.log10(high / low)
    steps: tuple[float, ...] = (1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.5 else (1.0, 2.0, 5.0)
    if decades < 0.7:
        ticks = MaxNLocator(5).tick_values(low, high)
    else:
        powers = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        ticks = np.sort(np.concatenate([step * 10.0**powers for step in steps]))
    axis.set_major_locator(FixedLocator([float(tick) for tick in ticks if low <= tick <= high]))
    axis.set_major_formatter(formatter(human))
    axis.set_minor_locator(LogLocator(subs="all"))
    axis.set_minor_formatter(NullFormatter())


def few_log_ticks(axes: Axes) -> None:
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
    axes.xaxis.set_major_formatter(formatter(human))
    axes.xaxis.set_minor_formatter(NullFormatter())


def legend_above(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, ncols=3)


def formatter(write: Callable[[float], str]) -> FuncFormatter:
    return FuncFormatter(lambda value, _: write(value))
