"""The data-repeat law of Muennighoff et al. 2023 (eq. 5 and 6): an event seen again is worth less than a new one.

L0 + C_N N'^-alpha + C_D D'^-alpha, with U = D / epochs unique events and their effective number
D' = U + U R_D (1 - exp(-(epochs - 1) / R_D)), and N' alike for parameters beyond U_N, the N that U would be optimal
for.
"""

from typing import ClassVar

import numpy as np

from analysis.forms.base import Form, unpack
from analysis.forms.points import Points
from analysis.forms.power_sum import Tied

_R_BOUNDS = (0.05, 1e4)
_R_STARTS = (3.0, 15.0, 60.0)


class Repeats(Form):
    """C_N N'^-alpha + C_D D'^-alpha + L0, with the half-lives R_N and R_D of excess parameters and repeated events."""

    parameters: ClassVar[tuple[str, ...]] = ("C_N", "alpha", "C_D", "L0", "R_N", "R_D")
    # Without repeats, or without models larger than their data would have, nothing saturates.
    may_be_free: ClassVar[tuple[str, ...]] = ("R_N", "R_D")
    formula = "C_N * N'**-alpha + C_D * D'**-alpha + L0"

    @property
    def name(self) -> str:
        return "repeats"

    def value(self, theta, num_params, num_events, num_epochs=1.0):
        C_N, alpha, C_D, L0, R_N, R_D = unpack(theta)
        unique = num_events / num_epochs
        params = _saturate(num_params, _matched(C_N, alpha, C_D, unique, num_params), R_N)
        events = _saturate(num_events, unique, R_D)
        return C_N * np.exp(-alpha * np.log(params)) + C_D * np.exp(-alpha * np.log(events)) + L0

    def linearize(self, theta: np.ndarray, points: Points) -> tuple[np.ndarray, np.ndarray]:
        C_N, alpha, C_D, L0, R_N, R_D = unpack(theta)
        unique = points.num_events / points.num_epochs
        matched = _matched(C_N, alpha, C_D, unique, points.num_params)
        params, by_matched, by_R_N = _saturate_slopes(points.num_params, matched, R_N)
        events, _, by_R_D = _saturate_slopes(points.num_events, unique, R_D)
        log_params, log_events = np.log(params), np.log(events)
        model, data = np.exp(-alpha * log_params), np.exp(-alpha * log_events)
        pull = -alpha * C_N * model / params  # of the loss by N'
        # Below the matched N nothing is in excess, and N' is N whatever the parameters.
        moved = np.where(matched < points.num_params, pull * by_matched * matched / alpha, 0.0)
        ratio = np.log(np.maximum(C_N, 1e-300)) - np.log(np.maximum(C_D, 1e-300))
        jacobian = [
            model + moved / np.maximum(C_N, 1e-300),
            -C_N * model * log_params - C_D * data * log_events - moved * ratio / alpha,
            data - moved / np.maximum(C_D, 1e-300),
            np.ones_like(model),
            pull * by_R_N,
            -alpha * C_D * data / events * by_R_D,
        ]
        return C_N * model + C_D * data + L0, np.stack(np.broadcast_arrays(*jacobian), axis=-1)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        low, high = Tied().bounds()
        return np.append(low, [_R_BOUNDS[0]] * 2), np.append(high, [_R_BOUNDS[1]] * 2)

    def starts(self, points: Points, relative: np.ndarray) -> np.ndarray:
        unique = points._replace(num_events=points.num_events / points.num_epochs)
        bases = [*Tied().starts(points, relative), *Tied().starts(unique, relative)]
        return np.array([[*base, R_N, R_D] for base in bases for R_N in _R_STARTS for R_D in _R_STARTS])

    def rescale(self, theta: np.ndarray, params_unit: float, events_unit: float) -> np.ndarray:
        theta = np.asarray(theta, float)
        tied = Tied().rescale(theta[..., :4], params_unit, events_unit)
        return np.concatenate([tied, theta[..., 4:]], axis=-1)


def _matched(
    C_N: np.ndarray, alpha: np.ndarray, C_D: np.ndarray, unique: np.ndarray, num_params: np.ndarray
) -> np.ndarray:
    """Return U_N: the N whose optimal D is U, by the law without repeats, but at most N itself."""
    log_ratio = np.log(np.maximum(C_N, 1e-300)) - np.log(np.maximum(C_D, 1e-300))
    return np.minimum(num_params, np.exp(np.clip(log_ratio / alpha, -200, 200)) * unique)


def _saturate(amount: np.ndarray, fresh: np.ndarray, half_life: np.ndarray) -> np.ndarray:
    """Return the effective amount of which only `fresh` is new."""
    return fresh * (1 + half_life * -np.expm1(-np.maximum(amount / fresh - 1, 0) / half_life))


def _saturate_slopes(
    amount: np.ndarray, fresh: np.ndarray, half_life: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the effective amount and its derivatives by `fresh` and by `half_life`."""
    excess = np.maximum(amount / fresh - 1, 0)
    left = np.exp(-excess / half_life)
    by_fresh = 1 + half_life * (1 - left) - left * (1 + excess)
    by_half_life = fresh * (1 - left - left * excess / half_life)
    return fresh * (1 + half_life * (1 - left)), by_fresh, by_half_life
