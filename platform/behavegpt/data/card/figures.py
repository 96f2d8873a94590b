"""The figures of a card: its facts in, SVG texts out.

Object-oriented matplotlib only: no pyplot, no global state, no display. No text of the log's reaches a figure.
"""

import io
import re
from datetime import date, timedelta
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from behavegpt.data.card.text import human
from behavegpt.schema import SPLITS

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "behavegpt",
}
_COLORS = {"train": "#0072b2", "val": "#d55e00", "test": "#009e73"}
"""Blue, vermilion and green of Okabe & Ito's palette, told apart by all common forms of colour blindness."""
_GREY = "#555555"
_MAX_POINTS = 1000
"""Ranks and days drawn one by one; beyond it they are thinned or summed, so that a page stays small."""
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
BASELINE_NAMES = {
    "most_frequent": "most frequent",
    "half_hour": "by the half hour",
    "repeat_last": "repeat the last",
    "markov": "after the last behaviour (Markov)",
    "last_event": "after the last event",
}


def draw(facts: dict[str, Any]) -> dict[str, str]:
    """Return the SVG of each figure by name; a figure without anything to show is left out."""
    with matplotlib.rc_context(STYLE):
        figures = {
            "long_tail": _plot_long_tail(facts["long_tail"]["behaviors"], facts["splits"]),
            "rhythm": _plot_rhythm(np.array(facts["rhythm"]["events"])),
            "days": _plot_days(facts["days"]),
            "users": _plot_users(facts["events_per_user"]["histogram"], facts["window_lengths"]),
            "gaps": _plot_gaps(facts["gaps"]),
            "baselines": _plot_baselines(facts),
        }
        return {name: to_svg(figure) for name, figure in figures.items() if figure is not None}


def to_svg(figure: Figure) -> str:
    """Return the figure as one <svg> element without prolog, metadata or date."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)


def _plot_long_tail(behaviors: list[dict[str, Any]], splits: dict[str, Any]) -> Figure | None:
    """Draw the share of each behaviour in each split against its rank in train, as the paper's figure 2."""
    if not behaviors:
        return None
    figure, axes = _figure(7.4, 3.4)
    rank = np.arange(1, len(behaviors) + 1)
    shown = rank if len(rank) <= _MAX_POINTS else np.unique(np.geomspace(1, len(rank), _MAX_POINTS).astype(int))
    for split in reversed(SPLITS):
        counts = np.array([behavior[split] for behavior in behaviors], float)
        share = 100 * counts[shown - 1] / max(splits[split]["targets"], 1)
        seen = share > 0
        marker = {"marker": "o", "markersize": 3.5} if len(rank) <= 120 else {}
        width = 1.6 if split == "train" else 0.9
        axes.plot(shown[seen], share[seen], color=_COLORS[split], linewidth=width, label=split, **marker)
    axes.set_yscale("log")
    label = FuncFormatter(lambda value, _: f"{value:g} %")
    axes.yaxis.set_major_formatter(label)
    low, high = axes.get_ylim()
    axes.yaxis.set_minor_formatter(label if high < 10 * low else NullFormatter())
    if len(rank) > 120:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value)))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("behaviours, most frequent in train first")
    axes.set_ylabel("share of the split's targets")
    _legend_above(axes)
    return figure


def _plot_rhythm(events: np.ndarray) -> Figure | None:
    """Draw events by weekday and half hour: above the mean day, below every day of the week."""
    if events.sum() == 0:
        return None
    figure = new_figure(7.4, 3.9)
    day, week = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.25))
    share = 100 * events / events.sum()
    edges = np.arange(events.shape[1] + 1) / 2
    day.stairs(100 * events[:5].sum(axis=0) / max(events[:5].sum(), 1), edges, color=_COLORS["train"], linewidth=1.6,
               label="Monday to Friday")  # fmt: skip
    day.stairs(100 * events[5:].sum(axis=0) / max(events[5:].sum(), 1), edges, color=_COLORS["val"], linewidth=1.6,
               label="weekend")  # fmt: skip
    day.set_ylim(0)
    day.set_ylabel("% of events")
    _legend_above(day)
    week.pcolormesh(edges, np.arange(8), share, cmap="Blues", vmin=0, edgecolor="white", linewidth=0.4)
    week.invert_yaxis()
    week.set_yticks(np.arange(7) + 0.5, _WEEKDAYS)
    week.set_xticks(range(0, 25, 3), [f"{hour:02d}:00" for hour in range(0, 25, 3)])
    week.set_xlabel("local half hour; darker is busier")
    week.tick_params(length=0)
    week.grid(visible=False)
    for spine in week.spines.values():
        spine.set_visible(False)
    figure.subplots_adjust(hspace=0.16)
    return figure


