"""The same question asked otherwise: under each counting of N, and without a law. A law in, sections out."""

import math

from analysis.frontier import Optimum
from analysis.law import Law
from analysis.report_facts import Grid, Section
from analysis.text import figures, human, human_span, span


def countings_section(law: Law) -> Section | None:
    if not law.countings or not law.optima:
        return None
    at = len(law.optima) // 2 if len(law.optima) > 1 else 0
    rows = [_counting_row(law.num_params_convention, law.flops_per_param_event, law.fit.parameters, law.optima[at])]
    rows += [
        _counting_row(c.num_params, c.flops_per_param_event, c.fit.parameters, c.optima[at]) for c in law.countings
    ]
    text = (
        "What counts as a parameter changes the answer: the same cells and form under each counting of N that the"
        f" table has, for {law.optima[at].budget.words}. fit.json has every budget.",
    )
    columns = ("N counts", "k", "alpha", "beta", "L0", "N*", "interval", "D*/N*", "interval", "loss")
    return Section(title="Under each counting of N", text=text, grids=(Grid(columns=columns, rows=tuple(rows)),))


def _counting_row(name: str, rate: float, parameters: dict[str, float], best: Optimum) -> tuple[str, ...]:
    shown = [figures(parameters.get(key), 3) for key in ("alpha", "beta", "L0")]
    shown[1] = shown[1] if "beta" in parameters else "as alpha"
    split = (human(best.num_params), human_span(best.num_params_interval))
    return (
        name,
        figures(rate, 3),
        *shown,
        *split,
        figures(best.ratio, 3),
        span(best.ratio_interval),
        figures(best.loss),
    )


def cross_checks_section(law: Law) -> Section | None:
    rows = tuple(
        (
            check.method,
            str(check.num_budgets),
            *("-" if math.isnan(value) else f"{value:.3f}" for value in (check.exponent, check.law_exponent)),
            f"{figures(check.disagreement, 3)} times",
        )
        for check in law.cross_checks
        if check.num_budgets
    )
    if not rows:
        return None
    text = (
        "The best N of a budget without a law: the lowest point of a parabola through equal compute (isoflop), and the"
        " lowest of the measured curves (envelope). Their N* should agree with the law's within the cells.",
    )
    columns = ("method", "budgets", "exponent of N*", "the law's", "typical factor to the law's N*")
    grid = Grid(columns=columns, rows=rows)
    return Section(title="The optimum without a law", text=text, grids=(grid,), figures=("valleys",))
