"""How far intervals may be believed: the law of cheaper cells, again and again, against the dearer ones.

On each rung of the ladder the law is fitted and bootstrapped below the cut, and every dearer cell is asked whether it
lies in the 95 % interval of one run there. The factor that would have made 95 % of them hold (a conformal quantile,
never below 1) widens every interval of the final law. The coverage is measured without circularity: each rung with the
factor of the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from analysis.bootstrap import Bootstrap, Interval, bootstrap
from analysis.fit import Fit
from analysis.forms import Points
from analysis.ladder import Step

_RUNG_DRAWS = 200
_MIN_HELD_OUT = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What the ladder says about intervals."""

    factor: float
    """Every interval is this many times as wide as the bootstrap's; 1 when the ladder has too few cells."""
    nominal: float
    raw_coverage: float
    """Share of the ladder's held-out cells inside the bootstrap's own interval."""
    coverage: float
    """The same after widening by the factor of the other rungs."""
    num_held_out: int
    """Cells scored, a cell once for each rung below it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Draws and their calibration: every interval of a law comes from here."""

    draws: Bootstrap
    calibration: Calibration | None

    @property
    def factor(self) -> float:
        """Return how much the bootstrap's intervals are widened."""
        return self.calibration.factor if self.calibration else 1.0

    def interval(self, point: float, values: np.ndarray) -> Interval:
        """Return the calibrated interval of a quantity with value `point` and (S, B) draws."""
        return _widen(point, self.draws.interval(values), self.factor)

    def run_interval(self, point: float, values: np.ndarray) -> Interval:
        """Return where one run with law value `point` lands, from (S, B) draws of the law there."""
        half = self.factor * run_half_width(self.draws, values[..., None])[0]
        return float(point * np.exp(-half)), float(point * np.exp(half))

    def run_band(self, fit: Fit, points: Points) -> np.ndarray:
        """Return (2, C) where one run at each cell of `points` lands."""
        half = self.factor * run_half_width(self.draws, self.draws.form.predict(self.draws.draws, points))
        return fit.predict(points) * np.exp([-half, half])

    def parameters(self, fit: Fit) -> dict[str, Interval]:
        """Return the calibrated interval of each parameter."""
        raw = self.draws.intervals()
        return {name: _widen(value, raw[name], self.factor) for name, value in fit.parameters.items()}

    def band(self, fit: Fit, points: Points) -> np.ndarray:
        """Return (2, C) the calibrated interval of the law at cells of `points`."""
        fitted = fit.predict(points)
        return fitted * np.exp(self.factor * np.log(self.draws.band(points) / fitted))


def calibrate(steps: Sequence[Step], level: float, seed: int) -> Calibration | None:
    """Return what the ladder's rungs say, or None when too few cells are held out to tell."""
    scores = [_scores(step, level, seed) for step in steps]
    count = sum(len(score) for score in scores)
    if count < _MIN_HELD_OUT or len(scores) < 2:
        return None
    others = [np.concatenate([*scores[:at], *scores[at + 1 :]]) for at in range(len(scores))]
    held = [(score <= _factor(other, level)).sum() for score, other in zip(scores, others, strict=True)]
    pooled = np.concatenate(scores)
    return Calibration(
        factor=_factor(pooled, level),
        nominal=level,
        raw_coverage=float((pooled <= 1).mean()),
        coverage=float(sum(held) / count),
        num_held_out=count,
    )


def run_half_width(draws: Bootstrap, values: np.ndarray) -> np.ndarray:
    """Return (C,) half-widths in log loss of the interval of one run, from (S, B, C) draws of the law."""
    low, high = np.log(draws.ends(values))
    return np.sqrt(((high - low) / 2) ** 2 + (norm.ppf((1 + draws.level) / 2) * draws.noise) ** 2)


def _scores(step: Step, level: float, seed: int) -> np.ndarray:
    """Return (C,) misses of the held-out cells in units of their interval's half-width."""
    draws = bootstrap(step.below, step.trunk, step.fit, num_draws=_RUNG_DRAWS, seed=seed, level=level)
    half = run_half_width(draws, step.fit.form.predict(draws.draws, step.above))
    return np.abs(np.log(step.above.loss / step.fit.predict(step.above))) / half


def _factor(scores: np.ndarray, level: float) -> float:
    """Return the conformal quantile of the scores, at least 1."""
    rank = min(len(scores), int(np.ceil((len(scores) + 1) * level)))
    return max(1.0, float(np.sort(scores)[rank - 1]))


def _widen(point: float, interval: Interval, factor: float) -> Interval:
    """Return the interval stretched about `point`: in logs where all is positive, else not below zero."""
    low, high = interval
    if factor == 1.0 or not np.isfinite([point, low, high]).all():
        return interval
    if min(low, high, point) > 0:
        return float(point * (low / point) ** factor), float(point * (high / point) ** factor)
    stretched = (point + factor * (low - point), point + factor * (high - point))
    return (max(stretched[0], 0.0), stretched[1]) if min(low, point) >= 0 else stretched
