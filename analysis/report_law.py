"""The parts of a report that judge the law: a law in, sections of text, tables and named figures out.

Both templates only lay out what is here, so the HTML and the Markdown cannot disagree.
"""

from analysis.fit import Fit
from analysis.frontier import Optimum
from analysis.ladder import CUTS
from analysis.law import Law
from analysis.report_cells import cells_section, lost_section
from analysis.report_checks import countings_section, cross_checks_section
from analysis.report_facts import Grid, Section, dataset_section, provenance_section
from analysis.report_study import branch_section, noise_section, recipe_section, study_section
from analysis.report_text import coverage, readable
from analysis.study import Study
from analysis.table import Table
from analysis.text import figures, human, human_span, scientific, span

_MEANING = {
    "C_N": "size of the model term",
    "alpha": "how fast it falls with parameters",
    "C_D": "size of the data term",
    "beta": "how fast it falls with events",
    "L0": "the loss that no size removes",
    "k": "how model and data terms combine; 1 is the separable law",
    "R_N": "excess parameters are worth this many times the matched ones, at most",
    "R_D": "repeats are worth this many times the unique events, at most",
    "A": "size of the reducible loss",
    "exponent": "how fast it falls",
}


def sections(law: Law, table: Table, study: Study | None, floor: float | None, drawn: set[str]) -> tuple[Section, ...]:
    """Return the parts of the report in their order, leaving out those that have nothing to say."""
    parts = [
        _trust(law),
        _law(law),
        _optimum(law),
        countings_section(law),
        cross_checks_section(law),
        _floor(law, floor),
        _held_out(law),
        noise_section(table),
    ]
    if study is not None:
        parts += [study_section(study, drawn), recipe_section(study, table), branch_section(study)]
        parts += [dataset_section(study.plan.get("dataset") or {}), lost_section(study, table)]
    parts += [cells_section(law, table), provenance_section(law, table)]
    return tuple(part for part in parts if part is not None)


def _trust(law: Law) -> Section | None:
    if law.refused:
        return Section(title="Why the law is refused", notes=law.reasons + law.warnings)
    return Section(title="Read this first", notes=law.warnings) if law.warnings else None


def _law(law: Law) -> Section:
    drawn = ("loss_by_events", "loss_by_params", "loss_by_compute")
    if not law.fits:
        return Section(title="The cells", figures=drawn)
    level = f"{law.spread.draws.level:.0%} interval" if law.spread else "interval"
    rows = []
    for name in law.form.parameters:
        values = [figures(law.fits[method].parameters[name]) for method in (law.method, law.other)]
        stderr = figures(law.fit.stderr[name], 2)
        rows.append((name, values[0], span(law.intervals().get(name)), stderr, values[1], _MEANING.get(name, "")))
    for name, digits, meaning in (
        ("r2", 5, "share of the losses' variance"),
        ("mean_error", 3, "mean of |law / loss - 1|"),
        ("objective", 4, "sum of squares, or of Huber penalties"),
    ):
        values = [figures(getattr(law.fits[method], name), digits) for method in (law.method, law.other)]
        rows.append((name, values[0], "", "", values[1], meaning))
    text = (
        f"L(N, D) = {readable(law.form.formula)}, fitted by two methods: curve_fit is least squares on the loss (the"
        " paper's), huber the robust fit of Hoffmann et al. (2022) on the logarithm of the loss. Where they disagree by"
        " more than the interval, a few cells decide.",
        *([coverage(law)] if coverage(law) else ()),
    )
    grid = Grid(columns=("", law.method, level, "asymptotic error", law.other, "meaning"), rows=tuple(rows))
    title = "What the fit found, though it is refused" if law.refused else "The law"
    return Section(title=title, text=text, grids=(grid,), figures=(*drawn, "parameters"))


