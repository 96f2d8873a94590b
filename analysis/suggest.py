"""Which cells to train next: a law, its table and what could be trained in, the cells that tell most per FLOP out.

The width that is to shrink is that of the printed, calibrated 95 % interval of the law's loss at a target budget's
optimum; where one run lands there is printed beside it, and has the noise of a run on top, which no cell makes less.
The width is scaled by the ratio of the design's standard deviations (design.py: c-optimal design, one cell after the
other as by Wynn 1970, here per FLOP); the calibration's factor stays as it is.

What this does not know: a form that is wrong beyond the cells. The interval's factor answers for that, and comes from
the ladder of held-out rungs; so an interval without one counts as infinitely wide, and `first_cells` buys a ladder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis import design
from analysis.budget import Budget
from analysis.design import Design
from analysis.forms import Points, Separable
from analysis.forms.points import unit_points
from analysis.frontier import Optimum
from analysis.ladder import CUTS, has_enough
from analysis.law import Law
from analysis.purse import Candidate, Price, Purse, check_candidates
from analysis.refusals import refuse_cells
from analysis.table import Table
from analysis.text import human, scientific
from behavegpt.errors import InputError

_DRAWS = 32
"""Draws of the parameters over which the worth of a cell is averaged."""
_MIN_RUNGS, _MIN_HELD_OUT = 2, 5
"""What calibration.py asks of a ladder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A cell to train next."""

    candidate: Candidate
    cost: float
    """FLOPs on top of what is there and of the choices before it."""
    width: float
    """Expected width of the target's interval after it and all before it, as `target_width` counts it; infinite where
    no law stands that could tell."""


def target_width(law: Law, budget: Budget) -> float:
    """Return (high - low) / loss of the printed, calibrated 95 % interval of the law's loss at the budget's optimum.

    Infinite where the law is refused, has no optimum for the budget, or has no ladder to calibrate the interval on.

    Args:
        law: With draws, and with the budget among those that it was asked for: `fit_law(..., budgets=[budget])`.
        budget: The target.

    Raises:
        InputError: The law was not asked for the budget, or has no draws.
    """
    if law.refused:
        return np.inf
    found = _optimum(law, budget)
    if law.calibration is None or found.loss_interval is None or not np.isfinite(found.loss):
        return np.inf
    low, high = found.loss_interval
    return (high - low) / found.loss


def suggest(
    law: Law,
    table: Table,
    candidates: Sequence[Candidate],
    price: Price,
    budget: Budget,
    *,
    number: int,
    rivals: Sequence[Law] = (),
    may_cost: float = np.inf,
) -> tuple[Choice, ...]:
    """Return up to `number` cells, each the one that shrinks the target's interval most per FLOP after those before it.

    A law that is refused, or has no optimum for the budget, cannot tell one cell from another: then they are the
    cheapest ones, cheapest first, of infinite width.

    Args:
        law: With draws, fitted to `table`, and asked for the budget.
        table: The cells that exist.
        candidates: The cells that could be trained; those that the table has already are skipped.
        price: What they cost.
        budget: The target.
        number: How many to choose; fewer come back where there are fewer candidates.
        rivals: Laws of other forms, of the same cells and asked for the same budget. A cell is worth what it tells on
            average of all of them, so that the choice also serves the form that further cells may prefer.
        may_cost: FLOPs that the choices together do not exceed.

    Raises:
        InputError: The law has no draws or no answer for the budget, or a candidate or its price is not positive.
    """
    names = trunk_names(table)
    there = set(zip(names, table.points.num_events.tolist(), strict=True))
    left = [cell for cell in dict.fromkeys(candidates) if (cell.trunk, float(cell.num_events)) not in there]
    check_candidates(left)
    purse = Purse(price, left, may_cost)
    known = [one for one in (law, *rivals) if not one.refused and np.isfinite(_optimum(one, budget).loss)]
    if law not in known or not left:
        return _cheapest(purse, number)
    views = [_View.of(one, table, names, left, _optimum(one, budget)) for one in known]
    width = target_width(law, budget)
    chosen: list[Choice] = []
    while purse.left and len(chosen) < number:
        ratios = np.array([view.ratios(purse.left) for view in views])
        worth = (1 - np.sqrt(ratios)).mean(axis=0)
        best = int(np.argmax(worth / purse.costs if worth.max() > 0 else worth))
        at, cost = purse.left[best], float(purse.costs[best])
        width *= float(np.sqrt(ratios[0, best]))
        views = [view.add(at) for view in views]
        chosen.append(Choice(candidate=left[at], cost=cost, width=width))
        purse.take(best)
    return tuple(chosen)


def first_cells(candidates: Sequence[Candidate], price: Price) -> tuple[Candidate, ...]:
    """Return cells that give a calibrated law, cheapest first, and none that could be spared.

    They have three levels of N and of D, which do not move together, and so many cells that the separable law climbs a
    ladder of two rungs with five cells held out; where the candidates are too few for a ladder, all of them.

    Raises:
        InputError: No law can be fitted to all the candidates together, or one of them or its price is not positive.
    """
    left = list(dict.fromkeys(candidates))
    check_candidates(left)
    if reasons := refuse_cells(Separable(), _points(left)):
        raise InputError(*(f"The candidates give no law: {reason}" for reason in reasons))
    order = [choice.candidate for choice in _cheapest(Purse(price, left), len(left))]
    if not _gives_ladder(order):
        return tuple(order)
    enough = next(count for count in range(1, len(order) + 1) if _gives_ladder(order[:count]))
    kept = order[:enough]
    for cell in sorted(kept, key=lambda cell: price([other for other in kept if other != cell])):
        without = [other for other in kept if other != cell]
        kept = without if _gives_ladder(without) else kept
    return tuple(kept)


def suggestion_lines(choices: Sequence[Choice], width_now: float, budget: Budget) -> list[str]:
    """Return the choices as a table for a terminal: the cell, its cost, the expected width, one line each."""
    lines = [
        f"Next cells for the loss at {budget.words}; the law's 95 % interval of it is now {_percent(width_now)} of the"
        " loss wide.",
        f"{'N':>8}  {'D':>8}  {'FLOPs':>8}  {'all so far':>10}  {'width then':>10}  trunk",
    ]
    spent = 0.0
    for choice in choices:
        cell, spent = choice.candidate, spent + choice.cost
        sizes = f"{human(cell.num_params):>8}  {human(cell.num_events):>8}"
        costs = f"{scientific(choice.cost):>8}  {scientific(spent):>10}"
        lines.append(f"{sizes}  {costs}  {_percent(choice.width):>10}  {cell.trunk}")
    return lines if choices else [lines[0], "No cell is left to train."]


def trunk_names(table: Table) -> list[str]:
    """Return (C,) the names of the cells' trunks; of anyone's table, which keeps no names, those of no candidate."""
    known = {row["cell_id"]: row["trunk_id"] for row in table.rows}
    return [known.get(cell) or f"\0{trunk}" for cell, trunk in zip(table.cell_id, table.trunk, strict=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class _View:
    """What the cells tell of the target if a law of one form holds."""

    design: Design
    rows: np.ndarray
    """(K, M, Q) gradients of the M candidates."""
    scale: np.ndarray
    """(M,) their standard deviations over a typical one."""
    weight: np.ndarray
    """(M,) factors of their residuals in a fit, as those of the cells that exist depend on D."""
    trunks: Sequence[str]

    @classmethod
    def of(cls, law: Law, table: Table, names: Sequence[str], cells: Sequence[Candidate], found: Optimum) -> "_View":
        """Return the view of a law; its open directions and the K values it is linearised at are those of its draws."""
        assert law.spread is not None
        draws, form, points = law.spread.draws, law.form, table.points
        units = form.units(points)
        drawn = form.rescale(draws.draws.reshape(-1, draws.draws.shape[-1]), *units)
        at = np.linspace(0, len(drawn) - 1, min(_DRAWS, len(drawn))).astype(int)
        theta, fitted = drawn[at], form.rescale(law.fit.theta, *units)[None]
        directions = design.open_directions(drawn)
        jacobian = design.gradients(form, fitted, unit_points(points, units))[0]
        residual = np.log(points.loss / law.fit.predict(points))
        parts = design.estimate_components(residual, jacobian, names, points.compute())
        offered = _points(cells)
        goal = Points(np.array([found.num_params]), np.array([found.num_events]), np.ones(1))
        rows, target, news = (
            design.gradients(form, theta, unit_points(where, units)) @ directions for where in (points, goal, offered)
        )
        there = design.start(
            rows,
            parts.scale(points.compute()),
            names,
            weight=np.broadcast_to(points.weight, residual.shape),
            parts=parts,
            target=target[:, 0],
        )
        return cls(
            design=there,
            rows=news,
            scale=parts.scale(offered.compute()),
            weight=_weights_at(points, offered.num_events),
            trunks=[cell.trunk for cell in cells],
        )

    def ratios(self, left: Sequence[int]) -> np.ndarray:
        """Return (M,) the target's variance with each of these candidates, over that without."""
        trunks = [self.trunks[at] for at in left]
        return self.design.ratios(self.rows[:, left], self.scale[left], self.weight[left], trunks)

    def add(self, at: int) -> "_View":
        """Return the view with one candidate trained."""
        scale, weight = float(self.scale[at]), float(self.weight[at])
        return replace(self, design=self.design.add(self.rows[:, at], scale, weight, self.trunks[at]))


