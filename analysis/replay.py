"""What a study would have cost: a finished table and its prices in, the rounds of one that chose its cells out.

The finished cells are the candidates; a round may see the loss of what it has bought and of nothing else. So the order
that `suggest` gives is compared with others on losses that are known, without training anything.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from analysis.budget import Budget
from analysis.law import Law
from analysis.suggest import Candidate, Price, first_cells, suggest, target_width, trunk_names
from analysis.table import Table

ROUND = 0.25
"""Of what has been spent: a round starts worker groups anew, so it is worth that much, or one cell."""
_MAX_ROUND_CELLS = 12

Order = Callable[[Law, Table, Sequence[Candidate], Price], Sequence[Candidate]]
"""Return the candidates to train next, best first."""
Bill = Callable[[Sequence[Candidate]], float]
"""FLOPs of training all of these from nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """The state after a round."""

    cells: tuple[Candidate, ...]
    """All that are trained by now."""
    cost: float
    """FLOPs of all of them."""
    width: float
    """Of the target's interval, as `target_width` counts it."""
    law: Law


def replay(
    table: Table,
    bill: Bill,
    budget: Budget,
    fit: Callable[[Table], Law],
    *,
    width: float,
    order: Order | None = None,
    growth: float = ROUND,
) -> tuple[Round, ...]:
    """Return the rounds until the target's interval is at most `width` wide, or nothing is left.

    Args:
        table: A finished study.
        bill: What any of its cells cost together.
        budget: The target.
        fit: Fits a law, with the budget among those that it is asked for.
        width: Where to stop.
        order: Which cells come next; by default those that `suggest` names.
        growth: FLOPs of a round over those spent before it.
    """
    cells = candidates_of(table)
    has = list(first_cells(cells, bill))
    rounds = [_round(table, cells, has, bill, budget, fit)]
    while rounds[-1].width > width and len(has) < len(cells):
        price = _on_top(bill, tuple(has))
        left = [cell for cell in cells if cell not in has]
        law, part = rounds[-1].law, take(table, [cells.index(cell) for cell in has])
        if order is None:
            found = suggest(law, part, left, price, budget, number=_MAX_ROUND_CELLS)
            ranked: Sequence[Candidate] = [choice.candidate for choice in found]
        else:
            ranked = order(law, part, left, price)
        fitting = [count for count in range(1, len(ranked) + 1) if price(ranked[:count]) <= growth * rounds[-1].cost]
        has += ranked[: max(fitting, default=1)]
        rounds.append(_round(table, cells, has, bill, budget, fit))
    return tuple(rounds)


def candidates_of(table: Table) -> list[Candidate]:
    """Return (C,) the table's own cells as candidates."""
    columns = zip(table.points.num_params, table.points.num_events, trunk_names(table), strict=True)
    return [Candidate(num_params=float(N), num_events=float(D), trunk=trunk) for N, D, trunk in columns]


def take(table: Table, rows: Sequence[int]) -> Table:
    """Return the table with some of its cells; what it dropped stays dropped."""
    at = np.array(rows, int)
    points = table.points.take(at)
    columns = {field.name: getattr(table, field.name) for field in fields(table)}
    return replace(
        table,
        **{name: column[at] for name, column in columns.items() if isinstance(column, np.ndarray)},
        points=points._replace(weight=points.weight / points.weight.mean()),
        cell_id=tuple(table.cell_id[row] for row in rows),
        countings={name: values[at] for name, values in table.countings.items()},
    )


def _on_top(bill: Bill, has: tuple[Candidate, ...]) -> Price:
    paid = bill(has)
    return lambda news: bill([*has, *news]) - paid


def _round(
    table: Table,
    cells: Sequence[Candidate],
    has: Sequence[Candidate],
    bill: Bill,
    budget: Budget,
    fit: Callable[[Table], Law],
) -> Round:
    law = fit(take(table, [cells.index(cell) for cell in has]))
    return Round(cells=tuple(has), cost=bill(has), width=target_width(law, budget), law=law)
