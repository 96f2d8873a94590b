"""What the training loop must know of a family of models: how one is built, what it is trained with, what it costs.

A job without a family trains BehaveGPT. Another family's module is called like BehaveGPT, (B, I) ids of the four
features to (B, I, V) logits, and keeps its lookup tables under `embeddings`, which have a rate of their own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from behavegpt.model.attention import Backend
from behavegpt.model.config import ModelConfig
from behavegpt.model.sizing import Flops, ParamCounts, count_params, flops_per_window
from behavegpt.model.transformer import BehaveGPT, initialise
from behavegpt.train.config import TrunkJob
from behavegpt.train.robust import TrainingLoss, build_loss


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """A family of models, all of them shaped by a `ModelConfig`. The functions are picklable: workers get them."""

    module: Callable[[ModelConfig, Backend | None], Any]
    """Builds the layers."""
    initialise: Callable[[Any, int], None]
    """Draws every parameter of a module from a seed alone."""
    loss: Callable[[TrunkJob, torch.device], TrainingLoss]
    count_params: Callable[[ModelConfig], ParamCounts]
    flops_per_window: Callable[[ModelConfig], Flops]


BEHAVEGPT = Family(
    module=BehaveGPT,
    initialise=initialise,
    loss=build_loss,
    count_params=count_params,
    flops_per_window=flops_per_window,
)


def family_of(job: TrunkJob) -> Family:
    """Return the family that a job trains."""
    return job.family or BEHAVEGPT
