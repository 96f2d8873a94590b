"""Cut a worker's stream of tables into the rows of each optimiser step.

In: tables in stream order and, for each step, how many of its windows fall to this rank (stream.py has both). Out: one
`Batch` a step, as numpy arrays ready for torch. Legend: B windows of this rank in the step, I = NUM_INPUTS positions.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from behavegpt.data.windows import as_matrix, target_mask
from behavegpt.schema import FEATURES, NUM_INPUTS


@dataclass(frozen=True, slots=True)
class Batch:
    """The windows of one step on one rank."""

    features: dict[str, np.ndarray]
    """weekday, slot, location, event: (B, I) int64 ids of the first I events."""
    targets: np.ndarray
    """(B, I) int64: the class of the next event's behaviour (id - 1), -1 where there is nothing to score."""
    window_id: np.ndarray
    """(B,) uint64."""


def cut(tables: Iterable[pa.Table], sizes: Iterable[int]) -> Iterator[Batch]:
    """Yield one batch per entry of `sizes`, taking that many rows off the tables in order.

    Raises:
        RuntimeError: The tables end early: the stream did not deliver what the plan asked for.
    """
    # A table becomes arrays whole, not step by step: for a small model Arrow's calls would be hundredths of a step.
    source = map(to_batch, tables)
    rest = empty_batch()
    for size in sizes:
        parts, missing = [], size
        while missing > 0:
            if len(rest.window_id) == 0:
                following = next(source, None)
                if following is None:
                    raise RuntimeError(f"the stream ended {missing} windows short of a step's {size}")
                rest = following
            parts.append(take_rows(rest, 0, missing))
            rest = take_rows(rest, missing, None)
            missing -= len(parts[-1].window_id)
        yield _concatenate(parts) if parts else empty_batch()


def to_batch(table: pa.Table) -> Batch:
    """Return the batch of a table of stream columns."""
    columns = {name: as_matrix(table[name]) for name in (*FEATURES, "behavior")}
    scored = target_mask(columns["behavior"], table["first_target"].to_numpy())
    targets = np.where(scored, columns["behavior"].astype(np.int64) - 1, -1)
    features = {name: columns[name][:, :NUM_INPUTS].astype(np.int64) for name in FEATURES}
    return Batch(features, targets[:, 1:], table["window_id"].to_numpy())


def empty_batch() -> Batch:
    """Return one all-padding window: a rank without rows still takes part in the step's collectives."""
    features = {name: np.zeros((1, NUM_INPUTS), np.int64) for name in FEATURES}
    return Batch(features, np.full((1, NUM_INPUTS), -1, np.int64), np.zeros(0, np.uint64))


def take_rows(batch: Batch, first: int, last: int | None) -> Batch:
    """Return views of the windows first .. last (exclusive; None for the end)."""
    features = {name: ids[first:last] for name, ids in batch.features.items()}
    return Batch(features, batch.targets[first:last], batch.window_id[first:last])


def keep_targets(batch: Batch, keep_B: np.ndarray) -> Batch:
    """Return the batch with only the first keep_B[i] targets of window i scored: a cell ends exactly at its D."""
    order = np.cumsum(batch.targets >= 0, axis=1)
    targets = np.where(order <= keep_B[:, None], batch.targets, -1)
    return Batch(batch.features, targets, batch.window_id)


def _concatenate(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    features = {name: np.concatenate([part.features[name] for part in parts]) for name in FEATURES}
    targets = np.concatenate([part.targets for part in parts])
    return Batch(features, targets, np.concatenate([part.window_id for part in parts]))
