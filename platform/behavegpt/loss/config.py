"""How robust the training loss is: one frozen record, apart from dro.py so that planning needs no torch."""

from dataclasses import dataclass

from behavegpt.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class DroConfig:
    """How pessimistic training is, and how the worst case is tracked."""

    eps: float
    """Least share of the training data that the worst case may shrink to, in (0, 1]; 1 is plain training, exactly."""
    ema: float = 0.1
    """Share of a step's own mean loss in the running mean loss of a class, in (0, 1]."""
    floor: float = 0.1
    """Share of the training distribution that is mixed into the worst case, in [0, 1]: no class is ever dropped."""
    warmup_steps: int = 50
    """Optimiser steps over which the weights blend linearly from 1, while losses say nothing but the initialisation.

    Steps, not a share of the run: every branch of a trunk must have had the same warm-up.
    """

    def __post_init__(self) -> None:
        """Raise InputError with every problem found."""
        problems = []
        if not 0 < self.eps <= 1:
            problems.append(f"dro.eps is {self.eps!r}; it must be above 0 and at most 1")
        if not 0 < self.ema <= 1:
            problems.append(f"dro.ema is {self.ema!r}; it must be above 0 and at most 1")
        if not 0 <= self.floor <= 1:
            problems.append(f"dro.floor is {self.floor!r}; it must be at least 0 and at most 1")
        if type(self.warmup_steps) is not int or self.warmup_steps < 0:
            problems.append(f"dro.warmup_steps is {self.warmup_steps!r}; it must be a whole number, at least 0")
        if problems:
            raise InputError(*problems)
