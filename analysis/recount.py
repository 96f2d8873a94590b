"""The same law under another counting of N: a table, a law and a column in, the refitted law and its decisions out.

Whether embeddings, or only weights in matrix products, count as parameters changes exponents and D / N by factors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.bootstrap import Interval, bootstrap
from analysis.budget import Budget
from analysis.calibration import Spread
from analysis.fit import Fit, fit
from analysis.frontier import Optimum, find_optimum
from analysis.table import Table

FLOPS_PER_PARAM_EVENT = 6.0
"""Forward 2, backward 4 (Kaplan et al. 2020), for a table that does not count its FLOPs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counting:
    """The same law under another counting of N."""

    num_params: str
    """The column that N was read from."""
    flops_per_param_event: float
    """k in C = k N D for this N."""
    fit: Fit
    intervals: dict[str, Interval]
    optima: tuple[Optimum, ...]


def recount(
    table: Table, name: str, law: Fit, spread: Spread | None, budgets: Sequence[Budget], unique_events: float
) -> Counting:
    """Return the law's form and method fitted to another counting of N, with as many draws and the same calibration."""
    points = table.points._replace(num_params=table.countings[name])
    rate, found, recounted = flops_rate(table, points.num_params), fit(law.form, points, law.method), None
    if spread is not None and not found.failures:
        draws = bootstrap(points, table.trunk, found, num_draws=spread.draws.num_draws, seed=spread.draws.seed)
        recounted = Spread(draws=draws, calibration=spread.calibration)
    return Counting(
        num_params=name,
        flops_per_param_event=rate,
        fit=found,
        intervals=recounted.parameters(found) if recounted else {},
        optima=tuple(find_optimum(found, recounted, points, budget, rate, unique_events) for budget in budgets),
    )


def flops_rate(table: Table, num_params: np.ndarray) -> float:
    """Return the median FLOPs of a parameter and event that the table's own counts give, else 6."""
    rates = table.flops / (num_params * table.points.num_events)
    known = rates[np.isfinite(rates)]
    return float(np.median(known)) if len(known) else FLOPS_PER_PARAM_EVENT
