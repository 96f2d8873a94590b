"""Does a law predict larger runs, and which form does best? Cells in, errors of laws of the cheaper cells out.

The cells are ordered by compute and cut at several places; below each cut a law is fitted, and scored on every cell
above it: the ladder that one climbs in practice, walked on runs that are already known.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from analysis.fit import Fit, Method, fit
from analysis.forms import Coupled, Farseer, Form, Points, Repeats, Separable, Tied

CUTS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of the cells, by compute, below which a law is fitted."""
_CELLS_PER_PARAMETER = 2
_MIN_RUNGS = 2
SIMPLER_WITHIN = 0.10
"""The form with the fewest parameters wins among those whose error is within this share of the best."""


class Rung(NamedTuple):
    """One step of the ladder."""

    rung: float
    """FLOPs at the cut: cells up to here were fitted."""
    error: float
    """Mean |L_hat / L - 1| on the cells above."""
    bias: float
    """Mean L_hat / L - 1: below zero when the law promised too much."""
    n_fitted: int
    n_held_out: int


class Step(NamedTuple):
    """A rung with its cells and its law."""

    below: Points
    trunk: np.ndarray
    """(C,) trunks of the cells below."""
    above: Points
    fit: Fit

    def rung(self, flops_per_param_event: float) -> Rung:
        """Return the rung's score."""
        miss = self.fit.predict(self.above) / self.above.loss - 1
        cut = float(self.below.compute().max() * flops_per_param_event)
        return Rung(cut, float(np.abs(miss).mean()), float(miss.mean()), len(self.below.loss), len(miss))


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """The forms' held-out errors and the winner."""

    steps: dict[str, tuple[Step, ...]]
    """The climbed ladder of each form that had enough cells on every rung, by name."""
    errors: dict[str, float]
    """Mean over the rungs of each form's error."""
    fits: dict[str, Fit]
    """Of all cells, of the same forms."""
    chosen: Form
    why: str
    """The choice in one sentence."""


def climb(form: Form, points: Points, trunk: np.ndarray, method: Method) -> tuple[Step, ...]:
    """Return the rungs with two cells a parameter and enough levels of each axis below, and cells above."""
    compute = points.compute()
    steps = []
    for cut in np.unique(np.quantile(compute, CUTS)):
        below, above = points.take(compute <= cut), points.take(compute > cut)
        if has_enough(form, below) and len(above.loss):
            steps.append(Step(below, trunk[compute <= cut], above, fit(form, below, method)))
    return tuple(steps)


def has_enough(form: Form, points: Points) -> bool:
    """Return whether cells are enough to hold out others: cells per parameter, levels of the form's axes."""
    levels = {"N": points.num_params, "D": points.num_events}
    enough = len(points.loss) >= _CELLS_PER_PARAMETER * len(form.parameters)
    return enough and all(len(np.unique(levels[axis])) >= form.min_levels for axis in form.axes)


def candidates(points: Points) -> tuple[Form, ...]:
    """Return the forms that compete: with repeated events, only one that knows repeats can tell what they are worth."""
    forms: tuple[Form, ...] = (Tied(), Separable(), Coupled(), Farseer())
    return (*forms, Repeats()) if np.max(points.num_epochs) > 1 else forms


def compete(forms: Sequence[Form], points: Points, trunk: np.ndarray, method: Method) -> Contest:
    """Return the forms' ladders and the choice: held-out error, then simplicity, among those sound on all cells."""
    ladders = {form.name: climb(form, points, trunk, method) for form in forms}
    # The paper's form tells how many rungs there are: one that a form has alone compares nothing.
    num_rungs = len(ladders.get("separable", ladders[forms[0].name]))
    full = {name: steps for name, steps in ladders.items() if len(steps) >= num_rungs >= _MIN_RUNGS}
    errors = {name: float(np.mean([s.rung(1.0).error for s in steps[-num_rungs:]])) for name, steps in full.items()}
    fits = {form.name: fit(form, points, method) for form in forms if form.name in errors}
    sound = [form for form in forms if form.name in errors and not fits[form.name].failures]
    if not sound:
        return Contest(
            steps=full,
            errors=errors,
            fits=fits,
            chosen=forms[0] if len(forms) == 1 else Separable(),
            why="the paper's form, by default: too few cells to hold some out, or no form fits all of them soundly.",
        )
    best = min(sound, key=lambda form: errors[form.name])
    near = [form for form in sound if errors[form.name] * (1 - SIMPLER_WITHIN) <= errors[best.name]]
    chosen = min(near, key=lambda form: len(form.parameters))
    why = f"{chosen.name}, by its error on dearer cells that the fit had not seen, {_shown(errors, num_rungs)}."
    if chosen is not best:
        why += f" {best.name} is better by less than {SIMPLER_WITHIN:.0%} and has more parameters."
    unsound = [form.name for form in forms if form.name in errors and form not in sound]
    if unsound:
        why += f" Out, because their fits to all cells fail: {', '.join(unsound)}."
    return Contest(steps=full, errors=errors, fits=fits, chosen=chosen, why=why)


def as_asked(contest: Contest, form: Form) -> Contest:
    """Return the contest with the user's form in place of the winner."""
    num_rungs = max((len(steps) for steps in contest.steps.values()), default=0)
    shown = f"; errors on dearer cells, {_shown(contest.errors, num_rungs)}" if contest.errors else ""
    return replace(contest, chosen=form, why=f"{form.name}, as asked{shown}.")


def _shown(errors: dict[str, float], num_rungs: int) -> str:
    listed = ", ".join(f"{name} {error:.2%}" for name, error in sorted(errors.items(), key=lambda pair: pair[1]))
    return f"mean of {num_rungs} rungs: {listed}"
