"""A power law with a floor along one axis alone: N, D, or their product (compute over k)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from analysis.forms.base import EXPONENT_BOUNDS, Axis, Form, unpack
from analysis.forms.points import Points
from analysis.forms.start import project

_EXPONENTS = np.geomspace(0.02, 2.5, 40)


@dataclass(frozen=True)
class SingleAxis(Form):
    """A x^-exponent + L0, for cells where the other axis is fixed, or follows this one."""

    along: Literal["params", "events", "compute"]
    """x: N, D or N D."""

    parameters: ClassVar[tuple[str, ...]] = ("A", "exponent", "L0")

    @property
    def name(self) -> str:
        return self.along

    @property
    def formula(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return f"A * {'(N * D)' if self.along == 'compute' else self.axes[0]}**-exponent + L0"

    @property
    def axes(self) -> tuple[Axis, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return ("D",) if self.along == "events" else ("N",) if self.along == "params" else ()

    def value(self, theta, num_params, num_events, num_epochs=1.0):
        A, exponent, L0 = unpack(theta)
        return A * np.exp(-exponent * self._log(num_params, num_events)) + L0

    def linearize(self, theta: np.ndarray, points: Points) -> tuple[np.ndarray, np.ndarray]:
        A, exponent, L0 = unpack(theta)
        log = self._log(points.num_params, points.num_events)
        power = np.exp(-exponent * log)
        return A * power + L0, np.stack([power, -A * power * log, np.ones_like(power)], axis=-1)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array([0, EXPONENT_BOUNDS[0], 0]), np.array([np.inf, EXPONENT_BOUNDS[1], np.inf])

    def starts(self, points: Points, relative: np.ndarray) -> np.ndarray:
        powers = np.exp(-_EXPONENTS[:, None] * self._log(points.num_params, points.num_events))
        linear = [project(np.stack([power, np.ones_like(power)], -1), points.loss, relative) for power in powers]
        best = np.argsort([cost for _, cost in linear])[:3]
        return np.array([[linear[at][0][0], _EXPONENTS[at], linear[at][0][1]] for at in best])

    def rescale(self, theta: np.ndarray, params_unit: float, events_unit: float) -> np.ndarray:
        scaled = np.array(theta, float)
        scaled[..., 0] *= np.exp(-scaled[..., 1] * self._log(np.array(params_unit), np.array(events_unit)))
        return scaled

    def _log(self, num_params: np.ndarray, num_events: np.ndarray) -> np.ndarray:
        log_params, log_events = np.log(num_params), np.log(num_events)
        return {"params": log_params, "events": log_events, "compute": log_params + log_events}[self.along]