def _weights_at(points: Points, num_events: np.ndarray) -> np.ndarray:
    """Return the weights of cells to come: those of a study's cells are a power of D."""
    weight = np.broadcast_to(points.weight, points.loss.shape)
    levels, at = np.unique(points.num_events, return_index=True)
    return np.exp(np.interp(np.log(num_events), np.log(levels), np.log(weight[at])))


def _optimum(law: Law, budget: Budget) -> Optimum:
    """Return the law's answer for the budget."""
    if law.spread is None:
        raise InputError("The law has no draws, so no interval: fit it with num_draws above 0.")
    found = [optimum for optimum in law.optima if np.isclose(optimum.flops, budget.flops, rtol=1e-9, atol=0)]
    if not found:
        asked = ", ".join(optimum.budget.words for optimum in law.optima) or "none"
        raise InputError(f"The law has no answer for {budget.words}; it was asked for {asked}.")
    return found[0]


def _points(cells: Sequence[Candidate]) -> Points:
    """Return the cells without their losses: any two differ."""
    params, events = (np.array([getattr(cell, name) for cell in cells], float) for name in ("num_params", "num_events"))
    return Points(params, events, np.arange(1.0, len(cells) + 1))


def _gives_ladder(cells: Sequence[Candidate]) -> bool:
    """Return whether the separable law can be fitted to the cells and calibrated on a ladder of theirs."""
    points = _points(cells)
    if refuse_cells(Separable(), points):
        return False
    compute = points.compute()
    below = [compute <= cut for cut in np.unique(np.quantile(compute, CUTS))]
    held_out = [(~rows).sum() for rows in below if has_enough(Separable(), points.take(rows)) and not rows.all()]
    return len(held_out) >= _MIN_RUNGS and sum(held_out) >= _MIN_HELD_OUT


def _cheapest(purse: Purse, number: int) -> tuple[Choice, ...]:
    """Return the candidates in the order of their price on top of those before."""
    cells, chosen = purse.cells, []
    while purse.left and len(chosen) < number:
        best = int(np.argmin(purse.costs))
        cell = cells[purse.left[best]]
        chosen.append(Choice(candidate=cell, cost=float(purse.costs[best]), width=np.inf))
        purse.take(best)
    return tuple(chosen)


def _percent(width: float) -> str:
    return f"{width:.2%}" if np.isfinite(width) else "-"
