"""Farseer's law (Li et al. 2025): floor, size of the data term and its exponent all change with N.

L(N, D) = exp(e_0 + e_1 N^e_2) + exp(b_0 + b_1 N^b_2) D^-exp(s_0 + s_1 N^s_2), in the paper b_3, a_3, gamma; b_2, a_2,
beta; b_1, a_1, alpha. Nine parameters: it needs many levels of N (three curves bend with it), and predicts well where a
floor bends with N.
"""

from typing import ClassVar

import numpy as np

from analysis.forms.base import Form, unpack
from analysis.forms.points import Points
from analysis.forms.start import variable_projection

_SIZE = 30.0
_POWER = 1.0
_POWERS = (-0.3, 0.1)
_SLOPES = (0.0, -0.4)
_BENDS = (0.0, 0.1)


class Farseer(Form):
    """exp(e_0 + e_1 N^e_2) + exp(b_0 + b_1 N^b_2) D^-exp(s_0 + s_1 N^s_2)."""

    parameters: ClassVar[tuple[str, ...]] = ("e_0", "e_1", "e_2", "b_0", "b_1", "b_2", "s_0", "s_1", "s_2")
    min_levels = 8
    formula = "exp(e_0 + e_1 * N**e_2) + exp(b_0 + b_1 * N**b_2) * D**-exp(s_0 + s_1 * N**s_2)"

    @property
    def name(self) -> str:
        return "farseer"

    def value(self, theta, num_params, num_events, num_epochs=1.0):
        e_0, e_1, e_2, b_0, b_1, b_2, s_0, s_1, s_2 = unpack(theta)
        log_params = np.log(num_params)
        floor, size, exponent = (
            np.exp(np.clip(at_one + slope * np.exp(power * log_params), -100, 30))
            for at_one, slope, power in ((e_0, e_1, e_2), (b_0, b_1, b_2), (s_0, s_1, s_2))
        )
        return floor + size * np.exp(np.clip(-exponent * np.log(num_events), -300, 300))

    def linearize(self, theta: np.ndarray, points: Points) -> tuple[np.ndarray, np.ndarray]:
        e_0, e_1, e_2, b_0, b_1, b_2, s_0, s_1, s_2 = unpack(theta)
        log_params, log_events = np.log(points.num_params), np.log(points.num_events)
        powers = [np.exp(power * log_params) for power in (e_2, b_2, s_2)]
        floor = np.exp(np.clip(e_0 + e_1 * powers[0], -100, 30))
        exponent = np.exp(np.clip(s_0 + s_1 * powers[2], -100, 30))
        data = np.exp(np.clip(b_0 + b_1 * powers[1] - exponent * log_events, -300, 300))
        columns = []
        outer = (floor, data, -data * exponent * log_events)
        for by_log, slope, power in zip(outer, (e_1, b_1, s_1), powers, strict=True):
            columns += [by_log, by_log * power, by_log * slope * power * log_params]
        return floor + data, np.stack(columns, axis=-1)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array([-_SIZE, -_SIZE, -_POWER] * 3), np.array([_SIZE, _SIZE, _POWER] * 3)

    def starts(self, points: Points, relative: np.ndarray) -> np.ndarray:
        """Return laws that agree with the separable one at the centre, with floor, size and exponent tilted in N."""
        C_N, alpha, C_D, beta, L0 = variable_projection(points, relative)[0]
        floor = max(L0 + C_N, 1e-6)
        size = np.log(max(C_D, 1e-9))
        starts = []
        for power in _POWERS:
            for tilt in _SLOPES:
                for bend in _BENDS:
                    e_1, b_1, s_1 = -alpha * C_N / floor / power, tilt / power, bend / power
                    starts.append(
                        (np.log(floor) - e_1, e_1, power, size - b_1, b_1, power, np.log(beta) - s_1, s_1, power)
                    )
        return np.array(starts)

    def units(self, points: Points) -> tuple[float, float]:
        """Return the unit of N, and 1: with an exponent that changes with N, a unit of D cannot be taken out."""
        return super().units(points)[0], 1.0

    def rescale(self, theta: np.ndarray, params_unit: float, events_unit: float) -> np.ndarray:
        if events_unit != 1.0:
            raise ValueError(f"events_unit is {events_unit}; Farseer's law keeps the table's D.")
        scaled = np.array(theta, float)
        scaled[..., 1::3] *= params_unit ** scaled[..., 2::3]
        return scaled
