"""When cells cannot give a law: cells in, reasons with numbers out, before any fit. doubts.py has the warnings."""

import numpy as np

from analysis.forms import Form, Points

MAX_CORRELATION = 0.999
"""Of log N and log D over the cells; beyond it the two terms are one."""
_AXIS = {"N": "N, the number of parameters,", "D": "D, the number of events,"}


def refuse_cells(form: Form, points: Points) -> tuple[str, ...]:
    """Return why these cells cannot give a law of `form`; empty when they can."""
    reasons = []
    count, needed = len(points.loss), len(form.parameters) + 1
    if count < needed:
        reasons.append(f"Only {count} completed cells; {needed - 1} parameters need at least {needed} cells.")
    columns = {"N": points.num_params, "D": points.num_events}
    for axis in form.axes:
        levels = np.unique(columns[axis])
        if len(levels) < form.min_levels:
            shown = ", ".join(f"{level:g}" for level in levels) or "none"
            found = f"{_AXIS[axis]} has {len(levels)} distinct levels ({shown})"
            reasons.append(f"{found}; its exponent needs at least {form.min_levels}.")
    if reasons:
        return tuple(reasons)
    if len(form.axes) == 2:
        correlation = float(np.corrcoef(np.log(points.num_params), np.log(points.num_events))[0, 1])
        if abs(correlation) > MAX_CORRELATION:
            reasons.append(
                f"log N and log D move together over the cells (correlation {correlation:.5f}; allowed is at most"
                f" {MAX_CORRELATION}), so the model term cannot be told from the data term; vary D at fixed N."
            )
    if np.ptp(points.loss) == 0:
        reasons.append(f"Every cell has the same loss, {points.loss[0]:g}.")
    return tuple(reasons)
