"""The figures of a comparison of systems: its numbers in, SVG texts out; in the style of the dataset card's."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from behavegpt.data.card.figures import STYLE, new_figure, to_svg
from behavegpt.tasks.metrics import classes
from behavegpt.tasks.next_behavior import Comparison, RowFigures
from behavegpt.tasks.report import class_groups, group_ranks

PANELS = {"ndcg@3": "N@3", "rec_w": "weighted recall", "rec_m": "macro recall", "nats": "cross-entropy, nats"}
CAPTIONS = {
    "figures": "Each system's mean over its runs with its interval over users and seeds; best by N@3 on top, models in "
    "orange. Right is better, but for cross-entropy.",
    "groups": "Recall of behaviours from head to tail of the training split, mean over the behaviours of each part.",
    "calibration": "How often the first choice is right, by the probability that the system gave it; on the line it is "
    "right as often as it says. Left out: bins with fewer than 20 predictions.",
}
_MODEL_COLORS, _OTHER_COLORS = (
    ("#d55e00", "#e69f00", "#a04000"),
    ("#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#777777"),
)
_MARKERS = "osD^vP*X"
_LEAST_PREDICTIONS = 20


def draw(comparison: Comparison) -> dict[str, str]:
    """Return the SVG of each figure by name."""
    with matplotlib.rc_context(STYLE):
        figures = {
            "figures": _plot_figures(comparison),
            "groups": _plot_groups(comparison),
            "calibration": _plot_calibration(comparison),
        }
        return {name: to_svg(figure) for name, figure in figures.items()}


def _look(comparison: Comparison, found: RowFigures) -> dict[str, Any]:
    """Return the color and marker of a row: models are warm, the others cold."""
    alike = [row for row in comparison.rows if row.row.is_model == found.row.is_model]
    colors = _MODEL_COLORS if found.row.is_model else _OTHER_COLORS
    index = alike.index(found)
    return {"color": colors[index % len(colors)], "marker": _MARKERS[(index // len(colors)) % len(_MARKERS)]}


def _plot_figures(comparison: Comparison) -> Figure:
    rows = sorted(comparison.rows, key=lambda found: -found.estimates["ndcg@3"].mean)
    figure = new_figure(9.2, 1.0 + 0.3 * len(rows))
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (metric, words) in zip(panels, PANELS.items(), strict=True):
        for y, found in enumerate(rows):
            estimate, look = found.estimates[metric], _look(comparison, found)
            axes.plot([estimate.low, estimate.high], [y, y], color=look["color"], linewidth=2.4, solid_capstyle="butt")
            axes.plot([estimate.mean], [y], **look, markersize=5.5, linestyle="none")
        axes.set_title(words)
        axes.grid(axis="y", visible=False)
        axes.locator_params(axis="x", nbins=4)
    panels[0].set_yticks(range(len(rows)), [found.row.name for found in rows])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    figure.subplots_adjust(wspace=0.12)
    return figure


def _plot_groups(comparison: Comparison) -> Figure:
    figure = new_figure(9.2, 3.4)
    axes = figure.subplots()
    groups = class_groups(comparison)
    spread = np.linspace(-0.22, 0.22, len(comparison.rows)) if len(comparison.rows) > 1 else [0.0]
    for shift, found in zip(spread, comparison.rows, strict=True):
        recall = classes.recall(found.counts)
        values = [recall[group].mean() for group in groups]
        axes.plot(
            np.arange(len(groups)) + shift,
            values,
            **_look(comparison, found),
            linewidth=1.1,
            markersize=5,
            label=found.row.name,
        )
    axes.set_xticks(range(len(groups)), [group_ranks(group) for group in groups])
    axes.set_xlabel("behaviours by rank in training, head to tail")
    axes.set_ylabel("recall")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, ncols=3)
    return figure


def _plot_calibration(comparison: Comparison) -> Figure:
    figure = new_figure(5.4, 4.6)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.9)
    for found in comparison.rows:
        count, confidence, right = found.bins[:, found.bins[0] >= _LEAST_PREDICTIONS]
        look = _look(comparison, found)
        axes.plot(confidence / count, right / count, **look, linewidth=1.1, markersize=4, label=found.row.name)
    axes.set_xlabel("mean probability of the first choice")
    axes.set_ylabel("share of them that are right")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0.0)
    return figure