def _plot_days(days: dict[str, Any]) -> Figure | None:
    """Draw the events of each day (or of several, in a long log), a colour a split."""
    num_days = len(days["train"])
    if num_days == 0:
        return None
    figure, axes = _figure(7.4, 2.5)
    step = -(-num_days // _MAX_POINTS)
    first = date.fromisoformat(days["first"])
    begins = np.arange(0, num_days, step)
    edges = date2num([first + timedelta(days=int(day)) for day in [*begins, begins[-1] + step]])
    below = np.zeros(len(begins))
    for split in SPLITS:
        counts = np.add.reduceat(np.array(days[split], float), begins) / step
        axes.stairs(below + counts, edges, baseline=below, fill=True, color=_COLORS[split], alpha=0.75, label=split)
        below = below + counts
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value)))
    axes.set_ylabel("events a day (UTC)")
    axes.set_ylim(0)
    _legend_above(axes)
    return figure


def _plot_users(histogram: list[dict[str, int]], lengths: dict[str, list[int]]) -> Figure | None:
    """Draw how many events users have, and how many events windows have."""
    if not histogram:
        return None
    figure = new_figure(7.4, 2.6)
    users, windows = figure.subplots(1, 2)
    used = histogram[next(i for i, entry in enumerate(histogram) if entry["users"]) :]
    edges = [entry["from"] for entry in used] + [used[-1]["to"] + 1]
    users.stairs([entry["users"] for entry in used], edges, fill=True, color=_COLORS["train"], alpha=0.75)
    users.set_xscale("log", base=2)
    users.xaxis.set_major_locator(LogLocator(base=2, numticks=5))
    users.xaxis.set_minor_locator(NullLocator())
    users.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value < 5000 else human(value)))
    users.set_xlabel("events of a user")
    users.set_ylabel("users")
    for split in SPLITS:
        counts = np.cumsum(np.array(lengths[split], float))
        if counts[-1]:
            windows.plot(100 * counts / counts[-1], color=_COLORS[split], drawstyle="steps-post", label=split)
    windows.set_xlabel("events in a window, or fewer")
    windows.set_ylabel("% of windows")
    windows.set_ylim(0, 103)
    windows.set_xlim(0, len(lengths["train"]) - 1)
    users.yaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value)))
    _legend_above(windows)
    figure.subplots_adjust(wspace=0.3)
    return figure


def _plot_gaps(gaps: dict[str, int]) -> Figure | None:
    """Draw the times between a user's consecutive events."""
    total = sum(gaps.values())
    if total == 0:
        return None
    figure, axes = _figure(7.4, 2.3)
    share = [100 * count / total for count in gaps.values()]
    _bars(axes, list(gaps), share, [f"{value:.2g} %" if value else "none" for value in share])
    axes.set_xlabel("% of the times between two events of a user")
    return figure


def _plot_baselines(facts: dict[str, Any]) -> Figure | None:
    """Draw the nats of each predictor on val, and the floor where the data's generator knows it."""
    scores = facts["baselines"]["scores"].get("val")
    if scores is None:
        return None
    figure, axes = _figure(7.4, 1.9)
    nats = [score["nats"] for score in scores.values()]
    _bars(axes, [BASELINE_NAMES[name] for name in scores], nats, [f"{value:.3f}" for value in nats])
    axes.set_xlabel("nats per target on val; a better predictor has a shorter bar")
    floor = facts["floors"].get("val")
    if floor is not None:
        axes.axvline(floor, color="black", linewidth=1.2, linestyle=(0, (5, 3)), label=f"floor = {floor:.4g}")
        _legend_above(axes)
    return figure


def _bars(axes: Axes, names: list[str], values: list[float], labels: list[str]) -> None:
    bars = axes.barh(names, values, color=_COLORS["train"], alpha=0.75, height=0.66)
    axes.bar_label(bars, labels, padding=4, fontsize=8.5, color=_GREY)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.08 * max(values))


def new_figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout=None)
    FigureCanvasAgg(figure)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = new_figure(width, height)
    return figure, figure.subplots()


def _legend_above(axes: Axes) -> None:
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, ncols=3)
