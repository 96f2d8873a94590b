"""fit.json: a law in, plain values for programs out, null for what a refused law does not have."""

from dataclasses import fields
from typing import Any

import numpy as np

from analysis.frontier import Optimum
from analysis.law import Law
from analysis.recount import Counting


def law_to_json(law: Law) -> dict[str, Any]:
    """Return fit.json."""
    chosen = law.fits.get(law.method)
    return _plain(
        {
            "form": law.form.name,
            "formula": law.form.formula,
            "why_this_form": law.contest.why if law.contest else None,
            "held_out_error_by_form": law.contest.errors if law.contest else {},
            "method": law.method,
            "parameters": chosen.parameters if chosen else None,
            "stderr": chosen.stderr if chosen else None,
            "intervals": law.intervals(),
            "interval_level": law.spread.draws.level if law.spread else None,
            "bootstrap": _bootstrap_to_json(law),
            "calibration": _record(law.calibration) if law.calibration else None,
            "r2": chosen.r2 if chosen else None,
            "mean_error": chosen.mean_error if chosen else None,
            "objective": chosen.objective if chosen else None,
            "methods": {
                name: {"parameters": f.parameters, "r2": f.r2, "failures": f.failures} for name, f in law.fits.items()
            },
            "n_used": law.n_used,
            "dropped": [row._asdict() for row in law.dropped],
            "held_out": [rung._asdict() for rung in law.held_out],
            "cross_checks": [_record(check) for check in law.cross_checks],
            "warnings": law.warnings,
            "refused": law.refused,
            "reasons": law.reasons,
            "num_params_convention": law.num_params_convention,
            "flops_per_param_event": law.flops_per_param_event,
            "optimum": [_optimum(optimum) for optimum in law.optima],
            "countings": [_counting(counting) for counting in law.countings],
        }
    )


def _optimum(optimum: Optimum) -> dict[str, Any]:
    return _record(optimum) | {"budget": optimum.budget.words}


def _counting(counting: Counting) -> dict[str, Any]:
    return {
        "num_params": counting.num_params,
        "flops_per_param_event": counting.flops_per_param_event,
        "parameters": counting.fit.parameters,
        "intervals": counting.intervals,
        "failures": counting.fit.failures,
        "optimum": [_optimum(optimum) for optimum in counting.optima],
    }


def _bootstrap_to_json(law: Law) -> dict[str, Any] | None:
    if law.spread is None:
        return None
    draws = law.spread.draws
    return {
        "scheme": "wild cluster bootstrap, the wider of by trunk and by row",
        "num_draws": draws.num_draws,
        "num_clusters": draws.num_clusters,
        "seed": draws.seed,
        "run_noise": draws.noise,
    }


def _record(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _plain(value: Any) -> Any:
    """Return the value as JSON knows it: lists, and null for what is not finite."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
