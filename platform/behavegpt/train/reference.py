"""The engine that DeepSpeed must equal: plain torch, the whole model on every worker.

In: a model and its optimiser. Out: an `Engine` (engine.py).
"""

from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from behavegpt.model.transformer import BehaveGPT
from behavegpt.train.distributed import world_size
from behavegpt.train.optim import set_rates
from behavegpt.train.state import WholeState, read_state, write_state


class TorchEngine:
    """All-reduce, clip_grad_norm_, AdamW."""

    def __init__(self, model: BehaveGPT, optimizer: torch.optim.AdamW, clip_norm: float) -> None:
        self.module: nn.Module = model
        self._parameters = dict(model.named_parameters())
        self._optimizer = optimizer
        self._state = WholeState(optimizer)
        self._clip_norm = clip_norm
        self._peak_rates = [group["lr"] for group in optimizer.param_groups]

    def accumulate(self, loss: Tensor) -> None:
        loss.backward()

    def step(self, loss: Tensor, lr_factor: float) -> float:
        loss.backward()
        gradients = [p.grad for p in self._parameters.values() if p.grad is not None]
        for gradient in gradients if world_size() > 1 else []:
            dist.all_reduce(gradient)
            gradient /= world_size()
        norm = nn.utils.clip_grad_norm_(self._parameters.values(), self._clip_norm)
        if not norm.isfinite():
            return float(norm)
        set_rates(self._optimizer, self._peak_rates, lr_factor)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def save(self, directory: Path) -> None:
        write_state(directory, self._parameters, self._state)

    def load(self, directory: Path) -> None:
        read_state(directory, self._parameters, self._state)