def _optimum(law: Law) -> Section | None:
    if not law.optima:
        return None
    text = (
        f"The split of a budget C = k N D with the lowest loss, k = {figures(law.flops_per_param_event, 3)} FLOPs per"
        " parameter and event. The interval of the law's loss narrows with more cells; that of one run has its own"
        " noise on top.",
        "How wide is the valley? What half and twice the best N cost on the same budget, as a share of the loss, and as"
        " the share of the budget that is wasted.",
    )
    valley = tuple(
        (
            best.budget.words,
            f"{best.half:+.2%}",
            f"{best.double:+.2%}",
            figures(100 * best.half_waste, 2),
            figures(100 * best.double_waste, 2),
        )
        for best in law.optima
        if best.exists
    )
    costs = Grid(
        columns=("budget", "loss at N*/2", "loss at 2 N*", "waste at N*/2, %", "waste at 2 N*, %"), rows=valley
    )
    grids = (_optima_grid(law.optima), costs) if valley else (_optima_grid(law.optima),)
    return Section(title="What to train with a budget", text=text, grids=grids, figures=("optimum",))


def _optima_grid(optima: tuple[Optimum, ...]) -> Grid:
    rows = tuple(_optimum_row(best) for best in optima)
    columns = ("budget", "N*", "interval", "D*", "interval", "D*/N*", "interval")
    columns += ("loss", "interval of the law", "one run lands in", "measured range")
    return Grid(columns=columns, rows=rows)


def _optimum_row(best: Optimum) -> tuple[str, ...]:
    if not best.exists:
        return (best.budget.words, *["-"] * 9, "no optimum within reach")
    return (
        best.budget.words,
        human(best.num_params),
        human_span(best.num_params_interval),
        human(best.num_events),
        human_span(best.num_events_interval),
        figures(best.ratio, 3),
        span(best.ratio_interval),
        figures(best.loss),
        span(best.loss_interval, 4),
        span(best.run_interval, 4),
        "inside" if best.extrapolation <= 1 else f"{figures(best.extrapolation, 3)} times beyond",
    )


def _floor(law: Law, floor: float | None) -> Section | None:
    if floor is None or law.refused or "L0" not in law.form.parameters:
        return None
    fitted, interval = law.fit.parameters["L0"], law.intervals().get("L0")
    rows = (
        ("true floor of the generator", figures(floor, 5), ""),
        ("fitted L0", figures(fitted, 5), span(interval, 5)),
    )
    inside = interval is not None and interval[0] <= floor <= interval[1]
    verdict = " The interval holds the true floor." if inside else " The interval does not hold the true floor."
    text = (
        "The data come from a generator that knows its own entropy, which no model can beat: a check that a real log"
        f" cannot give. The fitted L0 is {abs(fitted / floor - 1):.2%} {'above' if fitted > floor else 'below'} it."
        + (verdict if interval else ""),
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
        "Laws of the cheaper cells, scored on all dearer ones; on its own cells this law errs by"
        f" {law.fit.mean_error:.2%}. A negative bias means that the law promised too much.",
    )
    if len(rows) < len(CUTS):
        text += (f"At {len(CUTS) - len(rows)} of {len(CUTS)} cuts the cheaper cells are too few for this form.",)
    grids = (Grid(columns=columns, rows=tuple(rows)),) if rows else ()
    if law.contest and law.contest.errors:
        text += (f"Form: {law.contest.why}",)
        grids += (_contest_grid(law),)
    return Section(title="Does it predict larger runs?", text=text, grids=grids, figures=("ladder", "residuals"))


def _floor_of(fit: Fit) -> str:
    return "-" if fit.failures or "L0" not in fit.parameters else figures(fit.parameters["L0"])


def _contest_grid(law: Law) -> Grid:
    assert law.contest is not None
    rows = tuple(
        (
            name,
            _floor_of(law.contest.fits[name]),
            f"{error:.2%}",
            *(f"{step.rung(1.0).error:.2%}" for step in law.contest.steps[name]),
        )
        for name, error in sorted(law.contest.errors.items(), key=lambda pair: pair[1])
    )
    width = max(len(row) for row in rows)
    return Grid(
        columns=("form", "its L0", "mean error", *(f"rung {at}" for at in range(1, width - 2))),
        rows=tuple((*row, *[""] * (width - len(row))) for row in rows),
    )
