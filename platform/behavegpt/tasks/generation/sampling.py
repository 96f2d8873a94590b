"""Random numbers that depend on seed, user and position alone, and a class drawn from each row of logits.

Philox is a function of a key and a counter (Salmon et al. 2011): the key is (seed, user), the counter runs with the
position. So a user gets the same numbers in any batch, in any order, and whatever the number of events.

Legend: B rows, N positions, V classes.
"""

from dataclasses import dataclass

import numpy as np

from behavegpt.errors import InputError

DRAWS = 6
"""Random numbers of an event: its behaviour, its time, and two each for its event and its location."""
MAX_SEED = (1 << 63) - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How a class is drawn."""

    temperature: float = 1.0
    """Logits are divided by it; 1 draws from what the model believes."""
    top_p: float = 1.0
    """Only the likeliest classes that together have this probability are drawn; 1 keeps all."""
    seed: int = 0

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.temperature < float("inf"):
            problems.append(f"temperature is {self.temperature!r}; it must be above 0")
        if not 0 < self.top_p <= 1:
            problems.append(f"top_p is {self.top_p!r}; it must be above 0 and at most 1")
        if not 0 <= self.seed <= MAX_SEED:
            problems.append(f"seed is {self.seed}; it must be from 0 to {MAX_SEED}")
        if problems:
            raise InputError(*problems)


def uniforms(seed: int, users: np.ndarray, num_positions: int) -> np.ndarray:
    """Return (B, N, DRAWS) numbers in [0, 1).

    Args:
        users: (B,) uint64 pseudonyms.
    """
    keys = np.stack([np.full(len(users), seed, np.uint64), users.astype(np.uint64)], axis=1)
    streams = (np.random.Generator(np.random.Philox(key=key)) for key in keys)
    return np.stack([stream.random((num_positions, DRAWS)) for stream in streams])


def draw_classes(logits_BV: np.ndarray, u_B: np.ndarray, sampling: Sampling) -> tuple[np.ndarray, np.ndarray]:
    """Return (B,) a class of each row, and the probability with which it was drawn.

    Classes stand in the order of their probability, and the one is taken in whose interval `u_B` falls.

    Args:
        logits_BV: Logits or log-probabilities.
    """
    scaled = logits_BV.astype(np.float64) / sampling.temperature
    p_BV = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    order = np.argsort(-p_BV, axis=1, kind="stable")
    p_BV = np.take_along_axis(p_BV, order, axis=1)
    up_to = np.cumsum(p_BV, axis=1)
    # The class that reaches top_p is kept; rounding must not lose the last one of all.
    kept = np.minimum((up_to < sampling.top_p * up_to[:, -1:]).sum(axis=1), logits_BV.shape[1] - 1)
    rows = np.arange(len(logits_BV))
    mass = up_to[rows, kept]
    place = np.minimum((up_to <= (u_B * mass)[:, None]).sum(axis=1), kept)
    return order[rows, place], p_BV[rows, place] / mass
