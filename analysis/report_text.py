"""The words of a report: a law and its table in, a headline and a terminal's summary out."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.fit import Fit
from analysis.frontier import Optimum
from analysis.law import Law
from analysis.table import Table
from analysis.text import figures, human, span

Piece = tuple[str, Literal["plain", "italic", "sup"]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Headline:
    """What a reader who stops after five lines takes home."""

    title: str
    refused: bool
    alarms: tuple[str, ...]
    """What must be known before any number is believed."""
    equation: tuple[Piece, ...]
    """The law with its numbers; empty when refused."""
    sentences: tuple[str, ...]


def headline(law: Law, table: Table, alarms: tuple[str, ...] = ()) -> Headline:
    """Return the law in one line and what it means, or why there is none."""
    study = str(table.rows[0]["study"]) if table.is_study else table.path.name
    several = len({row.get("variant") for row in table.rows}) > 1
    title = f"Scaling law of {study}" + (f", {table.variant}" if several else "")
    if law.refused:
        return Headline(title=title, refused=True, alarms=alarms, equation=(), sentences=())
    sentences = [_floor(law, table)] if "L0" in law.form.parameters else []
    if law.optima:
        sentences += [_best(law, table)]
    if any(best.exists for best in law.optima):
        sentences += [_growth(law)]
    sentences.append(
        f"The law explains {law.fit.r2:.2%} of the variance of {law.n_used} cells; its mean error is"
        f" {law.fit.mean_error:.2%}."
    )
    if law.contest:
        sentences.append(f"The form: {law.contest.why}")
    return Headline(title=title, refused=False, alarms=alarms, equation=equation(law.fit), sentences=tuple(sentences))


def equation(fit: Fit) -> tuple[Piece, ...]:
    """Return the law with its numbers, or with its parameters' names where numbers would not be read."""
    values = {name: figures(value, 3) for name, value in fit.parameters.items()}
    left: list[Piece] = [
        ("L", "italic"),
        ("(", "plain"),
        ("N", "italic"),
        (", ", "plain"),
        ("D", "italic"),
        (") = ", "plain"),
    ]
    match fit.form.name:
        case "farseer":
            return (*left, (readable(fit.form.formula), "plain"))
        case "params" | "events" | "compute":
            variable = {"params": "N", "events": "D", "compute": "ND"}[fit.form.name]
            powers = [_power(values["A"], variable, values["exponent"])]
        case _:
            prime = "\u2032" if fit.form.name == "repeats" else ""
            beta = values.get("beta", values["alpha"])
            powers = [_power(values["C_N"], f"N{prime}", values["alpha"]), _power(values["C_D"], f"D{prime}", beta)]
    terms = powers[0]
    for power in powers[1:]:
        terms = [*terms, (" + ", "plain"), *power]
    if "k" in values:
        terms = [("(", "plain"), *terms, (")", "plain"), (values["k"], "sup")]
    return (*left, *terms, (" + ", "plain"), (values["L0"], "plain"))


def readable(formula: str) -> str:
    """Return a formula without the asterisks of Python."""
    return formula.replace("**", "^").replace(" * ", " ")


def summarize(law: Law) -> str:
    """Return the law as a few lines for a terminal."""
    lines = [f"cells: {law.n_used} used, {len(law.dropped)} left out"]
    if not law.refused:
        if law.contest:
            lines.append(f"form: {law.contest.why}")
        lines.append(f"law ({law.form.name}, {law.method}): R2 {law.fit.r2:.5f}, mean error {law.fit.mean_error:.2%}")
        for name, value in law.fit.parameters.items():
            lines.append(f"  {name:<9}{figures(value):>12}   {span(law.intervals().get(name), 4)}")
        if coverage(law):
            lines.append(f"  {coverage(law)}")
    for best in law.optima:
        if not best.exists:
            lines.append(f"optimum of {best.budget.words}: none within reach of the cells; the loss falls to one end")
            continue
        lines.append(
            f"optimum of {best.budget.words}: N {human(best.num_params)}, D {human(best.num_events)},"
            f" D/N {figures(best.ratio, 3)} ({span(best.ratio_interval)}), loss {figures(best.loss)}"
            f" ({span(best.loss_interval, 4)}; one run {span(best.run_interval, 4)}); half or twice that N costs"
            f" {_cost(best)}"
        )
    return "\n".join(lines + [f"warning: {warning}" for warning in law.warnings])


def coverage(law: Law) -> str:
    """Return what the ladder says about the intervals; empty without intervals."""
    if law.spread is None:
        return ""
    level = f"{law.spread.draws.level:.0%}"
    told = law.calibration
    if told is None:
        return f"Intervals: {level} by bootstrap, their coverage not measured: too few dearer cells to hold out."
    widened = f"widened {told.factor:.2f} times" if told.factor > 1 else "as the bootstrap gives them"
    return (
        f"Intervals: {level}, {widened}; measured on {told.num_held_out} held-out dearer losses they cover"
        f" {told.coverage:.0%} (the bootstrap alone {told.raw_coverage:.0%})."
    )


def _power(coefficient: str, variable: str, exponent: str) -> list[Piece]:
    return [(f"{coefficient} ", "plain"), (variable, "italic"), (f"\u2212{exponent}", "sup")]


def _floor(law: Law, table: Table) -> str:
    theta, unit = law.fit.parameters, " nats per event" if table.is_study else ""
    within = f" ({law.spread.draws.level:.0%} interval {span(law.intervals()['L0'], 4)})" if law.spread else ""
    lowest = figures(float(table.points.loss.min()))
    stays = (
        f"however large both grow, the loss stays above {figures(theta['L0'])}{unit}{within}, if this form holds beyond"
        f" the cells: the lowest of them is at {lowest}."
    )
    if law.form.name in ("separable", "tied"):
        beta = theta.get("beta", theta["alpha"])
        return (
            f"Ten times the events remove {1 - 10**-beta:.0%} of the data term, ten times the parameters"
            f" {1 - 10 ** -theta['alpha']:.0%} of the model term; {stays}"
        )
    return stays[0].upper() + stays[1:]


def _best(law: Law, table: Table) -> str:
    top = float(law.flops_per_param_event * table.points.compute().max())
    known = [best for best in law.optima if best.exists]
    if not known:
        return "No budget that was asked about has a best split within reach of the cells: the loss falls to one end."
    best = min(known, key=lambda optimum: abs(np.log(optimum.flops / top)))
    return (
        f"For {best.budget.words} the best split is {human(best.num_params)} parameters and"
        f" {human(best.num_events)} events: {figures(best.ratio, 3)} events per parameter"
        + (f" ({law.spread.draws.level:.0%} interval {span(best.ratio_interval)})" if law.spread else "")
        + f". Half or twice that N costs {_cost(best)}."
    )


def _growth(law: Law) -> str:
    known = [best for best in law.optima if best.exists]
    logs = np.log([[best.flops, best.num_params] for best in known]).reshape(-1, 2)
    if len(np.unique(logs[:, 0])) < 2:
        return "One budget says nothing about how the best split grows."
    share = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])
    return f"As the budget C grows, the best N grows about as C^{share:.2f} and the best D as C^{1 - share:.2f}."


def _cost(best: Optimum) -> str:
    """Return what a factor of two off costs."""
    waste = [f"{figures(100 * value, 2)}%" for value in (best.half_waste, best.double_waste)]
    return f"{best.half:.2%} or {best.double:.2%} of the loss, as if {waste[0]} or {waste[1]} of the budget were lost"
