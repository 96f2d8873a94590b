"""Read a table of losses: a CSV or Parquet file in, one frozen `Table` of arrays out, for the fit and the report.

A study's results.parquet is known by its columns; anyone's table names its columns. Only completed cells with usable
numbers reach the fit; every other row is listed in `dropped` with its reason.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from analysis import cells
from analysis.columns import labels, missing, numbers, optional, raise_all, read_arrow
from analysis.forms import Points
from behavegpt.errors import InputError
from behavegpt.schema import STATUSES

_STUDY_COLUMNS = frozenset({"cell_id", "status", "reason", "num_params", "num_events", "loss", "trunk_id", "seed"})
_STUDY_COUNTINGS = ("num_params_total", "num_params_matmul")
_RANGE = (1e-30, 1e30)
"""Of N, D and loss; the squares of what lies beyond leave double precision."""


class Columns(NamedTuple):
    """The names of the three columns that the law is fitted to."""

    params: str
    events: str
    loss: str


class Dropped(NamedTuple):
    """A row that does not reach the fit."""

    cell_id: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """The cells of a fit, C of them, and what was left out."""

    path: Path
    columns: Columns
    is_study: bool
    """Is this a study's results table, with its statuses, trunks and seeds?"""
    points: Points
    cell_id: tuple[str, ...]
    """(C,) the study's cell ids, or 'row 12' (data rows counted from 1)."""
    trunk: np.ndarray
    """(C,) index of the training run that a cell branched from; its own index where the table does not say."""
    seed: np.ndarray
    """(C,) 0 where the table does not say."""
    noise: np.ndarray
    """(C,) standard deviation of what a run's loss is off its law: between a study's seeds, or as anyone's loss_stderr
    says; NaN where unknown. A study's own loss_stderr is no such noise: its cells share their validation windows."""
    flops: np.ndarray
    """(C,) training FLOPs, NaN where the table does not say."""
    countings: dict[str, np.ndarray]
    """(C,) other countings of N, by column."""
    variant: str | None
    """The one variant of a study that its cells are of; None where the table does not say."""
    dropped: tuple[Dropped, ...]
    rows: tuple[dict[str, Any], ...]
    """Every row of a study, failed cells included, as the report lists them; empty for anyone's table."""

    @property
    def stated_noise(self) -> np.ndarray | None:
        """Return (C,) `noise` as anyone's table states it; None for a study, whose seeds are compared themselves."""
        return None if self.is_study else self.noise


def read_table(
    path: Path,
    *,
    params_column: str | None = None,
    events_column: str | None = None,
    loss_column: str | None = None,
    unique_column: str | None = None,
    other_params_columns: Sequence[str] = (),
    variant: str | None = None,
) -> Table:
    """Return the cells of a table.

    Args:
        path: A .csv, .csv.gz or .parquet file.
        params_column: Column of N; a study's table has num_params.
        events_column: Column of D, repeats included; a study's table has num_events.
        loss_column: Column of the loss; a study's table has loss.
        unique_column: Column of the distinct events among D, where events are repeated.
        other_params_columns: Columns that count N otherwise, such as without embeddings; a study's are known.
        variant: The variant of a study to fit, needed when it has several.

    Raises:
        InputError: The file cannot be read, a column is missing, or a row holds what no table of losses can hold.
    """
    arrow = read_arrow(path)
    is_study = set(arrow.column_names) >= _STUDY_COLUMNS
    columns = _resolve_columns(path, arrow, (params_column, events_column, loss_column), is_study)
    if variant is not None and "variant" not in arrow.column_names:
        raise InputError(f"{path}: the table has no column 'variant', so variant {variant!r} cannot be chosen.")
    others = _resolve_others(path, arrow, columns, other_params_columns, is_study)
    if unique_column is not None:
        raise_all(missing(path, arrow, unique_column, "--unique-column"))
    found = N, D, loss = tuple(numbers(path, arrow, name) for name in columns)
    cell_ids = labels(arrow, "cell_id") if is_study else [f"row {row + 1}" for row in range(arrow.num_rows)]
    reasons = [_reason_to_drop(arrow, row, columns, found, is_study, variant) for row in range(arrow.num_rows)]
    keep = np.array([reason is None for reason in reasons], bool)
    _refuse_impossible(path, columns, found, keep)
    if is_study:
        _refuse_mixture(path, arrow, keep)
    noise = optional(path, arrow, "loss_seed_sd" if is_study else "loss_stderr", math.nan)[keep]
    weight = cells.seed_weights(noise, N[keep], D[keep]) if is_study else cells.weights(noise)
    num_epochs = cells.epochs(path, arrow, D, unique_column, is_study)[keep]
    countings = {name: numbers(path, arrow, name)[keep] for name in others}
    return Table(
        path=path,
        columns=columns,
        is_study=is_study,
        points=Points(N[keep], D[keep], loss[keep], num_epochs, weight),
        cell_id=tuple(cell for cell, kept in zip(cell_ids, keep, strict=True) if kept),
        trunk=cells.trunks(arrow, keep),
        seed=np.nan_to_num(optional(path, arrow, "seed", 0.0))[keep].astype(np.int64),
        noise=noise,
        flops=optional(path, arrow, "flops", math.nan)[keep],
        countings={name: values for name, values in countings.items() if (values > 0).all()},
        variant=_variant(arrow, keep, variant) if is_study else None,
        dropped=tuple(Dropped(cell, why) for cell, why in zip(cell_ids, reasons, strict=True) if why is not None),
        rows=tuple(arrow.to_pylist()) if is_study else (),
    )


