"""What a table says about its cells beyond N, D and loss: epochs, weights and trunks, from columns that it may have."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from analysis.columns import labels, numbers, optional


def epochs(path: Path, table: pa.Table, events: np.ndarray, unique: str | None, is_study: bool) -> np.ndarray:
    """Return (rows,) D over its distinct events, 1 where nothing says that events are repeated."""
    if unique is not None:
        found = events / numbers(path, table, unique)
    else:
        # A study's num_epochs is D over all the dataset's events, below 1 for a part of them.
        found = optional(path, table, "num_epochs", 1.0) if is_study else np.ones(len(events))
    return np.maximum(np.nan_to_num(found, nan=1.0), 1.0)


def weights(stderr: np.ndarray) -> np.ndarray:
    """Return (C,) one over the losses' errors, 1 on average; all 1 unless every error is known."""
    if not len(stderr) or not (np.isfinite(stderr).all() and (stderr > 0).all()):
        return np.ones(len(stderr))
    return (1 / stderr) / np.mean(1 / stderr)


def trunks(table: pa.Table, keep: np.ndarray) -> np.ndarray:
    """Return (C,) the index of each kept row's trunk; rows without one stand alone."""
    alone = [f"\0{row}" for row in range(table.num_rows)]  # no name holds a NUL: see labels
    names = labels(table, "trunk_id") if "trunk_id" in table.column_names else alone
    names = [name or single for name, single in zip(names, alone, strict=True)]
    kept = [name for name, kept in zip(names, keep, strict=True) if kept]
    return np.unique(np.array(kept, dtype=object), return_inverse=True)[1] if kept else np.zeros(0, np.int64)
