"""The optimiser of the recipe: AdamW on three groups of parameters, with a rate of its own for the lookup tables."""

import torch

from behavegpt.model.transformer import BehaveGPT, embedding_parameters, matrix_parameters, vector_parameters
from behavegpt.train.config import TrainConfig


def build_optimizer(model: BehaveGPT, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW over matrices (decayed), vectors and the lookup tables (at embedding_lr_factor times the rate).

    torch's own fused kernel serves CPU and GPU alike and compiles nothing at first use, unlike DeepSpeed's.
    """
    rate = config.learning_rate
    groups = [
        {"params": matrix_parameters(model), "lr": rate, "weight_decay": config.weight_decay},
        {"params": vector_parameters(model), "lr": rate, "weight_decay": 0.0},
        {"params": embedding_parameters(model), "lr": rate * config.embedding_lr_factor, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(config.beta1, config.beta2), fused=True)
