"""The optimiser of the recipe: AdamW on three groups of parameters, with a rate of its own for the lookup tables."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from behavegpt.model.transformer import BehaveGPT, embedding_parameters, matrix_parameters, vector_parameters
from behavegpt.train.config import TrainConfig


def build_optimizer(model: BehaveGPT, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW over matrices (decayed), vectors and the lookup tables (at embedding_lr_factor times the rate).

    Frozen parameters are in no group. torch's own fused kernel serves CPU and GPU alike and compiles nothing at first
    use, unlike DeepSpeed's.
    """
    rate = config.learning_rate
    groups = [
        {"params": matrix_parameters(model), "lr": rate, "weight_decay": config.weight_decay},
        {"params": vector_parameters(model), "lr": rate, "weight_decay": 0.0},
        {"params": embedding_parameters(model), "lr": rate * config.embedding_lr_factor, "weight_decay": 0.0},
    ]
    moving = [group | {"params": [p for p in group["params"] if p.requires_grad]} for group in groups]
    moving = [group for group in moving if group["params"]]
    return torch.optim.AdamW(moving, betas=(config.beta1, config.beta2), fused=True)


def clip_gradients(parameters: Sequence[nn.Parameter], most: float) -> float:
    """Scale the gradients so that their common norm is at most `most`; return the norm before that.

    Computes what `torch.nn.utils.clip_grad_norm_` does, bit for bit; that multiplies every gradient by 1 where the norm
    is small enough, a pass over memory as long as half an AdamW step.
    """
    norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    # Torch's factor is most / (norm + 1e-6). Written so that a norm that is not a number clips.
    if not most / (norm + 1e-6) >= 1:
        clip_grads_with_norm_(parameters, most, norm)
    return float(norm)


def set_rates(optimizer: torch.optim.Optimizer, peak_rates: list[float], factor: float) -> None:
    """Set the rate of each group to `factor` times its peak."""
    for group, rate in zip(optimizer.param_groups, peak_rates, strict=True):
        group["lr"] = rate * factor
