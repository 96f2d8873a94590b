"""The form of a law: parameters and (N, D) in, loss and its gradient out.

A form is a pair of plain functions, value and gradient; `fit`, `bootstrap` and `frontier` read the law through them.
"""

from typing import NamedTuple

import numpy as np


class Parameters(NamedTuple):
    """The separable law L(N, D) = C_N N^-alpha + C_D D^-beta + L0, in the units of the table."""

    C_N: float
    """Coefficient of the model term."""
    alpha: float
    """Exponent of N, the number of parameters."""
    C_D: float
    """Coefficient of the data term."""
    beta: float
    """Exponent of D, the number of training events."""
    L0: float
    """Irreducible loss."""


class Points(NamedTuple):
    """The measured cells that a fit sees: C of each."""

    num_params: np.ndarray
    """(C,) N > 0."""
    num_events: np.ndarray
    """(C,) D > 0."""
    loss: np.ndarray
    """(C,) loss > 0."""

    def take(self, rows: np.ndarray) -> "Points":
        """Return the points at `rows`, an index or boolean array over C."""
        return Points(*(column[rows] for column in self))

    def compute(self) -> np.ndarray:
        """Return (C,) N D, which orders the cells by training compute."""
        return self.num_params * self.num_events


def separable(theta: np.ndarray, num_params: np.ndarray, num_events: np.ndarray) -> np.ndarray:
    """Return the loss of the separable law (Hoffmann et al. 2022, eq. 2; BehaveGPT eq. 5).

    Args:
        theta: (..., 5) parameters in the order of `Parameters`; leading axes are draws.
        num_params: (C,) N.
        num_events: (C,) D.

    Returns:
        (..., C) losses.
    """
    C_N, alpha, C_D, beta, L0 = (column[..., None] for column in np.moveaxis(np.asarray(theta, float), -1, 0))
    return C_N * num_params**-alpha + C_D * num_events**-beta + L0


def separable_gradient(theta: np.ndarray, num_params: np.ndarray, num_events: np.ndarray) -> np.ndarray:
    """Return (C, 5) derivatives of the loss by each parameter, for one `theta` of shape (5,)."""
    C_N, alpha, C_D, beta, _ = theta
    model, data = num_params**-alpha, num_events**-beta
    columns = (model, -C_N * model * np.log(num_params), data, -C_D * data * np.log(num_events), np.ones_like(model))
    return np.stack(columns, axis=-1)


def rescale(theta: np.ndarray, params_unit: float, events_unit: float) -> np.ndarray:
    """Return the (..., 5) parameters of the same law when N and D are counted in the given units.

    C_N N^-alpha = (C_N u^-alpha) (N / u)^-alpha, so only the coefficients change.
    """
    scaled = np.array(theta, float)
    scaled[..., 0] *= params_unit ** -scaled[..., 1]
    scaled[..., 2] *= events_unit ** -scaled[..., 3]
    return scaled


def r_squared(points: Points, theta: np.ndarray) -> float:
    """Return 1 - SS_residual / SS_total of the losses (not of their logarithms)."""
    residual = points.loss - separable(theta, points.num_params, points.num_events)
    return float(1 - (residual**2).sum() / ((points.loss - points.loss.mean()) ** 2).sum())
