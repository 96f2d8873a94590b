"""The parts between the embeddings and the logits: feed-forward layer, pre-norm block, head.

In: the residual stream (B, I, D). Out: the same, or logits (B, I, V) from the head.
Legend: B windows, I inputs of a window, D width, V classes.
"""

from torch import Tensor, nn
from torch.nn.functional import gelu

from behavegpt.model.attention import Backend, CausalSelfAttention
from behavegpt.model.config import ModelConfig


class FeedForward(nn.Module):
    """W2 GELU(W1 x), four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, 4 * width)
        self.output = nn.Linear(4 * width, width)

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


class Head(nn.Module):
    """W2 GELU(W1 h + b1) + b2: eq. 3 of BehaveGPT, whose hidden width and activation the paper leaves open."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.output = nn.Linear(width, num_classes)

    def forward(self, x_BID: Tensor) -> Tensor:
        """Return logits (B, I, V)."""
        return self.output(gelu(self.hidden(x_BID)))
