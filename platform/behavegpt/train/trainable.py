"""Which parameters of a model move in training: whole parts of BehaveGPT, and low-rank updates of frozen projections.

In: a recipe's `Trainable`, or what a checkpoint says of it. Out: the same, checked, and how many parameters it moves.
Next: lora.py carries it out. Imports no torch: a run is planned without.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from behavegpt.errors import InputError, did_you_mean
from behavegpt.model.config import ModelConfig

Part = Literal["embeddings", "positions", "attention", "feed_forward", "norms", "head_hidden", "head_output"]
PARTS: tuple[Part, ...] = get_args(Part)
"""Every parameter of BehaveGPT belongs to exactly one of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lora:
    """Low-rank updates of the queries' and values' projections (Hu et al. 2021): W + (alpha / rank) B A."""

    rank: int = 8
    """Rows of A and columns of B."""
    alpha: float = 16.0

    def __post_init__(self) -> None:
        problems = []
        if type(self.rank) is not int or self.rank < 1:
            problems.append(f"lora.rank is {self.rank!r}; it must be a whole number, at least 1")
        if not isinstance(self.alpha, int | float) or not 0 < self.alpha < math.inf:
            problems.append(f"lora.alpha is {self.alpha!r}; it must be positive and finite")
        if problems:
            raise InputError(*problems)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trainable:
    """What moves; all else stays as it was at the start."""

    parts: tuple[Part, ...]
    lora: Lora | None = None
    """Its matrices move too."""

    def __post_init__(self) -> None:
        problems = [
            f"trainable.parts has {part!r}; allowed: {', '.join(PARTS)}.{did_you_mean(str(part), PARTS)}"
            for part in self.parts
            if part not in PARTS
        ]
        if not self.parts or len(set(self.parts)) < len(self.parts):
            problems.append(f"trainable.parts is {list(self.parts)}; give at least one part, each once")
        if self.lora and "attention" in self.parts:
            problems.append("trainable.parts has attention, and lora updates it; a low-rank update is for a frozen one")
        if problems:
            raise InputError(*problems)


def part_of(name: str) -> Part:
    """Return the part to which the parameter of this name belongs."""
    first, _, rest = name.partition(".")
    match first:
        case "embeddings" | "positions":
            return first
        case "head":
            return "head_hidden" if rest.startswith("hidden.") else "head_output"
        case "blocks":
            layer = rest.split(".")[1]
            return "attention" if layer == "attention" else "feed_forward" if layer == "feed_forward" else "norms"
    assert first == "final_norm", f"{name} is no parameter of BehaveGPT"
    return "norms"


def count_parts(config: ModelConfig) -> dict[Part, int]:
    """Return the parameters of each part, in closed form.

    With D the width: attention has 4 D^2 + 4 D a block, the feed-forward layer 8 D^2 + 5 D, its two norms 4 D; the last
    norm 2 D; the head D^2 + D, then D V + V for V classes.
    """
    width, depth, classes = config.width, config.depth, config.num_classes
    return {
        "embeddings": sum(rows * width // 4 for rows in config.table_sizes.values()),
        "positions": config.num_positions * width,
        "attention": depth * (4 * width**2 + 4 * width),
        "feed_forward": depth * (8 * width**2 + 5 * width),
        "norms": depth * 4 * width + 2 * width,
        "head_hidden": width**2 + width,
        "head_output": width * classes + classes,
    }


def count_trained(config: ModelConfig, trainable: Trainable | None) -> int:
    """Return how many parameters training moves; the low-rank updates of a block have 2 x 2 x rank x D."""
    counts = count_parts(config)
    if trainable is None:
        return sum(counts.values())
    rank = trainable.lora.rank if trainable.lora else 0
    return sum(counts[part] for part in trainable.parts) + config.depth * 4 * rank * config.width


def read_trainable(path: Path, given: Any) -> Trainable | None:
    """Return what a file says of it; None where everything moves.

    Raises:
        InputError: It is none.
    """
    if given is None:
        return None
    try:
        lora = None if given["lora"] is None else Lora(**given["lora"])
        return Trainable(parts=tuple(given["parts"]), lora=lora)
    except (TypeError, KeyError, InputError) as error:
        raise InputError(f"{path}: its recipe does not say which parameters moved ({error})") from error
