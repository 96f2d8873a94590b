"""What one more cell would tell: a law's gradients and noise in, the variance of the target's loss with and without it.

The law is linearised in its parameters (locally optimal design: Atkinson & Donev 1992, ch. 18). The quantity is
c-optimality's, c' Cov c with c the gradient of log L at the target. At a budget's optimum the split follows the
parameters, but its first-order effect on the loss is nil (envelope theorem), so c is the gradient at fixed N*, D*.

Cov is that of the estimator in use, least squares: A^-1 B A^-1 with A = J'J and B = J'VJ, not the (J'V^-1 J)^-1 that
generalised least squares would reach. Cells of one trunk share its noise, log-residuals are u_trunk + e_cell, but least
squares gives each cell the same say, so that many noisy cells of few trunks can harm the law. One more cell changes A
by a matrix of rank one: its worth has a closed form (Sherman & Morrison 1950).

The gradients depend on the parameters, which is what is not known; variances are therefore averaged over bootstrap
draws of them (Pronzato & Pazman 2013, ch. 8).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh

from analysis.forms import Form, Points

_SHARES = np.linspace(0.0, 0.95, 20)
_SLOPES = np.linspace(0.0, 1.5, 7)
"""Shares of the variance between trunks, and slopes of it in N D, over which their likelihood is averaged."""
_WIDEST = 3.0
"""A direction of the parameters that the cells leave open is this many times as uncertain as in the draws."""
_RANK = 1e-10
"""Directions in which the draws vary by less than this share of the widest (of correlations) are fixed."""


class Components(NamedTuple):
    """Variances of a log-loss about the law."""

    between: float
    """Of a trunk, shared by its cells, where they have `typical` compute."""
    within: float
    """Of a cell of its own, likewise."""
    slope: float
    """Both fall as (N D)^-slope: small and short runs are noisier, and farther from any smooth law."""
    typical: float

    def scale(self, compute: np.ndarray) -> np.ndarray:
        """Return (C,) standard deviations of cells with N D = `compute` over that of a typical one."""
        return (compute / self.typical) ** (-self.slope / 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """What least squares on some cells says of the target, at K draws of the parameters, in Q directions of them."""

    target: np.ndarray
    """(K, Q) gradient of the target's log-loss."""
    inverse: np.ndarray
    """(K, Q, Q) A^-1, A the sum of the cells' outer products and of the prior."""
    noise: np.ndarray
    """(K, Q, Q) B, the variance of the sum of the cells' gradients times their noise, and of the prior."""
    parts: Components
    trunks: dict[str, np.ndarray]
    """(K, Q) sum of the gradients of each trunk's cells, times their squared weights and their scale."""

    def variance(self) -> np.ndarray:
        """Return (K,) variances of the target's log-loss."""
        lever = np.einsum("kqr,kr->kq", self.inverse, self.target)
        return np.einsum("kq,kqr,kr->k", lever, self.noise, lever)

    def ratios(self, rows: np.ndarray, scale: np.ndarray, weight: np.ndarray, trunks: Sequence[str]) -> np.ndarray:
        """Return (M,) the target's variance with each of M cells alone, over that without; the mean over the draws.

        With A' = A + j j' the target's lever A^-1 c becomes x = A^-1 c - A^-1 j (j' A^-1 c) / (1 + j' A^-1 j), and with
        B' = B + v j j' + b (s j' + j s') its variance x' B' x. Here j is the cell's gradient times its weight w, v its
        variance times w^2, b w times what it shares with its trunk's other cells, and s the sum of theirs.

        Args:
            rows: (K, M, Q) gradients of the cells' log-losses.
            scale: (M,) standard deviations of the cells over that of a typical one.
            weight: (M,) factors of their residuals in the fit.
            trunks: (M,) their trunks, old or new.
        """
        rows = rows * weight[:, None]
        solved = np.einsum("kqr,kmr->kmq", self.inverse, rows)
        leverage = np.einsum("kmq,kmq->km", rows, solved)
        lever = np.einsum("kqr,kr->kq", self.inverse, self.target)[:, None]
        lever = lever - solved * (np.einsum("kmq,kq->km", solved, self.target) / (1 + leverage))[..., None]
        own = np.einsum("kmq,kmq->km", rows, lever)
        others = np.stack([self.trunks.get(trunk, np.zeros_like(self.target)) for trunk in trunks], axis=1)
        shared = np.einsum("kmq,kmq->km", others, lever)
        after = np.einsum("kmq,kqr,kmr->km", lever, self.noise, lever)
        own *= weight * scale
        after += (self.parts.between + self.parts.within) * own**2 + 2 * self.parts.between * own * shared
        return (after / self.variance()[:, None]).mean(axis=0)

    def add(self, row: np.ndarray, scale: float, weight: float, trunk: str) -> "Design":
        """Return the design with one more cell: (K, Q) its gradient, its scale, its weight, its trunk."""
        row = weight * row
        solved = np.einsum("kqr,kr->kq", self.inverse, row)
        leverage = np.einsum("kq,kq->k", row, solved)
        others = self.trunks.get(trunk, np.zeros_like(row))
        own = weight * scale * row
        total = self.parts.between + self.parts.within
        shared = self.parts.between * (_outer(others, own) + _outer(own, others))
        return replace(
            self,
            inverse=self.inverse - _outer(solved, solved) / (1 + leverage)[:, None, None],
            noise=self.noise + total * _outer(own, own) + shared,
            trunks={**self.trunks, trunk: others + own},
        )


