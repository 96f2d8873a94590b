"""What further cells cost: candidates and the price of sets of them in, the price of each on top of those taken out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from behavegpt.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A cell that could be trained."""

    num_params: float
    """N, counted as the column that the law was fitted to counts it."""
    num_events: float
    """D."""
    trunk: str
    """Named as in the table's trunk_id; cells of one trunk share its noise."""


Price = Callable[[Sequence[Candidate]], float]
"""FLOPs of training all of these on top of what exists; the sum over their trunks, each of which is
shared by its cells."""


class Purse:
    """The candidates that are left and affordable, and what each costs on top of those taken."""

    def __init__(self, price: Price, cells: Sequence[Candidate], may_cost: float = np.inf) -> None:
        self.cells, self._price, self._may_cost = cells, price, may_cost
        self._taken: dict[str, list[Candidate]] = {}
        self._spent = 0.0
        self.left = list(range(len(cells)))
        """Positions of the candidates."""
        self.costs = np.array([self._extra(at) for at in self.left])
        """(M,) FLOPs of each candidate that is left."""
        self._drop_the_dear()

    def take(self, index: int) -> None:
        """Move the index-th of what is left to what is taken: prices of its trunk's other cells change."""
        cell = self.cells[self.left[index]]
        self._spent += float(self.costs[index])
        self._taken.setdefault(cell.trunk, []).append(cell)
        del self.left[index]
        costs = np.delete(self.costs, index)
        for k, at in enumerate(self.left):
            if self.cells[at].trunk == cell.trunk:
                costs[k] = self._extra(at)
        self.costs = costs
        self._drop_the_dear()

    def _extra(self, at: int) -> float:
        cell = self.cells[at]
        mine = self._taken.get(cell.trunk, [])
        cost = self._price([*mine, cell]) - (self._price(mine) if mine else 0.0)
        if not cost > 0:
            raise InputError(
                f"The price of N = {cell.num_params:g}, D = {cell.num_events:g} of trunk {cell.trunk} is {cost:g}"
                " FLOPs; it must be positive."
            )
        return cost

    def _drop_the_dear(self) -> None:
        kept = self.costs <= self._may_cost - self._spent
        self.left = [at for at, keep in zip(self.left, kept, strict=True) if keep]
        self.costs = self.costs[kept]


def check_candidates(cells: Sequence[Candidate]) -> None:
    """Raise where a candidate has no size."""
    wrong = [cell for cell in cells if not (0 < cell.num_params < np.inf and 0 < cell.num_events < np.inf)]
    if wrong:
        raise InputError(
            *(f"Candidate of trunk {c.trunk}: N = {c.num_params}, D = {c.num_events}; must be positive." for c in wrong)
        )
