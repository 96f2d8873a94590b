"""The model: four embeddings, positions, causal blocks, head; its initialisation; its parameters by kind.

In: id tensors weekday, slot, location, event of a batch, each (B, I), right padded with 0. Out: logits (B, I, V),
where row i scores the behaviour of event i + 1 and has read events 0 .. i alone. Next: loss/nll.py.
Legend: B windows, I inputs of a window, D width, V classes (class c is behaviour id c + 1).
"""

import math

import torch
from torch import Tensor, nn

from behavegpt.model.attention import Backend, resolve_attention
from behavegpt.model.config import ModelConfig
from behavegpt.model.layers import Block, Head
from behavegpt.schema import FEATURES

MATRIX_STD = 0.02 * math.sqrt(1024)
"""Standard deviation of a weight matrix times the square root of its fan-in: GPT-2's 0.02 at width 1024."""
EMBEDDING_STD = 0.3
POSITION_AMPLITUDE = 0.3
"""Amplitude of the sinusoids from which the learned positions start."""
POSITION_PERIOD_BASE = 10_000.0


class BehaveGPT(nn.Module):
    """A GPT-2 style causal transformer over events (arXiv 2505.17631, section 3). Call `initialise` after building."""

    def __init__(self, config: ModelConfig, backend: Backend | None = None) -> None:
        """Build the layers.

        Args:
            backend: What `resolve_attention` returned; None resolves for a CPU in float32, where "auto" is sdpa.
        """
        super().__init__()
        self.config = config
        self.backend: Backend = backend or resolve_attention(config.attention, "cpu")
        tables = {name: nn.Embedding(size, config.width // 4) for name, size in config.table_sizes.items()}
        self.embeddings = nn.ModuleDict(tables)
        self.positions = nn.Parameter(_sinusoids(config.num_positions, config.width))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, self.backend) for _ in range(config.depth))
        self.final_norm = nn.LayerNorm(config.width)
        self.head = Head(config.width, config.num_classes)

    def forward(self, weekday: Tensor, slot: Tensor, location: Tensor, event: Tensor) -> Tensor:
        """Return logits (B, I, V) for id tensors (B, I) with I up to `config.num_positions`."""
        ids = dict(zip(FEATURES, (weekday, slot, location, event), strict=True))
        x_BID = torch.cat([self.embeddings[name](ids_BI) for name, ids_BI in ids.items()], dim=-1)
        assert x_BID.shape[1] <= len(self.positions), "a single position would be broadcast over the window"
        x_BID = self.dropout(x_BID + self.positions[: x_BID.shape[1]])
        for block in self.blocks:
            x_BID = block(x_BID)
        return self.head(self.final_norm(x_BID))


@torch.no_grad()
def initialise(model: BehaveGPT, seed: int) -> None:
    """Draw every parameter anew from `seed` alone: the global random state is neither read nor moved.

    Matrices are N(0, 0.02 sqrt(1024 / fan_in)), which is GPT-2's 0.02 at its width of 1024 and gives the output of
    every matrix the same variance at any other width; a plain 0.02 would start a width-32 model as almost the zero
    function. The projections that write to the residual stream are divided by sqrt(2 depth), as in GPT-2, so that
    its variance does not grow with depth. The output layer is not shrunk. The stream starts at the scale of the
    embeddings: N(0, 0.3) tables and sinusoids of amplitude 0.3 for positions (learned from there), so that the blocks
    see distinct events and an order of positions from the first step. On the generator's log at width 64 and 50,000
    events (two seeds), halving the matrices costs 0.26 nats, an output layer at a tenth 0.25, and tables at GPT-2's
    0.02 cost 0.21; amplitudes of 0.1 and 0.3 do not differ.
    Norms start at 1 and 0, biases at 0.
    """
    generator = torch.Generator().manual_seed(seed)
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    to_residual = {layer for block in blocks for layer in (block.attention.output, block.feed_forward.output)}
    for module in model.modules():
        if isinstance(module, nn.Linear):
            std = MATRIX_STD / math.sqrt(module.in_features)
            _normal(module.weight, std / math.sqrt(2 * len(blocks)) if module in to_residual else std, generator)
            module.bias.zero_()
        elif isinstance(module, nn.Embedding):
            _normal(module.weight, EMBEDDING_STD, generator)
        elif isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
            module.bias.zero_()
    model.positions.copy_(_sinusoids(*model.positions.shape))


def embedding_parameters(model: BehaveGPT) -> list[nn.Parameter]:
    """Return the four lookup tables."""
    return list(model.embeddings.parameters())


def matrix_parameters(model: BehaveGPT) -> list[nn.Parameter]:
    """Return the weights of the linear layers: what takes part in a matrix product."""
    weights = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    return [p for p in model.parameters() if id(p) in weights]


def vector_parameters(model: BehaveGPT) -> list[nn.Parameter]:
    """Return the biases, the scales and shifts of the norms, and the positions: what every input of a window uses."""
    others = {id(p) for p in (*embedding_parameters(model), *matrix_parameters(model))}
    return [p for p in model.parameters() if id(p) not in others]


def _normal(parameter: Tensor, std: float, generator: torch.Generator) -> None:
    # Drawn on the CPU in float32, so that device and dtype of the model do not change the draw.
    parameter.copy_(torch.empty(parameter.shape).normal_(0.0, std, generator=generator))


def _sinusoids(num_positions: int, width: int) -> Tensor:
    """Return (I, D) sines and cosines of geometrically spaced periods (Vaswani et al. 2017, section 3.5), scaled."""
    rates = POSITION_PERIOD_BASE ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(num_positions)[:, None] * rates[None, :]
    return POSITION_AMPLITUDE * torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
