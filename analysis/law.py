"""The law of a table: a `Table` in, one `Law` out with both methods, intervals, optimum, held-out error and refusals.

The order: cells that cannot give a law are refused before a fit; both methods are fitted; the chosen one is
bootstrapped, and refused when it failed; report.py writes what is here and computes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from analysis.bootstrap import Bootstrap, bootstrap
from analysis.fit import METHODS, Fit, Method, fit
from analysis.forms import Parameters
from analysis.frontier import Optimum, default_budgets, find_optimum
from analysis.ladder import Rung, climb
from analysis.refusals import MIN_LEVELS, refuse_cells, warn_cells, warn_fit, warn_ladder, warn_optima
from analysis.table import Dropped, Table

FLOPS_PER_PARAM_EVENT = 6.0
"""Forward 2, backward 4 (Kaplan et al. 2020), for a table that does not count its FLOPs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Law:
    """A fitted L(N, D) with everything that a reader needs to believe it or not."""

    method: Method
    """The method whose law this is."""
    fits: dict[Method, Fit]
    """Both methods side by side; empty when the cells were refused."""
    bootstrap: Bootstrap | None
    """Draws of the chosen method; None when refused or not asked for."""
    optima: tuple[Optimum, ...]
    held_out: tuple[Rung, ...]
    warnings: tuple[str, ...]
    reasons: tuple[str, ...]
    """Why the law is refused; empty for a law that stands."""
    dropped: tuple[Dropped, ...]
    n_used: int
    num_params_convention: str
    """The column that N was read from."""
    flops_per_param_event: float
    """k in C = k N D."""

    @property
    def refused(self) -> bool:
        """Return whether the law must not be used."""
        return bool(self.reasons)

    @property
    def fit(self) -> Fit:
        """Return the fit of the chosen method; only for cells that were fitted."""
        return self.fits[self.method]

    @property
    def other(self) -> Method:
        """Return the method that stands beside the chosen one."""
        return "huber" if self.method == "curve_fit" else "curve_fit"

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return the interval of each parameter; empty without a bootstrap."""
        return self.bootstrap.intervals() if self.bootstrap else {}


def fit_law(
    table: Table,
    *,
    method: Method = "curve_fit",
    num_draws: int = 1000,
    seed: int = 0,
    budgets: Sequence[float] = (),
    flops_per_param_event: float | None = None,
) -> Law:
    """Return the law of a table's cells.

    Args:
        table: The cells.
        method: Whose law is the headline; the other stands beside it.
        num_draws: Bootstrap draws; 0 for none.
        seed: Of the bootstrap.
        budgets: FLOPs to find the optimum for; by default four around the table's own compute.
        flops_per_param_event: k in C = k N D; by default the median of the table's flops column, else 6.
    """
    points, rate = table.points, flops_per_param_event or _flops_per_param_event(table)
    reasons = refuse_cells(points)
    warnings = warn_cells(points, table.cell_id, _runs(table))
    fits: dict[Method, Fit] = {} if reasons else {name: fit(points, name) for name in METHODS}
    draws, optima, rungs = None, (), ()
    if fits:
        reasons += fits[method].failures
        warnings += tuple(f"{name}: {why}" for name in METHODS if name != method for why in fits[name].failures)
    if fits and not reasons:
        law = fits[method]
        if num_draws:
            draws = bootstrap(points, table.trunk, law, num_draws=num_draws, seed=seed)
        chosen = budgets or default_budgets(points, rate)
        optima = tuple(find_optimum(law.parameters, draws, points, flops, rate) for flops in chosen)
        rungs = climb(points, method, rate, MIN_LEVELS)
        warnings += warn_fit(law, draws, points, table.loss_stderr) + warn_ladder(law, rungs) + warn_optima(optima)
    return Law(
        method=method,
        fits=fits,
        bootstrap=draws,
        optima=optima,
        held_out=rungs,
        warnings=warnings,
        reasons=reasons,
        dropped=table.dropped,
        n_used=len(points.loss),
        num_params_convention=table.columns.params,
        flops_per_param_event=rate,
    )


def law_to_json(law: Law) -> dict[str, Any]:
    """Return fit.json: the law as plain values, null for what a refused law does not have."""
    chosen = law.fits.get(law.method)
    return {
        "form": "C_N * N**-alpha + C_D * D**-beta + L0",
        "method": law.method,
        "parameters": _named(chosen.parameters) if chosen else None,
        "stderr": _named(chosen.stderr) if chosen else None,
        "intervals": {name: list(interval) for name, interval in law.intervals().items()},
        "interval_level": law.bootstrap.level if law.bootstrap else None,
        "bootstrap": _bootstrap_to_json(law.bootstrap),
        "r2": chosen.r2 if chosen else None,
        "mean_error": chosen.mean_error if chosen else None,
        "objective": chosen.objective if chosen else None,
        "methods": {
            name: {"parameters": _named(f.parameters), "r2": f.r2, "failures": list(f.failures)}
            for name, f in law.fits.items()
        },
        "n_used": law.n_used,
        "dropped": [row._asdict() for row in law.dropped],
        "held_out": [rung._asdict() for rung in law.held_out],
        "warnings": list(law.warnings),
        "refused": law.refused,
        "reasons": list(law.reasons),
        "num_params_convention": law.num_params_convention,
        "flops_per_param_event": law.flops_per_param_event,
        "optimum": [_optimum_to_json(optimum) for optimum in law.optima],
    }


def _named(parameters: Parameters) -> dict[str, float | None]:
    """Return the parameters by name, null where not finite: JSON has no infinity."""
    return {name: value if np.isfinite(value) else None for name, value in parameters._asdict().items()}


def _optimum_to_json(optimum: Optimum) -> dict[str, Any]:
    return {field.name: getattr(optimum, field.name) for field in fields(optimum)}


def _bootstrap_to_json(draws: Bootstrap | None) -> dict[str, Any] | None:
    if draws is None:
        return None
    return {
        "scheme": "wild cluster bootstrap, the wider of by trunk and by row",
        "num_draws": draws.num_draws,
        "num_clusters": draws.num_clusters,
        "seed": draws.seed,
    }


def _flops_per_param_event(table: Table) -> float:
    """Return the median FLOPs of a parameter and event that the table's own counts give, else 6."""
    rates = table.flops / table.points.compute()
    known = rates[np.isfinite(rates)]
    return float(np.median(known)) if len(known) else FLOPS_PER_PARAM_EVENT


def _runs(table: Table) -> np.ndarray:
    """Return (C,) the index of each cell's run: one N, seed and trunk, the trunk only where the table knows it."""
    known = len(np.unique(table.trunk)) < len(table.trunk)
    trunk = table.trunk if known else np.zeros_like(table.trunk)
    keys = np.stack([table.points.num_params, table.seed, trunk], axis=-1)
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
