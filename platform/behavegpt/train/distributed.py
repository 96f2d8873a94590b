"""The few collectives that the training stage needs; each is the identity where there is no process group."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def rank() -> int:
    """Return this worker's index."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of workers."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait for every worker."""
    if world_size() > 1:
        dist.barrier()


def all_sum(values: Tensor) -> Tensor:
    """Return the sum of the workers' tensors."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def all_concatenate(values: Tensor) -> Tensor:
    """Return the workers' vectors (of any lengths) one after the other, the same on every worker."""
    if world_size() == 1:
        return values
    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, values)
    return torch.cat(parts)


def from_rank_0(make: Callable[[], T]) -> T:
    """Return what `make` returns on rank 0: for decisions that depend on files, which ranks may see at other times."""
    box: list[Any] = [make() if rank() == 0 else None]
    if world_size() > 1:
        dist.broadcast_object_list(box)
    return box[0]
