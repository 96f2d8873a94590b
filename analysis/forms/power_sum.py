"""L0 + (C_N N^-alpha + C_D D^-beta)^k: separable (k = 1), tied (k = 1, alpha = beta) and coupled.

Separable: Hoffmann et al. 2022, eq. 2, and BehaveGPT, eq. 5. Coupled: the joint form of Kaplan et al. 2020 (eq. 1.5)
with a floor, there written E + A (N^-a + R D^-b)^k; A = C_N^k and R = C_D / C_N. It has the separable law inside.
"""

from typing import ClassVar

import numpy as np

from analysis.forms.base import EXPONENT_BOUNDS, Form, unpack
from analysis.forms.points import Points
from analysis.forms.start import variable_projection

_LOW, _HIGH = EXPONENT_BOUNDS
_K_BOUNDS = (0.05, 8.0)
_K_STARTS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.5)
_FLOORS = (1.0, 0.7)
"""Shares of the separable law's floor to start the coupled one from."""


class Separable(Form):
    """C_N N^-alpha + C_D D^-beta + L0."""

    parameters: ClassVar[tuple[str, ...]] = ("C_N", "alpha", "C_D", "beta", "L0")
    formula = "C_N * N**-alpha + C_D * D**-beta + L0"

    @property
    def name(self) -> str:
        return "separable"

    def value(self, theta, num_params, num_events, num_epochs=1.0):
        C_N, alpha, C_D, beta, L0 = unpack(theta)
        return C_N * np.exp(-alpha * np.log(num_params)) + C_D * np.exp(-beta * np.log(num_events)) + L0

    def linearize(self, theta: np.ndarray, points: Points) -> tuple[np.ndarray, np.ndarray]:
        C_N, alpha, C_D, beta, L0 = unpack(theta)
        log_params, log_events = np.log(points.num_params), np.log(points.num_events)
        jacobian = np.empty((len(theta), len(log_params), 5))
        jacobian[..., 0] = model = np.exp(-alpha * log_params)
        jacobian[..., 2] = data = np.exp(-beta * log_events)
        model, data = C_N * model, C_D * data
        jacobian[..., 1], jacobian[..., 3] = -model * log_params, -data * log_events
        jacobian[..., 4] = 1
        return model + data + L0, jacobian

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array([0, _LOW, 0, _LOW, 0]), np.array([np.inf, _HIGH, np.inf, _HIGH, np.inf])

    def starts(self, points: Points, relative: np.ndarray) -> np.ndarray:
        return variable_projection(points, relative)

    def rescale(self, theta: np.ndarray, params_unit: float, events_unit: float) -> np.ndarray:
        # C_N N^-alpha = (C_N u^-alpha) (N / u)^-alpha, so only the coefficients change.
        scaled = np.array(theta, float)
        scaled[..., 0] *= params_unit ** -scaled[..., 1]
        scaled[..., 2] *= events_unit ** -scaled[..., 3]
        return scaled


class Tied(Form):
    """C_N N^-alpha + C_D D^-alpha + L0: one exponent, the optimal D / N is the same for every budget."""

    parameters: ClassVar[tuple[str, ...]] = ("C_N", "alpha", "C_D", "L0")
    formula = "C_N * N**-alpha + C_D * D**-alpha + L0"

    @property
    def name(self) -> str:
        return "tied"

    def value(self, theta, num_params, num_events, num_epochs=1.0):
        return Separable().value(_untie(theta), num_params, num_events)

    def linearize(self, theta: np.ndarray, points: Points) -> tuple[np.ndarray, np.ndarray]:
        value, jacobian = Separable().linearize(_untie(theta), points)
        jacobian[..., 1] += jacobian[..., 3]
        return value, jacobian[..., [0, 1, 2, 4]]

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array([0, _LOW, 0, 0]), np.array([np.inf, _HIGH, np.inf, np.inf])

    def starts(self, points: Points, relative: np.ndarray) -> np.ndarray:
        return variable_projection(points, relative, tied=True)[:, [0, 1, 2, 4]]

    def rescale(self, theta: np.ndarray, params_unit: float, events_unit: float) -> np.ndarray:
        return Separable().rescale(_untie(theta), params_unit, events_unit)[..., [0, 1, 2, 4]]


class Coupled(Form):
    """L0 + (C_N N^-alpha + C_D D^-beta)^k: what D buys depends on N."""

    parameters: ClassVar[tuple[str, ...]] = ("C_N", "alpha", "C_D", "beta", "L0", "k")
    formula = "(C_N * N**-alpha + C_D * D**-beta)**k + L0"

    @property
    def name(self) -> str:
        return "coupled"

    def value(self, theta, num_params, num_events, num_epochs=1.0):
        C_N, alpha, C_D, beta, L0, k = unpack(theta)
        base = C_N * np.exp(-alpha * np.log(num_params)) + C_D * np.exp(-beta * np.log(num_events))
        return np.exp(k * np.log(np.maximum(base, 1e-300))) + L0

    def linearize(self, theta: np.ndarray, points: Points) -> tuple[np.ndarray, np.ndarray]:
        value, inner = Separable().linearize(theta[:, :5], points)
        L0, k = unpack(theta)[4:]
        log_base = np.log(np.maximum(value - L0, 1e-300))
        power = np.exp(k * log_base)
        jacobian = np.empty((*value.shape, 6))
        jacobian[..., :4] = inner[..., :4] * (k * np.exp((k - 1) * log_base))[..., None]
        jacobian[..., 4], jacobian[..., 5] = 1, power * log_base
        return power + L0, jacobian

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        low, high = Separable().bounds()
        return np.append(low, _K_BOUNDS[0]), np.append(high, _K_BOUNDS[1])

    def starts(self, points: Points, relative: np.ndarray) -> np.ndarray:
        """Return laws that agree with the separable ones to first order at the cells' centre, over a range of k."""
        starts = []
        for C_N, alpha, C_D, beta, L0 in variable_projection(points, relative):
            for floor in _FLOORS:
                reducible = C_N + C_D + (1 - floor) * L0
                for k in _K_STARTS:
                    base = reducible ** (1 / k)
                    share = C_N / max(C_N + C_D, 1e-12)
                    tilt = (C_N + C_D) / max(reducible, 1e-12) / k
                    starts.append((share * base, alpha * tilt, (1 - share) * base, beta * tilt, floor * L0, k))
        return np.array(starts)

    def rescale(self, theta: np.ndarray, params_unit: float, events_unit: float) -> np.ndarray:
        return Separable().rescale(theta, params_unit, events_unit)


def _untie(theta: np.ndarray) -> np.ndarray:
    """Return the (..., 5) separable parameters of (..., 4) tied ones."""
    return np.asarray(theta, float)[..., [0, 1, 2, 1, 3]]
