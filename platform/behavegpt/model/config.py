"""The shape of a model: one frozen record, and the two ways to make one. Imports no torch.

In: a width and the dataset's vocabulary sizes. Out: a `ModelConfig` for transformer.BehaveGPT and for sizing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from behavegpt.errors import InputError, did_you_mean
from behavegpt.schema import FEATURES, FIRST_KNOWN_ID, NUM_INPUTS, NUM_SLOTS, NUM_WEEKDAYS

AttentionChoice = Literal["auto", "flash", "sdpa"]

WEIGHTS_FORMAT = 2
"""Of the weights: another number where the same names and shapes mean another function. 1 had a head without the
stream's own path."""
HEAD_WIDTHS = {256: 64, 64: 32, 0: 16}
"""Width of an attention head in the models of `for_width`, from that width of the model on. GPT-2's is 64. Narrow heads
keep several of them in small models, and cost time in large ones: each has a softmax over all pairs of positions. At
widths 64 and 96 heads of 32 take a tenth off a step with heads of 16; the demo's losses differ by 0.0013 at most."""


def other_format(found: object) -> str:
    """Return what to say of weights of another format."""
    ours = f"where this version computes with format {WEIGHTS_FORMAT}"
    return f"format {found}, {ours}; train the model again with this version"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """A causal transformer over windows of four-feature events."""

    width: int
    """Width of the residual stream; each of the four embeddings has a quarter of it."""
    depth: int
    """Number of blocks."""
    num_heads: int
    """Attention heads of a block; divides the width."""
    num_locations: int
    """Rows of the location table, ids 0 (padding) and 1 (other) included, as in the dataset's manifest."""
    num_event_ids: int
    """Rows of the event table, ids 0 and 1 included."""
    num_behavior_ids: int
    """Behaviour ids, 0 and 1 included. Id 0 is never predicted, so the model has one class less."""
    num_weekdays: int = NUM_WEEKDAYS
    """Rows of the weekday table, id 0 included."""
    num_slots: int = NUM_SLOTS
    """Rows of the slot table, id 0 included."""
    num_positions: int = NUM_INPUTS
    """Longest window of inputs that the model can read."""
    dropout: float = 0.0
    """Probability, in [0, 1), of zeroing an entry of the embeddings, attention weights and residual updates."""
    attention: AttentionChoice = "auto"
    """Kernel of the attention; attention.resolve_attention turns "auto" into one of the other two."""

    def __post_init__(self) -> None:
        """Raise InputError with every problem found."""
        if problems := [*_whole_number_problems(self), *_other_problems(self)]:
            raise InputError(*problems)

    @property
    def num_classes(self) -> int:
        """Classes of the output: class c stands for behaviour id c + 1."""
        return self.num_behavior_ids - 1

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.num_heads

    @property
    def table_sizes(self) -> dict[str, int]:
        """Rows of each embedding table, in the order in which the embeddings are concatenated."""
        sizes = (self.num_weekdays, self.num_slots, self.num_locations, self.num_event_ids)
        return dict(zip(FEATURES, sizes, strict=True))


def for_width(width: int, depth: int = 2, *, vocabulary_sizes: Mapping[str, int]) -> ModelConfig:
    """Return a model of a study's ladder: heads as wide as HEAD_WIDTHS says where that divides the width, else wider.

    Args:
        vocabulary_sizes: Table sizes of weekday, slot, location, event and behavior, as in the dataset's manifest.
    """
    head_width = next(head for least, head in HEAD_WIDTHS.items() if width >= least)
    most = max(1, width // head_width)
    num_heads = next((n for n in range(most, 0, -1) if width % n == 0), 1)
    return _with_tables(width, depth, num_heads, vocabulary_sizes)


def paper(vocabulary_sizes: Mapping[str, int]) -> ModelConfig:
    """Return the 12 x 1024 model of BehaveGPT (arXiv 2505.17631); its 16 heads are GPT-2's, the paper names none."""
    return _with_tables(1024, 12, 16, vocabulary_sizes)


def _with_tables(width: int, depth: int, num_heads: int, vocabulary_sizes: Mapping[str, int]) -> ModelConfig:
    needed = (*FEATURES, "behavior")
    if missing := [name for name in needed if name not in vocabulary_sizes]:
        raise InputError(f"vocabulary_sizes lacks {', '.join(missing)}; a dataset's manifest has all of {needed}")
    return ModelConfig(
        width=width,
        depth=depth,
        num_heads=num_heads,
        num_weekdays=vocabulary_sizes["weekday"],
        num_slots=vocabulary_sizes["slot"],
        num_locations=vocabulary_sizes["location"],
        num_event_ids=vocabulary_sizes["event"],
        num_behavior_ids=vocabulary_sizes["behavior"],
    )


def _whole_number_problems(config: ModelConfig) -> list[str]:
    tables = ("num_weekdays", "num_slots", "num_locations", "num_event_ids")
    least = {"width": 4, "depth": 1, "num_heads": 1, "num_positions": 1}
    least |= dict.fromkeys(tables, FIRST_KNOWN_ID) | {"num_behavior_ids": FIRST_KNOWN_ID + 1}
    values = {name: getattr(config, name) for name in least}
    return [
        f"model.{name} is {value!r}; it must be a whole number, at least {least[name]}"
        for name, value in values.items()
        if type(value) is not int or value < least[name]
    ]


def _other_problems(config: ModelConfig) -> list[str]:
    problems = []
    width, heads = config.width, config.num_heads
    if type(width) is int and width % 4:
        problems.append(f"model.width is {width}; four equal embeddings fill it, so it must be divisible by 4")
    if type(width) is int and type(heads) is int and heads > 0 and width % heads:
        problems.append(f"model.num_heads is {heads}; it must divide model.width, which is {width}")
    if not 0 <= config.dropout < 1:
        problems.append(f"model.dropout is {config.dropout!r}; it must be at least 0 and below 1")
    choices = get_args(AttentionChoice)
    if config.attention not in choices:
        hint = did_you_mean(str(config.attention), choices)
        problems.append(f"model.attention is {config.attention!r}; allowed: {', '.join(choices)}.{hint}")
    return problems
