"""The figures of a cross-domain comparison: its numbers in, SVG texts out; in the style of the dataset card's."""

from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from behavegpt.data.card.figures import STYLE, new_figure, to_svg
from behavegpt.tasks.adaptation.cross_domain import CrossDomain, against, scratch_of
from behavegpt.tasks.adaptation.text import JUDGED
from behavegpt.tasks.adaptation.ways import SCRATCH, WAYS

_COLORS = dict(
    zip((way.name for way in WAYS), ("#000000", "#e69f00", "#d55e00", "#0072b2", "#009e73", "#cc79a7"), strict=True)
)
"""Okabe & Ito's palette; from scratch is black."""
_MARKERS = "osD^vP*X"
"""By source."""
_LINES = ("-", "--", ":", "-.")
CAPTIONS = {
    "sizes": "Each way over the target's training events, mean over seeds; bars are the interval over users and seeds "
    "(the paper's Fig. 5, over data).",
    "differences": "The same less training from scratch, seed by seed; bars are the interval over users and seeds. "
    "Left of 0 is worse for recall, better for cross-entropy.",
}


def draw(found: CrossDomain) -> dict[str, str]:
    """Return the SVG of each figure by name."""
    with matplotlib.rc_context(STYLE):
        figures = {"sizes": _plot_sizes(found), "differences": _plot_differences(found)}
        return {name: to_svg(figure) for name, figure in figures.items() if figure is not None}


def _look(found: CrossDomain, name: str) -> dict[str, Any]:
    line = found.lines[name]
    names = [source.name for source in found.sources]
    index = 0 if line.source is None else names.index(line.source)
    return {
        "color": _COLORS[line.way.name],
        "marker": _MARKERS[index % len(_MARKERS)],
        "linestyle": _LINES[index % len(_LINES)],
    }


def _plot_sizes(found: CrossDomain) -> Figure | None:
    """Draw each figure that is judged over the data size; None without a finished run."""
    if not found.sizes:
        return None
    figure = new_figure(9.2, 3.6)
    panels = figure.subplots(1, len(JUDGED))
    for axes, (metric, words) in zip(panels, JUDGED.items(), strict=True):
        for index, name in enumerate(found.lines):
            points = [
                (size * 1.012**index, row.estimates[metric])
                for size, comparison in zip(found.num_events, found.sizes, strict=True)
                for row in comparison.rows
                if row.row.name == name
            ]
            x, look = [size for size, _ in points], _look(found, name)
            axes.plot(x, [e.mean for _, e in points], **look, markersize=4.5, linewidth=1.1, label=name)
            for at, estimate in points:
                axes.plot([at, at], [estimate.low, estimate.high], color=look["color"], linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xticks(found.num_events)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_title(words)
        axes.set_xlabel("training events of the target")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4)
    figure.subplots_adjust(wspace=0.28)
    return figure


def _plot_differences(found: CrossDomain) -> Figure | None:
    """Draw every way's difference to training from scratch, a panel a figure, at the largest data size."""
    scratch = scratch_of(found.sizes[-1]) if found.sizes else None
    others = [row for row in found.sizes[-1].rows if row.row.name != SCRATCH] if scratch else []
    if scratch is None or not others:
        return None
    figure = new_figure(9.2, 1.0 + 0.34 * len(others))
    panels = figure.subplots(1, len(JUDGED), sharey=True)
    for axes, (metric, words) in zip(panels, JUDGED.items(), strict=True):
        for at, row in enumerate(others):
            gap, look = against(row, scratch, metric), _look(found, row.row.name)
            axes.plot([gap.users.low, gap.users.high], [at, at], color=look["color"], linewidth=1.6)
            axes.plot([gap.mean], [at], color=look["color"], marker=look["marker"], markersize=5, linestyle="none")
        axes.axvline(0, color="black", linewidth=0.9)
        axes.set_title(words)
        axes.grid(axis="y", visible=False)
        axes.locator_params(axis="x", nbins=5)
    panels[0].set_yticks(range(len(others)), [row.row.name for row in others])
    panels[0].set_ylim(len(others) - 0.5, -0.5)
    panels[0].set_xlabel(f"at D = {found.num_events[-1]:,}")
    figure.subplots_adjust(wspace=0.12)
    return figure
