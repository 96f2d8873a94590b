"""What a study is: the axes of its grid, and the one recipe that all its cells share.

The grid is the product of model sizes, data sizes, seeds and variants. Each variant gets a law of its own.
"""

import math
import re
from dataclasses import dataclass, field

from behavegpt.errors import InputError
from behavegpt.loss.config import Loss
from behavegpt.train.config import ExecutionConfig, Schedule


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """One point of the axis of N."""

    width: int
    depth: int = 2
    """Blocks."""
    num_heads: int | None = None
    """None takes heads of width 16, or a little wider where that does not divide the width."""

    def problems(self) -> list[str]:
        """Return a sentence for each value that no model can have."""
        problems = []
        if self.width < 4 or self.width % 4:
            problems.append(f"widths has {self.width}; a width is a positive multiple of 4")
        if self.depth < 1:
            problems.append(f"depth is {self.depth}; it must be >= 1")
        if self.num_heads is not None and (self.num_heads < 1 or self.width % self.num_heads):
            problems.append(f"num_heads is {self.num_heads}; it must divide the width, which is {self.width}")
        return problems


def of_widths(*widths: int, depth: int = 2) -> tuple[Size, ...]:
    """Return the sizes of these widths at one depth."""
    return tuple(Size(width=width, depth=depth) for width in widths)


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """What is trained at every point of the grid: cells of two variants never meet in one law.

    A further family of models is a further field here.
    """

    loss: Loss | None = None
    """None trains with plain cross-entropy: a reweighted model cannot reach the entropy floor."""
    schedule: Schedule = "wsd"
    rate_factor: float = 1.0
    """Peak learning rate over the recipe's."""

    def __post_init__(self) -> None:
        if not 0 < self.rate_factor < math.inf:
            raise InputError(f"rate_factor is {self.rate_factor}; it must be positive and finite")

    @property
    def name(self) -> str:
        """The name that the results table carries."""
        parts = ["erm" if self.loss is None else self.loss.name]
        parts += [self.schedule.replace("_", "-")] if self.schedule != "wsd" else []
        parts += [f"rate-x{self.rate_factor:g}"] if self.rate_factor != 1 else []
        return "-".join(parts)

    @property
    def label(self) -> str:
        """The name as a part of a file name."""
        return re.sub(r"[^a-z0-9]+", "", self.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyConfig:
    """A grid of cells (size, data size, seed, variant). Exactly one of the three ways to give data sizes is used."""

    name: str
    sizes: tuple[Size, ...]
    """Models, the axis of N; see recipe.py for what follows from a size."""
    num_events: tuple[int, ...] = ()
    """Data sizes, the axis of D: unique training targets, the same for every model."""
    events_per_param: tuple[float, ...] = ()
    """Data sizes as multiples of each model's N."""
    flop_budgets: tuple[float, ...] = ()
    """Training FLOPs (IsoFLOP): each model gets the data size that costs the budget."""
    seeds: tuple[int, ...] = (0,)
    """Initialisations."""
    variants: tuple[Variant, ...] = (Variant(),)
    learning_rate: float | None = None
    """Peak rate of every model; None takes the recipe's rule of the width."""
    num_val_windows: int | None = None
    """Windows of the validation split that give the loss; None takes all."""
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    max_workers: int = 8
    """Workers that a large trunk may be given where the cluster has them; see packs.py for the rule."""

    def __post_init__(self) -> None:
        problems = [*self._axis_problems()]
        problems += [problem for size in self.sizes for problem in size.problems()]
        problems += [f"num_events has {d}; a data size must be > 0" for d in self.num_events if d <= 0]
        problems += [
            f"{name} has {value}; it must be positive and finite"
            for name in ("events_per_param", "flop_budgets")
            for value in getattr(self, name)
            if not 0 < value < math.inf
        ]
        problems += [f"seeds has {s}; a seed must be >= 0" for s in self.seeds if s < 0]
        problems += [f"seeds has {s}; a seed must be below 2^63" for s in self.seeds if s >= 1 << 63]
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            problems.append(f"learning_rate is {self.learning_rate}; it must be positive and finite")
        if self.num_val_windows is not None and self.num_val_windows < 2:
            problems.append(f"num_val_windows is {self.num_val_windows}; it must be >= 2")
        if self.max_workers < 1:
            problems.append(f"max_workers is {self.max_workers}; it must be >= 1")
        if problems:
            raise InputError(*dict.fromkeys(problems))

    def _axis_problems(self) -> list[str]:
        data = [name for name in ("num_events", "events_per_param", "flop_budgets") if getattr(self, name)]
        axes = {
            "widths": tuple(size.width for size in self.sizes) if not self.sizes else self.sizes,
            "seeds": self.seeds,
            "variants": tuple(variant.name for variant in self.variants),
            **{name: getattr(self, name) for name in data},
        }
        problems = [
            f"{name} is {_shown(values)}; give at least one value, each once"
            for name, values in axes.items()
            if not values or len(set(values)) < len(values)
        ]
        if len(data) != 1:
            given = " and ".join(data) or "none of them is given"
            problems.append(f"data sizes: {given}; give one of num_events, events_per_param, flop_budgets")
        return problems


def _shown(values: tuple[object, ...]) -> tuple[object, ...]:
    return tuple(value.width if isinstance(value, Size) else value for value in values)
