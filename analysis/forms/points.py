"""The cells that a fit sees: columns of a table in, one record of arrays out."""

from typing import NamedTuple

import numpy as np


class Points(NamedTuple):
    """The measured cells, C of each."""

    num_params: np.ndarray
    """(C,) N > 0."""
    num_events: np.ndarray
    """(C,) D > 0: training events consumed, repeats included."""
    loss: np.ndarray
    """(C,) loss > 0."""
    num_epochs: np.ndarray = np.ones(())
    """(C,) or (): D over the unique events among them, at least 1."""
    weight: np.ndarray = np.ones(())
    """(C,) or (): factor of each residual, one over its relative noise; 1 on average."""

    def take(self, rows: np.ndarray) -> "Points":
        """Return the points at `rows`, an index or boolean array over C."""
        return Points(*(np.broadcast_to(column, self.loss.shape)[rows] for column in self))

    def compute(self) -> np.ndarray:
        """Return (C,) N D, which orders the cells by training compute."""
        return self.num_params * self.num_events


def unit_points(points: Points, units: tuple[float, float]) -> Points:
    """Return the points with N and D counted in the given units."""
    return points._replace(num_params=points.num_params / units[0], num_events=points.num_events / units[1])
