"""What a study is: the axes of its grid, and the one recipe and loss that all its cells share."""

import math
from dataclasses import dataclass, field

from behavegpt.errors import InputError
from behavegpt.loss.dro import DroConfig
from behavegpt.train.config import ExecutionConfig, Schedule


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyConfig:
    """A grid of cells (width, num_events, seed)."""

    name: str
    widths: tuple[int, ...]
    """Model widths, the axis of N; see recipe.py for what follows from a width."""
    num_events: tuple[int, ...]
    """Data sizes, the axis of D: unique training targets."""
    depth: int = 2
    """Blocks of every model."""
    seeds: tuple[int, ...] = (0,)
    """Initialisations."""
    schedule: Schedule = "wsd"
    dro: DroConfig | None = None
    """None trains with plain cross-entropy: a reweighted model cannot reach the entropy floor."""
    learning_rate: float | None = None
    """Peak rate of every model; None takes the recipe's rule of the width."""
    num_val_windows: int | None = None
    """Windows of the validation split that give the loss; None takes all."""
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)

    def __post_init__(self) -> None:
        problems = []
        for name in ("widths", "num_events", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                problems.append(f"{name} is {values}; give at least one value, each once")
        problems += [f"widths has {w}; a width is a positive multiple of 4" for w in self.widths if w < 4 or w % 4]
        problems += [f"num_events has {d}; a data size must be > 0" for d in self.num_events if d <= 0]
        problems += [f"seeds has {s}; a seed must be >= 0" for s in self.seeds if s < 0]
        if self.depth < 1:
            problems.append(f"depth is {self.depth}; it must be >= 1")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            problems.append(f"learning_rate is {self.learning_rate}; it must be positive and finite")
        if self.num_val_windows is not None and self.num_val_windows < 2:
            problems.append(f"num_val_windows is {self.num_val_windows}; it must be >= 2")
        if problems:
            raise InputError(*problems)
