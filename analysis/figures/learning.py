"""Loss while training: each trunk, and the decay branches that leave it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from analysis.curves import Curve
from analysis.figures.style import GREY, MAX_LEVELS, color, colorbar, log_axis, new_axes, norm
from analysis.text import human

_BINS_PER_DECADE = 25
_SHOWN = 0.96
"""Share of the stretches that lies below the upper edge."""


def plot_learning(curves: Sequence[Curve]) -> Figure:
    """Draw the training loss against events consumed: trunks bold, branches thin, coloured by N."""
    figure, axes = new_axes(7.4, 4.4)
    sizes = np.array([curve.num_params for curve in curves])
    scale = norm(sizes)
    levels = np.unique(sizes)
    shown = [_binned(curve) for curve in curves]
    for curve, (events, loss) in zip(curves, shown, strict=True):
        trunk = curve.cell_events is None
        ink = color(scale, curve.num_params)
        axes.plot(events, loss, color=ink, linewidth=1.6 if trunk else 1.0, alpha=1.0 if trunk else 0.75)
        if not trunk:
            axes.plot(events[-1:], loss[-1:], "o", color=ink, markersize=3.5)
    if len(levels) <= MAX_LEVELS:
        for level in levels:
            axes.plot([], [], color=color(scale, level), linewidth=1.6, label=f"N = {human(level)}")
    else:
        colorbar(figure, axes, scale, "parameters N")
    axes.plot([], [], "o-", color=GREY, linewidth=1.0, markersize=3.5, label="decay branch")
    axes.set_xlabel("training events consumed")
    # The first steps, and a run that diverges, would press all else into a line.
    axes.set_ylim(top=float(np.quantile(np.concatenate([loss for _, loss in shown]), _SHOWN)))
    axes.set_ylabel("training loss, nats per event")
    log_axis(axes, "x")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    return figure


def _binned(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Return the end and the mean loss of each stretch of equal length in log events: the axis shows no more."""
    before_end = np.log10(curve.num_events[-1] / curve.num_events)
    stretch = np.unique(-np.floor(_BINS_PER_DECADE * before_end), return_inverse=True)[1]
    ends = curve.num_events[np.searchsorted(stretch, np.arange(stretch[-1] + 1), side="right") - 1]
    return ends, np.bincount(stretch, curve.loss) / np.bincount(stretch)
