"""What a table says about its cells beyond N, D and loss: epochs, weights and trunks, from columns that it may have."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.special import digamma, polygamma

from analysis.columns import labels, numbers, optional

_MIN_LEVELS = 3
_CLEAR = 2.0
"""Standard errors from which on a trend of the noise is one."""


def epochs(path: Path, table: pa.Table, events: np.ndarray, unique: str | None, is_study: bool) -> np.ndarray:
    """Return (rows,) D over its distinct events, 1 where nothing says that events are repeated."""
    if unique is not None:
        found = events / numbers(path, table, unique)
    else:
        # A study's num_epochs is D over all the dataset's events, below 1 for a part of them.
        found = optional(path, table, "num_epochs", 1.0) if is_study else np.ones(len(events))
    return np.maximum(np.nan_to_num(found, nan=1.0), 1.0)


def weights(noise: np.ndarray) -> np.ndarray:
    """Return (C,) one over the losses' noise, 1 on average; all 1 unless it is known for every cell."""
    if not len(noise) or not (np.isfinite(noise).all() and (noise > 0).all()):
        return np.ones(len(noise))
    return (1 / noise) / np.mean(1 / noise)


def seed_weights(noise: np.ndarray, num_params: np.ndarray, num_events: np.ndarray) -> np.ndarray:
    """Return (C,) weights by the noise between seeds as a power of D, 1 on average; all 1 where it shows no trend.

    A few seeds tell the noise at one D badly, and seeds that agree by chance would take over the fit; so a line through
    log noise against log D is used, where its slope is two standard errors or more from 0. The log of a standard
    deviation s with d degrees of freedom has mean log sigma + (digamma(d / 2) - log(d / 2)) / 2 and variance
    trigamma(d / 2) / 4 (Bartlett & Kendall 1946).

    Args:
        noise: (C,) standard deviation between seeds at each cell's D, pooled over sizes; NaN where unknown.
        num_params: (C,) N.
        num_events: (C,) D.
    """
    levels, at = np.unique(num_events, return_inverse=True)
    sizes = np.unique(np.stack([num_params, num_events]), axis=1)[1]
    freedom = np.bincount(at, minlength=len(levels)) - np.array([(sizes == level).sum() for level in levels])
    own = np.array([noise[at == level][0] for level in range(len(levels))])
    known = (freedom > 0) & np.isfinite(own) & (own > 0)
    if known.sum() < _MIN_LEVELS:
        return np.ones(len(noise))
    half = freedom[known] / 2
    logs = np.log(own[known]) - (digamma(half) - np.log(half)) / 2
    weight = 4 / polygamma(1, half)
    along = np.log(levels) - np.average(np.log(levels[known]), weights=weight)
    lever = (weight * along[known] ** 2).sum()
    slope = (weight * along[known] * logs).sum() / lever
    return weights(np.exp(slope * along)[at]) if abs(slope) * lever**0.5 >= _CLEAR else np.ones(len(noise))


def trunks(table: pa.Table, keep: np.ndarray) -> np.ndarray:
    """Return (C,) the index of each kept row's trunk; rows without one stand alone."""
    alone = [f"\0{row}" for row in range(table.num_rows)]  # no name holds a NUL: see labels
    names = labels(table, "trunk_id") if "trunk_id" in table.column_names else alone
    names = [name or single for name, single in zip(names, alone, strict=True)]
    kept = [name for name, kept in zip(names, keep, strict=True) if kept]
    return np.unique(np.array(kept, dtype=object), return_inverse=True)[1] if kept else np.zeros(0, np.int64)
