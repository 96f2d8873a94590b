"""The law of a study that still runs: a process of its own, with requests on stdin and answers on stdout, a line each.

    ready
    {"table": "<study>/results.parquet", "variant": "erm", "target_flops": 1e14, "out": "<study>/report",
     "refresh_s": 20}
    {"line": "law of 17 cells (tied): ...", "values": {"alpha": [0.64, 0.55, 0.73], ...}, "cells": 17,
     "fit_s": 1.0, "report_s": 2.5}

`out` is null where no report is asked for; the times are CPU-seconds. What goes wrong is an answer too:
{"error": "..."}. It is a process because a fit in a thread would hold the interpreter of the sweep's driver, and be
held up by it; it ends when its stdin does.
"""

import json
import math
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from analysis.bootstrap import Interval
from analysis.budget import Flops
from analysis.law import Law, fit_law
from analysis.report import write_report
from analysis.table import read_table
from analysis.text import figures, scientific

Value = tuple[float, float, float]
"""Estimate, low and high end of its interval."""
_SHOWN = ("alpha", "beta", "exponent", "k", "L0")
_LOSS = "loss_at_target"


def law_values(law: Law) -> dict[str, Value]:
    """Return each parameter, and the law's loss at the first budget, with its interval; empty for a refused law."""
    if law.refused:
        return {}
    intervals = law.intervals()
    values = {name: (value, *intervals[name]) for name, value in law.fit.parameters.items()}
    if law.optima and law.optima[0].loss_interval:
        values[_LOSS] = (law.optima[0].loss, *law.optima[0].loss_interval)
    return values


def law_line(law: Law, target_flops: float) -> str:
    """Return the law with its intervals as one line, or why there is none."""
    if law.refused:
        return f"no law of {law.n_used} cells yet: {' '.join(law.reasons)}"
    values = law_values(law)
    parts = [f"{name} {_shown(values[name])}" for name in _SHOWN if name in values]
    if _LOSS in values:
        found, one_run = "unknown: no best split within reach", law.optima[0].run_interval
        if one_run and math.isfinite(values[_LOSS][0]):
            found = f"{_shown(values[_LOSS], 4)}, of one run {_interval(one_run, 4)}"
        parts.append(f"loss at {scientific(target_flops)} FLOPs {found}")
    return f"law of {law.n_used} cells ({law.form.name}): {'  '.join(parts)}"


def _shown(value: Value, digits: int = 3) -> str:
    return f"{figures(value[0], digits)} {_interval(value[1:], digits)}"


def _interval(interval: Interval, digits: int) -> str:
    return f"[{figures(interval[0], digits)}, {figures(interval[1], digits)}]"


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Return the law of the cells that are there, after writing the report that was asked for."""
    begin = time.process_time()
    table = read_table(Path(request["table"]), variant=request["variant"])
    law = fit_law(table, budgets=[Flops(request["target_flops"])])
    fitted = time.process_time()
    if request["out"] is not None:
        write_report(law, table, Path(request["out"]), refresh_s=request["refresh_s"])
    return {
        "line": law_line(law, request["target_flops"]),
        "values": {name: value for name, value in law_values(law).items() if all(map(math.isfinite, value))},
        "cells": law.n_used,
        "fit_s": fitted - begin,
        "report_s": time.process_time() - fitted,
    }


def serve(requests: Iterable[str], answers: TextIO) -> None:
    """Say that the imports are done, then answer requests, a line of JSON each, until there are no more."""
    print("ready", file=answers, flush=True)
    for line in requests:
        try:
            told = answer(json.loads(line))
        except Exception as error:
            # Not swallowed: the sweep prints it and goes on; the fit after the sweep raises it.
            told = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(told), file=answers, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that no half-written file stays behind
    serve(sys.stdin, sys.stdout)