def _resolve_columns(path: Path, table: pa.Table, given: tuple[str | None, ...], is_study: bool) -> Columns:
    """Return the three column names: what the user named, else a study's own."""
    flags = ("--params-column", "--events-column", "--loss-column")
    defaults = ("num_params", "num_events", "loss") if is_study else (None, None, None)
    names, problems = [name or default for name, default in zip(given, defaults, strict=True)], []
    for name, flag in zip(names, flags, strict=True):
        if name is None:
            problems.append(f"{path}: is not a study's table, so {flag} must name one of {table.column_names}.")
        else:
            problems += missing(path, table, name, flag)
    if not problems and len(set(names)) < 3:
        problems.append(f"{path}: {', '.join(flags)} must name three different columns, not {names}.")
    raise_all(problems)
    return Columns(*(str(name) for name in names))


def _resolve_others(
    path: Path, table: pa.Table, columns: Columns, given: Sequence[str], is_study: bool
) -> tuple[str, ...]:
    """Return the columns that count N otherwise."""
    raise_all([problem for name in given for problem in missing(path, table, name, "--other-params-column")])
    known = ("num_params", *_STUDY_COUNTINGS) if is_study else ()
    names = [*given, *(name for name in known if name in table.column_names)]
    return tuple(dict.fromkeys(name for name in names if name not in columns))


def _reason_to_drop(
    table: pa.Table, row: int, columns: Columns, found: Sequence[np.ndarray], is_study: bool, variant: str | None
) -> str | None:
    """Return why a row does not reach the fit, or None."""
    if is_study:
        status, why = table.column("status")[row].as_py(), table.column("reason")[row].as_py()
        if status not in STATUSES:
            return f"unknown status {status!r}"
        if status != "completed":
            return f"{status}: {why}" if why else status
        if variant is not None and table.column("variant")[row].as_py() != variant:
            return f"another variant: {table.column('variant')[row].as_py()}"
    for name, values in zip(columns, found, strict=True):
        if not np.isfinite(values[row]):
            return f"{name} is missing" if np.isnan(values[row]) else f"{name} is {values[row]}"
    return None


def _variant(table: pa.Table, keep: np.ndarray, asked: str | None) -> str | None:
    """Return the variant of the kept rows, the one asked for where none is left."""
    names = labels(table, "variant") if "variant" in table.column_names else []
    return next((name for name, kept in zip(names, keep, strict=False) if kept and name), asked)


def _refuse_impossible(path: Path, columns: Columns, found: Sequence[np.ndarray], keep: np.ndarray) -> None:
    """Raise for every kept row with a value that is not positive, or beyond anything measured."""
    low, high = _RANGE
    raise_all(
        [
            f"{path}: row {row + 1}: {name} is {values[row]:g}; it must be positive, from {low:g} to {high:g}."
            for name, values in zip(columns, found, strict=True)
            for row in np.flatnonzero(keep & ~((values >= low) & (values <= high)))
        ]
    )


def _refuse_mixture(path: Path, table: pa.Table, keep: np.ndarray) -> None:
    """Raise when the completed cells are not of one variant, one schedule and one dataset: one law cannot hold both."""
    problems = []
    hints = {
        "variant": "choose one with --variant",
        "schedule": "fit them apart",
        "dataset_fingerprint": "fit them apart",
    }
    for name, hint in hints.items():
        if name in table.column_names:
            found = sorted({value for value, kept in zip(labels(table, name), keep, strict=True) if kept})
            if len(found) > 1:
                problems.append(f"{path}: completed cells have {len(found)} values of {name}, {found}; {hint}.")
    raise_all(problems)
