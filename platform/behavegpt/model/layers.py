"""The parts of the model: lookup of the embeddings, feed-forward layer, pre-norm block, head.

In: ids, or the residual stream (B, I, D). Out: vectors; the stream; logits (B, I, V) from the head.
Legend: B windows, I inputs of a window, D width, V classes.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from behavegpt.model.attention import Backend, CausalSelfAttention
from behavegpt.model.config import ModelConfig
from behavegpt.model.linear import Linear


class Lookup(nn.Embedding):
    """A table of vectors by id; on a CPU its gradient takes a third of the time of nn.Embedding's."""

    def forward(self, input: Tensor) -> Tensor:
        """Return (*ids, columns) for ids `input`."""
        # On a GPU this gradient would add the rows of one id in no fixed order.
        if not input.is_cpu:
            return super().forward(input)
        return self.weight.index_select(0, input.flatten()).view(*input.shape, -1)


class FeedForward(nn.Module):
    """W2 GELU(W1 x), four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = Linear(width, 4 * width)
        self.output = Linear(4 * width, width)

    def forward(self, x_BID: Tensor) -> Tensor:
        """Return the update (B, I, D)."""
        return self.output(gelu(self.hidden(x_BID)))


class Block(nn.Module):
    """x += attention(norm(x)); x += feed_forward(norm(x))."""

    def __init__(self, config: ModelConfig, backend: Backend) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = CausalSelfAttention(config, backend)
        self.feed_forward_norm = nn.LayerNorm(config.width)
        self.feed_forward = FeedForward(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BID: Tensor) -> Tensor:
        """Return the stream (B, I, D) with both updates added."""
        x_BID = x_BID + self.dropout(self.attention(self.attention_norm(x_BID)))
        return x_BID + self.dropout(self.feed_forward(self.feed_forward_norm(x_BID)))

    def read(self, x_BID: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what forward does without dropout, and the keys and values (B, I, H, K) of attention."""
        update_BID, k_BIHK, v_BIHK = self.attention.read(self.attention_norm(x_BID))
        x_BID = x_BID + update_BID
        return x_BID + self.feed_forward(self.feed_forward_norm(x_BID)), k_BIHK, v_BIHK

    def read_at(self, x_BID: Tensor, at_B: Tensor) -> Tensor:
        """Return what forward does without dropout, (B, D) at one position a row; the others are read alone."""
        update_BD = self.attention.read_at(self.attention_norm(x_BID), at_B)
        x_BD = x_BID[torch.arange(len(at_B), device=at_B.device), at_B] + update_BD
        return x_BD + self.feed_forward(self.feed_forward_norm(x_BD))

    def extend(self, x_BD: Tensor, k_BLHK: Tensor, v_BLHK: Tensor, at_B: Tensor) -> Tensor:
        """Return the stream (B, D) of one new event a row; see CausalSelfAttention.extend."""
        x_BD = x_BD + self.attention.extend(self.attention_norm(x_BD), k_BLHK, v_BLHK, at_B)
        return x_BD + self.feed_forward(self.feed_forward_norm(x_BD))


class Head(nn.Module):
    """W2 (h + GELU(W1 h + b1)) + b2: eq. 3 of BehaveGPT, whose hidden width and activation the paper leaves open.

    It is eq. 3 with 3D hidden units, 2D of them fixed: x = GELU(x) - GELU(-x). So the classes see the stream itself, as
    in a model with a linear head; without that path 50,000 generated events at width 64 leave 0.016 nats more.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.hidden = Linear(width, width)
        self.output = Linear(width, num_classes)

    def forward(self, x_BID: Tensor) -> Tensor:
        """Return logits (B, I, V)."""
        return self.output(x_BID + gelu(self.hidden(x_BID)))
