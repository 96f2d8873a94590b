"""Is the recipe's learning rate right? Rates around the rule, at a few widths and one small D, over several seeds.

In: a dataset, widths, factors of the rule's rate. Out: a study with one variant per factor, and from its results the
best rate of each width, the rule rate = c / width that fits them with its scatter, what the rule in use costs, and the
noise between seeds: the figures in recipe.py. Pure but for numpy; jobs/calibrate.py is the command.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from behavegpt.errors import InputError
from behavegpt.study.config import StudyConfig, Variant, of_widths
from behavegpt.study.recipe import LEARNING_RATE_X_WIDTH
from behavegpt.train.config import ExecutionConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class WidthResult:
    """What one width says."""

    width: int
    losses: dict[float, float]
    """Mean over seeds, by factor of the rule's rate; NaN where a run diverged."""
    best_rate: float
    """At the vertex of the parabola through the best mean and its neighbours, in log rate."""
    bracketed: bool
    """Whether the best mean has neighbours on both sides; else `best_rate` is a bound."""
    regret: float
    """Nats that the rule's own rate loses to the best of those tried."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """The sweep in figures."""

    num_events: int
    widths: tuple[WidthResult, ...]
    rate_x_width: float
    """c of rate = c / width: the geometric mean of best rate x width over the bracketed widths."""
    scatter: float
    """Largest factor by which a bracketed width's best rate is off that rule."""
    exponent: float
    """p of the free fit rate ~ width^-p; NaN with fewer than two bracketed widths. The rule takes p = 1."""
    seed_sd: float
    """Of the loss between seeds, pooled over widths and rates."""


def calibration_study(
    widths: Sequence[int],
    num_events: int,
    factors: Sequence[float],
    seeds: Sequence[int],
    execution: ExecutionConfig,
) -> StudyConfig:
    """Return the study: one variant per factor.

    Raises:
        InputError: A value is wrong, or the rule's own rate, factor 1, is not among the factors.
    """
    if 1.0 not in factors:
        raise InputError(f"factors is {tuple(factors)}; it must hold 1, the rule's own rate")
    return StudyConfig(
        name="calibration",
        sizes=of_widths(*widths),
        num_events=(num_events,),
        seeds=tuple(seeds),
        variants=tuple(Variant(rate_factor=factor) for factor in sorted(factors)),
        execution=execution,
    )


def calibrate(rows: Sequence[dict[str, Any]]) -> Calibration:
    """Return what the rows of a calibration study say.

    Raises:
        InputError: No width completed with the rule's own rate.
    """
    losses: dict[int, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        factor = float(f"{row['learning_rate'] * row['width'] / LEARNING_RATE_X_WIDTH:.6g}")
        completed = row["status"] == "completed"
        losses[row["width"]][factor].append(row["loss"] if completed else math.nan)
    known = {w: by for w, by in losses.items() if np.isfinite(by.get(1.0, [math.nan])).all()}
    if not known:
        raise InputError("no width completed at the rule's own rate, so there is nothing to compare with")
    widths = tuple(_judge(width, {f: float(np.mean(v)) for f, v in sorted(by.items())}) for width, by in known.items())
    good = [one for one in widths if one.bracketed]
    rates = np.log([one.best_rate for one in good])
    logs = np.log([one.width for one in good])
    constant = float(np.exp(np.mean(rates + logs))) if good else math.nan
    variances = [np.var(v, ddof=1) for by in known.values() for v in by.values() if len(v) > 1 and np.isfinite(v).all()]
    return Calibration(
        num_events=rows[0]["num_events"],
        widths=widths,
        rate_x_width=constant,
        scatter=float(np.exp(np.abs(rates + logs - math.log(constant)).max())) if good else math.nan,
        exponent=float(-np.polyfit(logs, rates, 1)[0]) if len(good) > 1 else math.nan,
        seed_sd=float(np.sqrt(np.mean(variances))) if variances else math.nan,
    )


def _judge(width: int, means: dict[float, float]) -> WidthResult:
    finite = {factor: loss for factor, loss in means.items() if math.isfinite(loss)}
    best = min(finite, key=lambda factor: finite[factor])
    order = sorted(means)
    index = order.index(best)
    around = order[max(0, index - 1) : index + 2]
    bracketed = len(around) == 3 and all(f in finite for f in around)
    log_factor = math.log(best)
    if bracketed:
        curve = np.polyfit(np.log(around), [finite[f] for f in around], 2)
        log_factor = float(-curve[1] / (2 * curve[0]))
    return WidthResult(
        width=width,
        losses=means,
        best_rate=math.exp(log_factor) * LEARNING_RATE_X_WIDTH / width,
        bracketed=bracketed,
        regret=means[1.0] - finite[best],
    )


def calibration_lines(result: Calibration) -> list[str]:
    """Return the calibration as aligned text."""
    factors = sorted({factor for one in result.widths for factor in one.losses})
    head = "".join(f"{f'x {factor:g}':>9}" for factor in factors)
    lines = [
        f"mean loss at D = {result.num_events:,} by rate over the rule's {LEARNING_RATE_X_WIDTH:g} / width",
        f"  {'width':>6}{head} {'best rate':>11} {'x width':>8} {'regret':>8}",
    ]
    for one in result.widths:
        cells = "".join(f"{one.losses.get(factor, math.nan):>9.4f}" for factor in factors)
        bound = "" if one.bracketed else "  (at the edge of the rates tried: a bound)"
        lines.append(
            f"  {one.width:>6}{cells} {one.best_rate:>11.2e} {one.best_rate * one.width:>8.3f} "
            f"{one.regret:>8.4f}{bound}"
        )
    return [
        *lines,
        f"rule that fits: {result.rate_x_width:.3f} / width, within a factor of {result.scatter:.2f}; "
        f"free exponent {result.exponent:.2f}; in use: {LEARNING_RATE_X_WIDTH:g} / width",
        f"noise between seeds: {result.seed_sd:.4f} nats",
    ]
