"""The words of a report: a law, its table and a study's plan in, a headline and sections of text and tables out.

Both templates only lay out what is here, so the HTML and the Markdown cannot disagree.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.forms import Parameters
from analysis.ladder import NUM_RUNGS
from analysis.law import Law
from analysis.report_facts import Grid, Section, cells_section, dataset_section, provenance_section, study_section
from analysis.table import Table
from analysis.text import figures, human, human_span, scientific, span

_MEANING = {
    "C_N": "size of the model term",
    "alpha": "how fast it falls with parameters",
    "C_D": "size of the data term",
    "beta": "how fast it falls with events",
    "L0": "the loss that no size removes",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Headline:
    """What a reader who stops after five lines takes home."""

    title: str
    refused: bool
    terms: tuple[tuple[str, str, str], ...]
    """(coefficient, variable, exponent) of each power-law term; empty when refused."""
    floor: str
    sentences: tuple[str, ...]


def headline(law: Law, table: Table) -> Headline:
    """Return the law in one line and what it means, or why there is none."""
    study = str(table.rows[0]["study"]) if table.is_study else table.path.name
    title = f"Scaling law of {study}"
    if law.refused:
        return Headline(title=title, refused=True, terms=(), floor="", sentences=())
    theta = law.fit.parameters
    unit = " nats per event" if table.is_study else ""
    sentences = [
        f"Ten times the events remove {1 - 10**-theta.beta:.0%} of the data term, ten times the parameters"
        f" {1 - 10**-theta.alpha:.0%} of the model term; however large both grow, the loss stays above"
        f" {figures(theta.L0)}{unit}{_within(law, 'L0')}."
    ]
    top = float(law.flops_per_param_event * table.points.compute().max())
    best = min(law.optima, key=lambda optimum: abs(np.log(optimum.flops / top)))
    sentences.append(
        f"For {scientific(best.flops)} FLOPs the best split is {human(best.num_params)} parameters and"
        f" {human(best.num_events)} events: {figures(best.ratio, 3)} events per parameter"
        + (f" ({law.bootstrap.level:.0%} interval {span(best.ratio_interval)})." if law.bootstrap else ".")
    )
    share = theta.beta / (theta.alpha + theta.beta)
    sentences.append(
        f"As the budget C grows, the best N grows as C^{share:.2f} and the best D as C^{1 - share:.2f}."
        f" The law explains {law.fit.r2:.2%} of the variance of {law.n_used} cells; its mean error is"
        f" {law.fit.mean_error:.2%}."
    )
    terms = (
        (figures(theta.C_N, 3), "N", figures(theta.alpha, 3)),
        (figures(theta.C_D, 3), "D", figures(theta.beta, 3)),
    )
    return Headline(title=title, refused=False, terms=terms, floor=figures(theta.L0), sentences=tuple(sentences))


def summarize(law: Law) -> str:
    """Return the law as a few lines for a terminal."""
    lines = [f"cells: {law.n_used} used, {len(law.dropped)} left out"]
    if not law.refused:
        lines.append(f"law ({law.method}): R2 {law.fit.r2:.5f}, mean error {law.fit.mean_error:.2%}")
        for name, value in law.fit.parameters._asdict().items():
            lines.append(f"  {name:<6}{figures(value):>12}   {span(law.intervals().get(name), 4)}")
    for best in law.optima:
        lines.append(
            f"optimum of {scientific(best.flops)} FLOPs: N {human(best.num_params)}, D {human(best.num_events)},"
            f" D/N {figures(best.ratio, 3)} ({span(best.ratio_interval)}), loss {figures(best.loss)}"
        )
    return "\n".join(lines + [f"warning: {warning}" for warning in law.warnings])


def sections(law: Law, table: Table, plan: Mapping[str, Any], floor: float | None) -> tuple[Section, ...]:
    """Return the parts of the report in their order, leaving out those that have nothing to say."""
    parts = [_trust(law), _law(law), _optimum(law), _floor(law, floor), _held_out(law)]
    parts += [study_section(plan), dataset_section(plan.get("dataset") or {}), cells_section(law, table)]
    parts += [provenance_section(law, table)]
    return tuple(part for part in parts if part is not None)


def _trust(law: Law) -> Section | None:
    if law.refused:
        return Section(title="Why the law is refused", notes=law.reasons + law.warnings)
    return Section(title="Read this first", notes=law.warnings) if law.warnings else None


def _law(law: Law) -> Section:
    drawn = ("loss_by_events", "loss_by_params")
    if not law.fits:
        return Section(title="The cells", figures=drawn)
    level = f"{law.bootstrap.level:.0%} interval" if law.bootstrap else "interval"
    rows = []
    for name in Parameters._fields:
        values = [figures(getattr(law.fits[method].parameters, name)) for method in (law.method, law.other)]
        stderr = figures(getattr(law.fit.stderr, name), 2)
        rows.append((name, values[0], span(law.intervals().get(name)), stderr, values[1], _MEANING[name]))
    for name, digits, meaning in (
        ("r2", 5, "share of the losses' variance"),
        ("mean_error", 3, "mean of |law / loss - 1|"),
        ("objective", 4, "sum of squares, or of Huber penalties"),
    ):
        values = [figures(getattr(law.fits[method], name), digits) for method in (law.method, law.other)]
        rows.append((name, values[0], "", "", values[1], meaning))
    text = (
        "L(N, D) = C_N N^-alpha + C_D D^-beta + L0, fitted by two methods: curve_fit is least squares on the loss (the"
        " paper's), huber the robust fit of Hoffmann et al. (2022) on the logarithm of the loss. Where they disagree by"
        " more than the interval, a few cells decide.",
    )
    grid = Grid(columns=("", law.method, level, "asymptotic error", law.other, "meaning"), rows=tuple(rows))
    title = "What the fit found, though it is refused" if law.refused else "The law"
    return Section(title=title, text=text, grids=(grid,), figures=(*drawn, "parameters"))


def _optimum(law: Law) -> Section | None:
    if not law.optima:
        return None
    rows = [
        (
            scientific(best.flops),
            human(best.num_params),
            human_span(best.num_params_interval),
            human(best.num_events),
            human_span(best.num_events_interval),
            figures(best.ratio, 3),
            span(best.ratio_interval),
            figures(best.loss),
            span(best.loss_interval, 4),
            "inside" if best.extrapolation <= 1 else f"{figures(best.extrapolation, 3)} times beyond",
        )
        for best in law.optima
    ]
    columns = ("FLOPs", "N*", "interval", "D*", "interval", "D*/N*", "interval", "loss", "interval", "measured range")
    text = (
        f"The split of a budget C = k N D with the lowest loss, k = {figures(law.flops_per_param_event, 3)} FLOPs per"
        " parameter and event. Intervals are those of the law, if its form is right; beyond the measured range they are"
        " too narrow.",
    )
    grid = Grid(columns=columns, rows=tuple(rows))
    return Section(title="What to train with a budget", text=text, grids=(grid,), figures=("optimum",))


def _floor(law: Law, floor: float | None) -> Section | None:
    if floor is None or law.refused:
        return None
    fitted = law.fit.parameters.L0
    rows = (
        ("true floor of the generator", figures(floor, 5), ""),
        ("fitted L0", figures(fitted, 5), span(law.intervals().get("L0"), 5)),
    )
    inside = law.bootstrap is not None and law.intervals()["L0"][0] <= floor <= law.intervals()["L0"][1]
    verdict = " The interval holds the true floor." if inside else " The interval does not hold the true floor."
    text = (
        "The data come from a generator that knows its own entropy, which no model can beat: a check that a real log"
        f" cannot give. The fitted L0 is {abs(fitted / floor - 1):.2%} {'above' if fitted > floor else 'below'} it."
        + (verdict if law.bootstrap else ""),
    )
    return Section(title="The floor", text=text, grids=(Grid(columns=("", "nats per event", "interval"), rows=rows),))


def _held_out(law: Law) -> Section | None:
    if law.refused:
        return None
    rows = [
        (f"{scientific(r.rung)} FLOPs", str(r.n_fitted), str(r.n_held_out), f"{r.error:.2%}", f"{r.bias:+.2%}")
        for r in law.held_out
    ]
    columns = ("fitted up to", "cells fitted", "cells predicted", "mean error", "bias")
    text = (
        "Laws of the cheaper cells, scored on the dearer ones; on its own cells this law errs by"
        f" {law.fit.mean_error:.2%}. A negative bias means that the law promised too much.",
    )
    if len(rows) < NUM_RUNGS:
        text += (f"At {NUM_RUNGS - len(rows)} of {NUM_RUNGS} cuts the cheaper cells give no law that would stand.",)
    grids = (Grid(columns=columns, rows=tuple(rows)),) if rows else ()
    return Section(title="Does it predict larger runs?", text=text, grids=grids, figures=("residuals",))


def _within(law: Law, name: str) -> str:
    return f" ({law.bootstrap.level:.0%} interval {span(law.intervals()[name], 4)})" if law.bootstrap else ""
