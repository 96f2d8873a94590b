"""Loss while training: each trunk, and the decay branches that leave it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from analysis.curves import Curve
from analysis.figures.style import GREY, MAX_LEVELS, color, colorbar, log_axis, new_axes, norm
from analysis.text import human


def plot_learning(curves: Sequence[Curve]) -> Figure:
    """Draw the training loss against events consumed: trunks bold, branches thin, coloured by N."""
    figure, axes = new_axes(7.4, 4.4)
    sizes = np.array([curve.num_params for curve in curves])
    scale = norm(sizes)
    levels = np.unique(sizes)
    for curve in curves:
        trunk = curve.cell_events is None
        ink = color(scale, curve.num_params)
        axes.plot(
            curve.num_events, curve.loss, color=ink, linewidth=1.6 if trunk else 1.0, alpha=1.0 if trunk else 0.75
        )
        if not trunk:
            axes.plot(curve.num_events[-1:], curve.loss[-1:], "o", color=ink, markersize=3.5)
    if len(levels) <= MAX_LEVELS:
        for level in levels:
            axes.plot([], [], color=color(scale, level), linewidth=1.6, label=f"N = {human(level)}")
    else:
        colorbar(figure, axes, scale, "parameters N")
    axes.plot([], [], "o-", color=GREY, linewidth=1.0, markersize=3.5, label="decay branch")
    axes.set_xlabel("training events consumed")
    axes.set_ylabel("training loss, nats per event")
    log_axis(axes, "x")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    return figure
