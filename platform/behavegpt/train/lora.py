"""Freeze parts of a model, and update frozen projections by low-rank matrices (LoRA, Hu et al. 2021).

In: a model at its start, and a recipe's `Trainable`. Out: the model of which only that moves; after training, the
weights of a plain model, with every update added in.

The model's queries, keys and values come from one fused projection, so that the updates of queries and values are those
of two thirds of its rows. The library peft would update all rows by one pair of matrices, keys among them.
Legend: B windows, I inputs of a window, D width, R rank.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from behavegpt.model.linear import Linear
from behavegpt.model.transformer import BehaveGPT
from behavegpt.train.trainable import Lora, Trainable, part_of

PROJECTION = "attention.qkv."
PAIRS = {"q": 0, "v": 2}
"""What is updated, and which third of the fused projection's rows it is."""


class LoraProjection(Linear):
    """A fused projection to queries, keys and values, with updates of queries and values; its own names stay."""

    def __init__(self, projection: nn.Linear, lora: Lora) -> None:
        """Take over the projection's parameters."""
        width = projection.in_features
        super().__init__(width, projection.out_features, device="meta")
        self.weight, self.bias = projection.weight, projection.bias
        self.q_down, self.v_down = (nn.Linear(width, lora.rank, bias=False) for _ in PAIRS)
        self.q_up, self.v_up = (nn.Linear(lora.rank, width, bias=False) for _ in PAIRS)
        self.scale = lora.alpha / lora.rank

    def forward(self, input: Tensor) -> Tensor:
        """Return (..., 3 D) queries, keys and values for inputs (..., D)."""
        q, k, v = super().forward(input).chunk(3, dim=-1)
        q = q + self.scale * self.q_up(self.q_down(input))
        v = v + self.scale * self.v_up(self.v_down(input))
        return torch.cat((q, k, v), dim=-1)


def restrict(model: nn.Module, trainable: Trainable | None) -> None:
    """Freeze what does not move, and give the projections their updates, whose values `initialise_updates` draws."""
    if trainable is None:
        return
    assert isinstance(model, BehaveGPT), "other families have no such parts"
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) in trainable.parts)
    if trainable.lora:
        for block in model.blocks:
            block.attention.qkv = LoraProjection(block.attention.qkv, trainable.lora)  # pyright: ignore


@torch.no_grad()
def initialise_updates(model: nn.Module, seed: int) -> None:
    """Draw A from U(-1 / sqrt(D), 1 / sqrt(D)) by `seed` alone, and set B to 0: the model starts as it is without."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, LoraProjection):
            bound = 1 / math.sqrt(module.in_features)
            for down in (module.q_down.weight, module.v_down.weight):
                down.copy_(torch.empty(down.shape).uniform_(-bound, bound, generator=generator))
            for up in (module.q_up.weight, module.v_up.weight):
                up.zero_()


def merged(weights: Mapping[str, Tensor], trainable: Trainable | None) -> dict[str, Tensor]:
    """Return the weights of the plain model that computes the same: W + (alpha / rank) B A in place of W, B and A."""
    if trainable is None or trainable.lora is None:
        return dict(weights)
    scale, plain = trainable.lora.alpha / trainable.lora.rank, dict(weights)
    for name in [name for name in weights if name.endswith(f"{PROJECTION}weight")]:
        thirds = list(weights[name].chunk(3))
        for which, third in PAIRS.items():
            down, up = (plain.pop(f"{name.removesuffix('weight')}{which}_{side}.weight") for side in ("down", "up"))
            thirds[third] = thirds[third] + scale * (up @ down)
        plain[name] = torch.cat(thirds)
    return plain
