"""Parameters and FLOPs of a model in closed form, item by item, without building it. Imports no torch.

In: a `ModelConfig`. Out: `ParamCounts` and `Flops`, which the study's plan, its results table and the law read.
Symbols in the formulas: D width, V classes, L positions, R rows of a table.
"""

from dataclasses import dataclass

from behavegpt.model.config import ModelConfig
from behavegpt.schema import NUM_INPUTS

TRAINING_PASSES = 3
"""Training costs three forward passes: a matrix product has two gradients, each as expensive as the product."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ParamCounts:
    """Learned parameters, by where they sit."""

    weekday: int
    slot: int
    location: int
    event: int
    positions: int
    blocks: int
    final_norm: int
    head: int
    matmul: int
    """Of all of these, the weights that take part in a matrix product: no lookups, biases or norms."""

    @property
    def embedding(self) -> int:
        """Lookup tables and positions."""
        return self.weekday + self.slot + self.location + self.event + self.positions

    @property
    def non_embedding(self) -> int:
        """N of the scaling law (`num_params`): blocks, final norm and head, output layer included."""
        return self.blocks + self.final_norm + self.head

    @property
    def total(self) -> int:
        """Every parameter."""
        return self.embedding + self.non_embedding


def count_params(config: ModelConfig) -> ParamCounts:
    """Return the parameters of `BehaveGPT(config)`.

    A block has 12 D^2 matrix weights (4 D^2 in attention, 8 D^2 in the feed-forward layer) and 13 D others
    (biases 3D + D + 4D + D, two norms of 2D each); a table has R D / 4; the head D^2 + D + D V + V.
    """
    width, classes = config.width, config.num_classes
    tables = {name: rows * width // 4 for name, rows in config.table_sizes.items()}
    block_matrices = 12 * width**2
    head_matrices = width**2 + width * classes
    return ParamCounts(
        **tables,
        positions=config.num_positions * width,
        blocks=config.depth * (block_matrices + 13 * width),
        final_norm=2 * width,
        head=head_matrices + width + classes,
        matmul=config.depth * block_matrices + head_matrices,
    )


def itemise(config: ModelConfig) -> list[str]:
    """Return the parameters item by item as aligned text: each table, positions, blocks, norm and head, then totals."""
    counts, width = count_params(config), config.width
    shapes = {name: f"{rows} x {width // 4}" for name, rows in config.table_sizes.items()}
    shapes |= {"positions": f"{config.num_positions} x {width}", "blocks": f"{config.depth} of width {width}"}
    shapes |= {"final_norm": f"2 x {width}", "head": f"{width} -> {width} -> {config.num_classes}"}
    shapes |= {"embedding": "tables and positions", "non_embedding": "blocks, norm, head: N", "total": ""}
    shapes |= {"matmul": "weights of matrix products"}
    return [f"{name:<14}{getattr(counts, name):>14,}  {shape}".rstrip() for name, shape in shapes.items()]


@dataclass(frozen=True, kw_only=True, slots=True)
class Flops:
    """FLOPs of one forward pass over one window, two per multiply-add, matrix products alone."""

    length: int
    """Input positions of the window, each of which predicts one event."""
    projections: int
    """Queries, keys, values and the output of attention."""
    attention: int
    """Scores and weighted values, counted over the full L x L square although the mask halves it."""
    feed_forward: int
    head: int

    @property
    def forward(self) -> int:
        """One forward pass over the window."""
        return self.projections + self.attention + self.feed_forward + self.head

    @property
    def training(self) -> int:
        """Forward and backward pass over the window."""
        return TRAINING_PASSES * self.forward

    @property
    def training_per_event(self) -> float:
        """Forward and backward pass for one predicted event of a full window."""
        return self.training / self.length


def flops_per_window(config: ModelConfig, length: int = NUM_INPUTS) -> Flops:
    """Return the FLOPs of a window, as torch's FlopCounterMode counts them.

    Every matrix weight costs 2 L; the scores and the weighted values cost 2 L^2 D each. Lookups, norms, biases,
    activations and the softmax are not counted. The full square is the convention of the counter and of the
    scaling-law papers; kernels that skip the masked half run fewer.
    """
    width, depth = config.width, config.depth
    return Flops(
        length=length,
        projections=depth * 2 * length * 4 * width**2,
        attention=depth * 2 * 2 * length**2 * width,
        feed_forward=depth * 2 * length * 8 * width**2,
        head=2 * length * (width**2 + width * config.num_classes),
    )


def train_flops_per_event(config: ModelConfig) -> float:
    """Return the FLOPs of learning from one target: a study's FLOPs are this times num_events."""
    return flops_per_window(config, config.num_positions).training_per_event
