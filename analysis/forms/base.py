"""What a form is: `fit`, `refit`, `bootstrap` and `frontier` read every law through this class.

A fit works on scaled cells (N and D in `units`), where parameters are of order one; `rescale` takes them to the
table's.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import numpy as np

from analysis.forms.points import Points

Axis = Literal["N", "D"]
EXPONENT_BOUNDS = (0.01, 3.0)
"""Below, a power law is a constant that the floor already gives; above, the term is gone after one doubling."""


class Form(ABC):
    """A law L(N, D, epochs) with P parameters."""

    parameters: ClassVar[tuple[str, ...]]
    """Names in the order of `theta`."""
    formula: str
    """As people write it."""
    axes: tuple[Axis, ...] = ("N", "D")
    """What must vary over the cells for the parameters to be determined."""
    min_levels: int = 3
    """Distinct values of each of the axes; a power law with a floor has three unknowns along one."""
    may_be_free: ClassVar[tuple[str, ...]] = ()
    """Parameters that sound cells may leave undetermined; their bounds are no failure."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Return the name, as `FormName` lists it."""

    @abstractmethod
    def value(
        self,
        theta: np.ndarray,
        num_params: np.ndarray,
        num_events: np.ndarray,
        num_epochs: np.ndarray | float = 1.0,
    ) -> np.ndarray:
        """Return (..., C) losses of (..., P) parameters at (C,) cells, or at (..., C) of their own."""

    @abstractmethod
    def linearize(self, theta: np.ndarray, points: Points) -> tuple[np.ndarray, np.ndarray]:
        """Return (B, C) losses of (B, P) parameters and their (B, C, P) derivatives."""

    @abstractmethod
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the (P,) least and largest scaled parameters."""

    @abstractmethod
    def starts(self, points: Points, relative: np.ndarray) -> np.ndarray:
        """Return (S, P) parameters to start from, no guess needed.

        Args:
            points: Scaled cells.
            relative: (C,) weight of each residual of the loss.
        """

    @abstractmethod
    def rescale(self, theta: np.ndarray, params_unit: float, events_unit: float) -> np.ndarray:
        """Return the (..., P) parameters of the same law when N and D are counted in the given units."""

    def units(self, points: Points) -> tuple[float, float]:
        """Return the units of N and D that a fit works in: their geometric means."""
        return float(np.exp(np.log(points.num_params).mean())), float(np.exp(np.log(points.num_events).mean()))

    def predict(self, theta: np.ndarray, points: Points) -> np.ndarray:
        """Return (..., C) losses at the cells of `points`, whose own losses are not read."""
        return self.value(theta, points.num_params, points.num_events, points.num_epochs)


def unpack(theta: np.ndarray) -> list[np.ndarray]:
    """Return the P parameters of (..., P), each (..., 1), to meet cells on the last axis."""
    return [column[..., None] for column in np.moveaxis(np.asarray(theta, float), -1, 0)]