def start(
    rows: np.ndarray,
    scale: np.ndarray,
    trunks: Sequence[str],
    *,
    weight: np.ndarray,
    parts: Components,
    target: np.ndarray,
) -> Design:
    """Return the design of the cells that are there.

    Directions in which they are nearly blind are held by a prior `_WIDEST` times as wide as the draws, which know the
    law's bounds; where the cells see, it changes nothing.

    Args:
        rows: (K, C, Q) gradients of the cells' log-losses, along directions in which the draws have unit variance.
        scale: (C,) standard deviations of the cells over that of a typical one.
        trunks: (C,) the cells' trunks.
        weight: (C,) factor of each residual in the fit.
        parts: Variances of a typical cell.
        target: (K, Q) gradient of the target's log-loss.
    """
    typical = float((parts.between + parts.within) * (scale**2).mean())
    prior = np.eye(rows.shape[-1]) / _WIDEST**2
    heavy = rows * (weight**2)[:, None]
    inverse = np.linalg.inv(np.einsum("kcq,kcr->kqr", rows, heavy) + typical * prior)
    heavy = heavy * scale[:, None]
    spread = parts.within * np.einsum("kcq,kcr->kqr", heavy, heavy) + typical**2 * prior
    sums = {name: heavy[:, [at for at, of in enumerate(trunks) if of == name]].sum(axis=1) for name in set(trunks)}
    spread += parts.between * sum(_outer(total, total) for total in sums.values())
    return Design(target=target, inverse=inverse, noise=spread, parts=parts, trunks=sums)


def estimate_components(
    residual: np.ndarray, jacobian: np.ndarray, trunks: Sequence[str], compute: np.ndarray
) -> Components:
    """Return the noise between and within trunks, from a law's residuals.

    Restricted maximum likelihood (Patterson & Thompson 1971) of the linearised law, averaged over the share of the
    variance that lies between trunks and the slope of both in N D, each value as likely before: a handful of trunks
    says 0 by chance more often than not, and a design that believes it puts every cell on the cheapest trunk. Seeds are
    trunks of their own.

    Args:
        residual: (C,) log-residuals.
        jacobian: (C, P) gradients of the log-losses; C > P.
        trunks: (C,) the cells' trunks; where each stands alone, about half of the variance is taken to be theirs.
        compute: (C,) N D.
    """
    names = list(dict.fromkeys(trunks))
    member = np.array([names.index(trunk) for trunk in trunks])
    together = (member[:, None] == member).astype(float)
    # Directions that the law cannot fit: what is left of the residuals is free of its parameters.
    basis, singular, _ = np.linalg.svd(jacobian / np.maximum(np.linalg.norm(jacobian, axis=0), 1e-300))
    free = basis[:, int((singular > _RANK * singular[0]).sum()) :]
    contrast = free.T @ residual
    typical = float(np.exp(np.log(compute).mean()))
    tried, logs = [], []
    for slope in _SLOPES:
        scaled = ((compute / typical) ** (-slope / 2))[:, None] * free
        own = scaled.T @ scaled
        # In the eigenvectors of one matrix by the other every share of both is diagonal.
        sizes, vectors = eigh(scaled.T @ together @ scaled, own)
        scores, floor = (vectors.T @ contrast) ** 2, np.linalg.slogdet(own)[1]
        for share in _SHARES:
            spread = share * np.maximum(sizes, 0) + 1 - share
            total = float((scores / spread).sum()) / len(contrast)
            logs.append(-(floor + np.log(spread).sum() + len(contrast) * np.log(max(total, 1e-300))) / 2)
            tried.append((share * total, (1 - share) * total, slope))
    likelihood = np.exp(np.array(logs) - max(logs))
    between, within, slope = (likelihood / likelihood.sum()) @ np.array(tried)
    return Components(float(between), float(within), float(slope), typical)


def gradients(form: Form, theta: np.ndarray, points: Points) -> np.ndarray:
    """Return (K, C, P) gradients of log L at C cells for (K, P) parameters."""
    value, jacobian = form.linearize(theta, points)
    return jacobian / value[..., None]


def open_directions(draws: np.ndarray) -> np.ndarray:
    """Return (P, Q) directions along which (B, P) draws vary, each as long as one standard deviation of theirs.

    What never varies (a parameter that rests on its bound in every draw) is known, and is left out.
    """
    sd = draws.std(axis=0)
    moving = sd > 0
    correlation = np.corrcoef(draws[:, moving], rowvar=False).reshape(moving.sum(), moving.sum())
    size, vectors = np.linalg.eigh(correlation)
    kept = size > _RANK * size.max()
    directions = np.zeros((len(sd), kept.sum()))
    directions[moving] = sd[moving, None] * vectors[:, kept] * np.sqrt(size[kept])
    return directions


def _outer(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return left[:, :, None] * right[:, None, :]
