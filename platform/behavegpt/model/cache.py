"""What a model keeps of the events it has read, so that one more event costs one row instead of a window.

In: histories, then one event a row at a time. Out: for each row, logits (B, V) over the behaviour that comes next. A
row's logits do not depend on which rows are computed beside it, nor on their number, in the last bit either: every
product has the shape that ROWS and WINDOWS fix, so the same instructions add the same numbers in the same order.
Legend: B rows of the caller, R rows of the cache, I inputs given, L positions of the model, D width, H heads, K width
of a head, V classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from behavegpt.model.config import ModelConfig

ROWS = 32
"""Rows that are computed together, after the history; the last ones of a batch are filled up with empty rows."""
WINDOWS = 8
"""Histories that are read together, each filled up to the model's L positions."""


@dataclass(slots=True, eq=False)
class Cache:
    """Keys and values of every event read, for each block of the model. `extend` changes it in place."""

    lengths: Tensor
    """(B,) int64 events that each row has read."""
    keys: list[Tensor]
    """For each block, (R, L, H, K), where R is B rounded up to a multiple of ROWS; 0 where nothing was read."""
    values: list[Tensor]

    @staticmethod
    def empty(config: ModelConfig, lengths: Tensor, like: Tensor) -> "Cache":
        """Return a cache of zeros, of the type and on the device of `like`."""
        rows = -(-len(lengths) // ROWS) * ROWS
        shape = rows, config.num_positions, config.num_heads, config.head_width
        zeros = [torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(2 * config.depth)]
        return Cache(lengths.clone(), zeros[: config.depth], zeros[config.depth :])

    @property
    def num_rows(self) -> int:
        """R."""
        return len(self.keys[0])

    @property
    def room(self) -> int:
        """Events that every row can still take; a full row must be read anew, from its last events."""
        return self.keys[0].shape[1] - int(self.lengths.max())


def check_histories(ids: Sequence[Tensor], lengths: Tensor, capacity: int) -> None:
    """Raise ValueError unless every row has at least one event, and as many as it says."""
    batch, given = ids[0].shape
    longest = min(given, capacity)
    if lengths.shape != (batch,) or not batch:
        raise ValueError(f"lengths have shape {tuple(lengths.shape)}; {batch} histories were given, 1 is the least")
    if int(lengths.min()) < 1 or int(lengths.max()) > longest or given > capacity:
        raise ValueError(
            f"histories of {int(lengths.min())} to {int(lengths.max())} events in {given} columns; "
            f"each must have 1 to {longest}, in {capacity} columns at most"
        )


def check_room(cache: Cache, batch: int) -> None:
    """Raise ValueError unless the cache has so many rows, and a place in each."""
    if batch != len(cache.lengths):
        raise ValueError(f"{batch} events were given for {len(cache.lengths)} histories")
    if cache.room < 1:
        raise ValueError(
            f"a history has filled the {cache.keys[0].shape[1]} positions; read it anew from its last ones"
        )


def fill_rows(values: Tensor, rows: int) -> Tensor:
    """Return (rows, ...) values, zeros below the given ones."""
    return pad(values, (0, 0) * (values.ndim - 1) + (0, rows - len(values)))


def groups(batch: int, size: int) -> list[slice]:
    """Return slices of exactly `size` rows that cover the first `batch`."""
    return [slice(first, first + size) for first in range(0, batch, size)]
