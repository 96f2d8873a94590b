"""The figures of an ablation: its numbers in, SVG texts out; in the style of the dataset card's."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from behavegpt.data.card.figures import STYLE, _figure, new_figure, to_svg
from behavegpt.tasks.ablation.compare import Ablation, Interval, difference, groups, mean_recall, over_seeds
from behavegpt.tasks.ablation.runs import ALONG, AS_TRAINED, PATH, TO_DATA
from behavegpt.tasks.ablation.text import JUDGED, STAGES
from behavegpt.tasks.figures import FIRST_BEHAVIOR

_COLORS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a00")
"""Okabe & Ito's palette, its yellow darkened for a white page; plain cross-entropy is black."""
_MARKERS = "osD^vP*Xph<>"
CAPTIONS = {
    "differences": "Difference to plain cross-entropy; thick over users, thin over seeds. Left of 0 is worse for "
    "recall, better for cross-entropy. Filled: as trained; open: prior corrected to the data's frequencies.",
    "groups": "Recall of behaviours from head to tail, as trained: above as it is, below less plain cross-entropy's; "
    "bars span the interval over seeds.",
    "path": "Macro against weighted recall as the prior is corrected, mean over seeds. Large: as trained; white: right "
    "for the data's frequencies; the line goes on past uniform. Above the black line is better than plain "
    "cross-entropy does without further training.",
}


def draw(ablation: Ablation) -> dict[str, str]:
    """Return the SVG of each figure by name."""
    with matplotlib.rc_context(STYLE):
        figures = {
            "differences": _plot_differences(ablation),
            "groups": _plot_groups(ablation),
            "path": _plot_path(ablation),
        }
        return {name: to_svg(figure) for name, figure in figures.items() if figure is not None}


def _look(index: int) -> dict[str, Any]:
    return {"color": _COLORS[index % len(_COLORS)], "marker": _MARKERS[index % len(_MARKERS)]}


def _plot_differences(ablation: Ablation) -> Figure | None:
    """Draw every loss's difference to plain cross-entropy, a panel a figure; None where there is no other loss."""
    erm, *others = ablation.losses
    if not others:
        return None
    figure = new_figure(9.2, 1.0 + 0.46 * len(others))
    panels = figure.subplots(1, len(JUDGED), sharey=True)
    for axes, (metric, words) in zip(panels, JUDGED.items(), strict=True):
        for row, loss in enumerate(others):
            for stage, down in zip(STAGES, (-0.14, 0.14), strict=True):
                gap = difference(loss, erm, metric, stage)
                look = _look(row + 1)
                _whisker(axes, gap.users, row + down, look["color"], 3.2)
                if gap.seeds:
                    _whisker(axes, gap.seeds, row + down, look["color"], 0.9)
                fill = look["color"] if stage == "as_trained" else "white"
                axes.plot([gap.mean], [row + down], **look, markerfacecolor=fill, markersize=5, linestyle="none")
        axes.axvline(0, color="black", linewidth=0.9)
        axes.set_title(words)
        axes.grid(axis="y", visible=False)
        axes.locator_params(axis="x", nbins=5)
    panels[0].set_yticks(range(len(others)), [loss.name for loss in others])
    panels[0].set_ylim(len(others) - 0.5, -0.5)
    figure.subplots_adjust(wspace=0.12)
    return figure


def _whisker(axes: Axes, interval: Interval, y: float, color: str, width: float) -> None:
    axes.plot([interval.low, interval.high], [y, y], color=color, linewidth=width, solid_capstyle="butt")


def _plot_groups(ablation: Ablation) -> Figure:
    """Draw recall by parts of the behaviours: above every loss's, below the others' less plain cross-entropy's."""
    parts = groups(ablation)
    figure = new_figure(9.2, 5.4)
    above, below = figure.subplots(2, 1, sharex=True)
    plain = [mean_recall(ablation.losses[0].as_trained, part) for part in parts]
    spread = np.linspace(-0.26, 0.26, len(ablation.losses))
    for index, loss in enumerate(ablation.losses):
        recall = [mean_recall(loss.as_trained, part) for part in parts]
        x, look = np.arange(len(parts)) + spread[index], _look(index)
        above.plot(x, [values.mean() for values in recall], **look, markersize=4.5, linewidth=1.1, label=loss.name)
        if index == 0:
            continue
        for at, mine, erm in zip(x, recall, plain, strict=True):
            gap = over_seeds(mine - erm)
            below.plot([at], [(mine - erm).mean()], **look, markersize=4.5)
            if gap:
                below.plot([at, at], [gap.low, gap.high], color=look["color"], linewidth=1.1)
    below.axhline(0, color="black", linewidth=0.9)
    above.set_ylabel("recall")
    below.set_ylabel("less plain cross-entropy's")
    ranks = [(part[0] - FIRST_BEHAVIOR + 1, part[-1] - FIRST_BEHAVIOR + 1) for part in parts]
    below.set_xticks(range(len(parts)), [str(a) if a == b else f"{a}-{b}" for a, b in ranks])
    below.set_xlabel("behaviours by rank in training, head to tail")
    above.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, ncols=4)
    figure.subplots_adjust(hspace=0.1)
    return figure


def _plot_path(ablation: Ablation) -> Figure:
    """Draw macro against weighted recall along the path of corrections."""
    figure, axes = _figure(9.2, 5.0)
    trained, to_data = PATH.index(AS_TRAINED), PATH.index(TO_DATA)
    for index, loss in enumerate(ablation.losses):
        along, look = loss.along.mean(axis=0), _look(index)
        x, y = along[:, ALONG.index("rec_w")], along[:, ALONG.index("rec_m")]
        wide = 2.2 if index == 0 else 1.1
        axes.plot(x[to_data:], y[to_data:], color=look["color"], linewidth=wide, zorder=1)
        axes.plot(x[: to_data + 1], y[: to_data + 1], color=look["color"], linewidth=0.8, linestyle=":", zorder=1)
        axes.plot(x[trained], y[trained], **look, markersize=9, linestyle="none", label=loss.name, zorder=3)
        axes.plot(x[to_data], y[to_data], **look, markersize=6, markerfacecolor="white", linestyle="none", zorder=2)
    axes.set_xlabel("weighted recall (accuracy)")
    axes.set_ylabel("macro recall")
    axes.legend(loc="best")
    return figure
