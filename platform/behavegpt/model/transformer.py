"""The model: four embeddings, positions, causal blocks, head; its initialisation; its parameters by kind.

In: id tensors weekday, slot, location, event of a batch, each (B, I), right padded with 0. Out: logits (B, I, V),
where row i scores the behaviour of event i + 1 and has read events 0 .. i alone. Next: loss/nll.py.
Legend: B windows, I inputs of a window, D width, V classes (class c is behaviour id c + 1).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from behavegpt.model.attention import Backend, resolve_attention
from behavegpt.model.cache import ROWS, WINDOWS, Cache, check_histories, check_room, fill_rows, groups
from behavegpt.model.config import ModelConfig
from behavegpt.model.layers import Block, Head, Lookup
from behavegpt.schema import FEATURES

MATRIX_STD = 0.02 * math.sqrt(1024)
"""Standard deviation of a weight matrix times the square root of its fan-in: GPT-2's 0.02 at width 1024."""
EMBEDDING_STD = 0.3
POSITION_AMPLITUDE = 0.3
"""Amplitude of the sinusoids from which the learned positions start."""
POSITION_PERIOD_BASE = 10_000.0


class BehaveGPT(nn.Module):
    """A GPT-2 style causal transformer over events (arXiv 2505.17631, section 3). Call `initialise` after building."""

    def __init__(self, config: ModelConfig, backend: Backend | None = None, recompute: bool = False) -> None:
        """Build the layers.

        Args:
            backend: What `resolve_attention` returned; None resolves for a CPU in float32, where "auto" is sdpa.
            recompute: Training keeps each block's input alone and runs the block again in the backward pass: the same
                numbers bit for bit, a third more time, a fraction of the memory ("activation checkpointing").
        """
        super().__init__()
        self.config = config
        self.recompute = recompute
        self.backend: Backend = backend or resolve_attention(config.attention, "cpu")
        tables = {name: Lookup(size, config.width // 4) for name, size in config.table_sizes.items()}
        self.embeddings = nn.ModuleDict(tables)
        self.positions = nn.Parameter(_sinusoids(config.num_positions, config.width))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, self.backend) for _ in range(config.depth))
        self.final_norm = nn.LayerNorm(config.width)
        self.head = Head(config.width, config.num_classes)

    def forward(self, weekday: Tensor, slot: Tensor, location: Tensor, event: Tensor) -> Tensor:
        """Return logits (B, I, V) for id tensors (B, I) with I up to `config.num_positions`."""
        x_BID = self.dropout(self._embed((weekday, slot, location, event), self.positions[: weekday.shape[1]]))
        for block in self.blocks:
            x_BID = self._again(block, x_BID) if self.recompute and torch.is_grad_enabled() else block(x_BID)
        return self._score(x_BID)

    @torch.no_grad()
    def read_last(self, weekday: Tensor, slot: Tensor, location: Tensor, event: Tensor, lengths: Tensor) -> Tensor:
        """Return the final hidden states (B, D) of each row's last event, from which `head` scores what comes next.

        What no last event needs is not computed: in the last block one position a row is, and the head's share is left
        to the caller.

        Args:
            weekday: ids (B, I), right padded, as the other three.
            lengths: int64 (B,) events of each row, 1 .. I.
        """
        assert not self.training, "dropout would make the states a matter of chance"
        x_BID = self._embed((weekday, slot, location, event), self.positions[: weekday.shape[1]])
        for block in self.blocks[:-1]:
            x_BID = block(x_BID)
        return self.final_norm(self.blocks[-1].read_at(x_BID, lengths - 1))  # pyright: ignore[reportCallIssue]

    @torch.no_grad()
    def prefill(
        self, weekday: Tensor, slot: Tensor, location: Tensor, event: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Cache]:
        """Read histories of any lengths, right padded.

        Args:
            weekday: ids (B, I), as the other three.
            lengths: int64 (B,) events of each row, 1 at least.

        Returns:
            Logits (B, V) over each row's next behaviour, and what `extend` goes on from.

        Raises:
            ValueError: A row has no event, or more than the model has positions.
        """
        assert not self.training, "dropout would make the cache a matter of chance"
        config, batch = self.config, len(lengths)
        ids = (weekday, slot, location, event)
        check_histories(ids, lengths, config.num_positions)
        cache = Cache.empty(config, lengths, self.positions)
        ids = [fill_rows(pad(given, (0, config.num_positions - given.shape[1])), cache.num_rows) for given in ids]
        last_R = fill_rows(lengths - 1, cache.num_rows)
        logits = []
        for rows in groups(batch, WINDOWS):
            x_BID = self._embed([given[rows] for given in ids], self.positions)
            for block, keys, values in zip(self.blocks, cache.keys, cache.values, strict=True):
                x_BID, keys[rows], values[rows] = block.read(x_BID)  # pyright: ignore[reportCallIssue]
            logits.append(self._score(x_BID[torch.arange(WINDOWS), last_R[rows]]))
        return torch.cat(logits)[:batch], cache

    @torch.no_grad()
    def extend(self, cache: Cache, weekday: Tensor, slot: Tensor, location: Tensor, event: Tensor) -> Tensor:
        """Read one more event a row, ids (B,), into the cache; return logits (B, V) over the behaviour after it.

        Raises:
            ValueError: A row is full: `prefill` its last events anew.
        """
        assert not self.training, "dropout would make the cache a matter of chance"
        check_room(cache, len(event))
        ids = [fill_rows(given, cache.num_rows) for given in (weekday, slot, location, event)]
        at_R = fill_rows(cache.lengths, cache.num_rows)
        logits = []
        for rows in groups(len(event), ROWS):
            x_BD = self._embed([given[rows] for given in ids], self.positions[at_R[rows]])
            for block, keys, values in zip(self.blocks, cache.keys, cache.values, strict=True):
                x_BD = block.extend(x_BD, keys[rows], values[rows], at_R[rows])  # pyright: ignore[reportCallIssue]
            logits.append(self._score(x_BD))
        cache.lengths += 1
        return torch.cat(logits)[: len(event)]

    def _embed(self, ids: Sequence[Tensor], positions: Tensor) -> Tensor:
        """Return the embeddings of weekday, slot, location and event side by side, plus their positions."""
        tables = [self.embeddings[name] for name in FEATURES]
        x = torch.cat([table(given) for table, given in zip(tables, ids, strict=True)], dim=-1)
        assert x.shape[-2] == len(positions), "a single position would be broadcast over the window"
        return x + positions

    def _score(self, x: Tensor) -> Tensor:
        return self.head(self.final_norm(x))

    def _again(self, block: nn.Module, x_BID: Tensor) -> Tensor:
        # The random state matters to dropout alone; keeping it costs a copy of it for every block.
        keeps_random_state = self.config.dropout > 0
        return checkpoint(block, x_BID, use_reentrant=False, preserve_rng_state=keeps_random_state)  # pyright: ignore


@torch.no_grad()
def initialise(model: BehaveGPT, seed: int) -> None:
    """Draw every parameter anew from `seed` alone: the global random state is neither read nor moved.

    Matrices are N(0, 0.02 sqrt(1024 / fan_in)), which is GPT-2's 0.02 at its width of 1024 and gives the output of
    every matrix the same variance at any other width; a plain 0.02 would start a width-32 model as almost the zero
    function. The projections that write to the residual stream are divided by sqrt(2 depth), as in GPT-2, so that
    its variance does not grow with depth. The output layer is not shrunk. The stream starts at the scale of the
    embeddings: N(0, 0.3) tables and sinusoids of amplitude 0.3 for positions (learned from there), so that the blocks
    see distinct events and an order of positions from the first step. On the generator's log at width 64 and 50,000
    events (two seeds), an output layer at a tenth costs 0.02 nats; half the matrices, tables at GPT-2's 0.02 and
    amplitudes of 0.1 cost less than 0.001.
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
