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
    source = iter(tables)
    rest: pa.Table | None = None
    for size in sizes:
        parts, missing = [], size
        while missing > 0:
            if rest is None or rest.num_rows == 0:
                rest = next(source, None)
                if rest is None:
                    raise RuntimeError(f"the stream ended {missing} windows short of a step's {size}")
            parts.append(rest.slice(0, missing))
            rest = rest.slice(parts[-1].num_rows)
            missing -= parts[-1].num_rows
        yield to_batch(pa.concat_tables(parts)) if parts else empty_batch()


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


def keep_targets(batch: Batch, keep_B: np.ndarray) -> Batch:
    """Return the batch with only the first keep_B[i] targets of window i scored: a cell ends exactly at its D."""
    order = np.cumsum(batch.targets >= 0, axis=1)
    targets = np.where(order <= keep_B[:, None], batch.targets, -1)
    return Batch(batch.features, targets, batch.window_id)
