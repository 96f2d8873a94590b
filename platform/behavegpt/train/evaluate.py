"""The loss of the law: plain cross-entropy on one fixed set of validation windows, whatever the training loss.

In: a dataset's validation split and a model. Out: the mean over targets in nats, and its standard error.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from behavegpt.data.batches import Batch
from behavegpt.data.manifest import Manifest
from behavegpt.data.plan import plan_reads
from behavegpt.data.stream import local_tables, stream_batches
from behavegpt.loss.nll import token_losses
from behavegpt.schema import FEATURES
from behavegpt.train.distributed import all_concatenate, rank, world_size
from behavegpt.train.heartbeat import beat

WINDOWS_PER_BATCH = 32
"""Large enough to fill the matrix products, small enough for its activations to stay in a CPU's cache."""


class Validation(NamedTuple):
    """Plain cross-entropy on the validation windows."""

    loss: float
    """Nats per target."""
    stderr: float
    """Of `loss` as an estimate over windows: targets of one window are not independent."""


def read_validation(directory: Path, manifest: Manifest, num_windows: int | None) -> list[Batch]:
    """Return the first `num_windows` validation windows (None: all) in batches.

    Raises:
        OSError: A shard is missing, damaged or another one; the message names it.
    """
    last = num_windows if num_windows is not None else manifest.splits["val"].num_windows
    plan = plan_reads(directory, manifest, "val", [(0, last)], rank=0, world_size=1)
    firsts = range(0, last, WINDOWS_PER_BATCH)
    return list(stream_batches(plan, local_tables(plan), [(f, min(f + WINDOWS_PER_BATCH, last)) for f in firsts]))


@torch.no_grad()
def evaluate(module: nn.Module, batches: list[Batch], device: torch.device) -> Validation:
    """Return the validation loss; all ranks take every world_size-th batch and get the same answer.

    The standard error is that of a ratio of window sums, sum_w l_w / sum_w n_w (linearised, Cochran 1977, 6.4).
    """
    module.eval()
    sums = [torch.zeros(0, dtype=torch.float64)]
    counts = [torch.zeros(0, dtype=torch.float64)]
    # Under ZeRO 3 a forward pass is a collective: every rank makes the same number of them.
    for index in range(-(-len(batches) // world_size())):
        position = index * world_size() + rank()
        batch = batches[min(position, len(batches) - 1)]
        losses = token_losses(module(*features(batch, device)), torch.from_numpy(batch.targets).to(device))
        beat()
        if position < len(batches):
            sums.append(losses.double().sum(dim=1).cpu())
            counts.append(torch.from_numpy((batch.targets >= 0).sum(axis=1)).double())
    module.train()
    window_sums, window_counts = all_concatenate(torch.cat(sums)), all_concatenate(torch.cat(counts))
    loss = float(window_sums.sum() / window_counts.sum())
    residual = window_sums - loss * window_counts
    num_windows = len(window_sums)
    variance = float((residual**2).sum()) * num_windows / max(1, num_windows - 1)
    return Validation(loss, math.sqrt(variance) / float(window_counts.sum()))


def features(batch: Batch, device: torch.device) -> list[torch.Tensor]:
    """Return the model's four inputs (B, I) in the order of its arguments."""
    return [torch.from_numpy(np.ascontiguousarray(batch.features[name])).to(device) for name in FEATURES]
