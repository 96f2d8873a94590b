"""Is the law to be believed? Residuals, the held-out ladder of every form, and the parameters' intervals."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from analysis.figures.style import (
    ACCENT,
    GREY,
    OTHER,
    colorbar,
    few_log_ticks,
    formatter,
    legend_above,
    new_axes,
    new_figure,
    norm,
    ramp,
    readable_ticks,
)
from analysis.ladder import Contest
from analysis.law import Law
from analysis.table import Table
from analysis.text import scientific

_GREEK = {"alpha": r"$\alpha$", "beta": r"$\beta$", "L0": "$L_0$", "exponent": "exponent"}
_INK = {
    "separable": "#0072b2",
    "tied": "#e69f00",
    "coupled": "#009e73",
    "farseer": "#cc79a7",
    "repeats": "#d55e00",
}
"""Okabe & Ito's palette, one colour a form."""


def plot_residuals(law: Law, table: Table) -> Figure:
    """Draw what the law leaves over, in percent of it, against compute."""
    points = table.points
    figure, axes = new_axes(7.4, 3.2)
    miss, scale = 100 * (points.loss / law.fit.predict(points) - 1), norm(points.num_params)
    error = 100 * law.fit.mean_error
    axes.axhspan(-error, error, color=GREY, alpha=0.1, linewidth=0, label=f"mean error {error:.2g} %")
    axes.axhline(0, color=GREY, linewidth=1)
    axes.scatter(
        law.flops_per_param_event * points.compute(),
        miss,
        c=points.num_params,
        norm=scale,
        cmap=ramp(),
        s=26 if len(miss) < 100 else 14,
        edgecolor="white",
        linewidth=0.5,
        zorder=3,
    )
    colorbar(figure, axes, scale, "parameters N")
    axes.set_xscale("log")
    axes.set_xlabel("training compute k N D, FLOPs")
    axes.set_ylabel("measured over fitted - 1, %")
    legend_above(axes)
    return figure


def plot_ladder(contest: Contest, rate: float) -> Figure:
    """Draw each form's error on the cells above a rung against the compute below it."""
    figure, axes = new_axes(7.4, 3.4)
    for name in contest.errors:
        rungs = [step.rung(rate) for step in contest.steps[name]]
        chosen = name == contest.chosen.name
        axes.plot(
            [rung.rung for rung in rungs],
            [100 * rung.error for rung in rungs],
            "o-",
            color=_INK.get(name, GREY),
            linewidth=2.4 if chosen else 1.2,
            markersize=5.5 if chosen else 4,
            label=f"{name}{' (chosen)' if chosen else ''}",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    cuts = sorted({step.rung(rate).rung for steps in contest.steps.values() for step in steps})
    axes.xaxis.set_major_locator(FixedLocator([cut for at, cut in enumerate(cuts) if _apart(cuts, at)]))
    axes.xaxis.set_major_formatter(formatter(scientific))
    axes.xaxis.set_minor_locator(NullLocator())
    readable_ticks(axes.yaxis, *axes.get_ylim())
    axes.set_xlabel("fitted up to this compute, FLOPs")
    axes.set_ylabel("mean error above it, %")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    return figure


def _apart(cuts: list[float], at: int) -> bool:
    """Return whether a tick at a cut keeps clear of the one before it, so that their labels do not meet."""
    return at == 0 or np.log(cuts[at] / cuts[at - 1]) > 0.12 * np.log(cuts[-1] / cuts[0])


def plot_parameters(law: Law) -> Figure:
    """Draw each parameter of both methods: calibrated interval of the chosen, 1.96 standard errors of the other."""
    names = law.form.parameters
    figure = new_figure(max(5.0, 1.85 * len(names)), 1.9)
    panels = np.atleast_1d(figure.subplots(1, len(names), sharey=True))
    methods = (law.method, law.other)
    for at, (axes, name) in enumerate(zip(panels, names, strict=True)):
        for row, method in enumerate(methods):
            value, half = law.fits[method].parameters[name], 1.96 * law.fits[method].stderr[name]
            low, high = law.intervals()[name] if row == 0 and law.spread else (value - half, value + half)
            if name.startswith("C"):
                low = max(low, value / 1e3)
            ink = ACCENT if row == 0 else OTHER
            axes.plot([low, high], [row, row], color=ink, linewidth=3 if row == 0 else 1.8, alpha=0.55)
            axes.plot([value], [row], "o", color=ink, markersize=5.5)
        axes.set_title(_GREEK.get(name, f"${name}$"), fontsize=11)
        axes.set_ylim(len(methods) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        if name.startswith("C"):
            few_log_ticks(axes)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(3))
        if at == 0:
            axes.set_yticks(range(len(methods)), methods)
        axes.spines["left"].set_visible(False)
    figure.subplots_adjust(wspace=0.25)
    return figure
