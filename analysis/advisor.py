"""What a sweep asks between its rounds: a study's table and the cells on offer in, which of them to train out.

The sweep and this module know nothing of each other: cells go by their position among the offers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from analysis.budget import Flops
from analysis.law import FormChoice, fit_law
from analysis.live import law_line
from analysis.suggest import Candidate, first_cells, suggest, suggestion_lines, target_width
from analysis.suggest import Price as CandidatePrice
from analysis.table import read_table

RIVALS: tuple[FormChoice, ...] = ("tied", "separable")
"""Forms that the cells are chosen for, whichever is ahead: a few cells do not tell them apart, and lead now to the one
and now to the other."""


class Offer(Protocol):
    """A cell that could be trained."""

    @property
    def num_params(self) -> float: ...
    @property
    def num_events(self) -> float: ...
    @property
    def trunk(self) -> str: ...


Price = Callable[[Sequence[int]], float]
"""FLOPs of training the offers at these positions, together, on top of what exists."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """What the cells that exist say of the ones to train next."""

    width: float
    """Of the target's interval now, over its loss; infinite while there is no law."""
    law: str
    """The law as one line, or why there is none."""
    picks: tuple[int, ...]
    """Positions among the offers, in the order in which they are worth their cost."""
    costs: tuple[float, ...]
    """FLOPs of each pick after those before it."""
    widths: tuple[float, ...]
    """Expected after each pick."""
    lines: tuple[str, ...]
    """The picks as a table for a terminal."""

    def table(self, number: int) -> tuple[str, ...]:
        """Return the lines of the first picks."""
        return self.lines[: len(self.lines) - len(self.picks) + number]


@dataclass(frozen=True, kw_only=True, slots=True)
class Advisor:
    """Advises on one variant of a study for one target."""

    table: Path
    """results.parquet of the study."""
    variant: str
    target_flops: float

    def first(self, offers: Sequence[Offer], price: Price) -> tuple[int, ...]:
        """Return the cells that a first law needs.

        Raises:
            InputError: All offers together give no law.
        """
        known = _candidates(offers)
        return tuple(known[cell] for cell in first_cells(list(known), _price(known, price)))

    def next(self, offers: Sequence[Offer], price: Price, number: int, may_cost: float = math.inf) -> Advice:
        """Return the law of the cells that exist, and up to `number` of the offers for `may_cost` FLOPs, best first."""
        budget, known = Flops(self.target_flops), _candidates(offers)
        table = read_table(self.table, variant=self.variant)
        law = fit_law(table, budgets=[budget])
        width = target_width(law, budget)
        others: list[FormChoice] = [] if law.refused else [form for form in RIVALS if form != law.form.name]
        choices = suggest(
            law,
            table,
            list(known),
            _price(known, price),
            budget,
            number=number,
            may_cost=may_cost,
            rivals=[fit_law(table, form=form, budgets=[budget]) for form in others],
        )
        return Advice(
            width=width,
            law=law_line(law, self.target_flops),
            picks=tuple(known[choice.candidate] for choice in choices),
            costs=tuple(choice.cost for choice in choices),
            widths=tuple(choice.width for choice in choices),
            lines=tuple(suggestion_lines(choices, width, budget)),
        )


def _candidates(offers: Sequence[Offer]) -> dict[Candidate, int]:
    """Return the offers as candidates, with the position of each."""
    return {
        Candidate(num_params=float(offer.num_params), num_events=float(offer.num_events), trunk=offer.trunk): at
        for at, offer in enumerate(offers)
    }


def _price(known: dict[Candidate, int], price: Price) -> CandidatePrice:
    return lambda cells: price([known[cell] for cell in cells])
