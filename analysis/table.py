"""Read a table of losses: a CSV or Parquet file in, one frozen `Table` of arrays out, for the fit and the report.

A study's results.parquet is known by its columns; anyone's table names its three columns. Only completed cells with
usable numbers reach the fit; every other row is listed in `dropped` with its reason.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from analysis.forms import Points
from behavegpt.errors import InputError, did_you_mean
from behavegpt.schema import STATUSES

_STUDY_COLUMNS = frozenset({"cell_id", "status", "reason", "num_params", "num_events", "loss", "trunk_id", "seed"})
_MAX_PROBLEMS = 20
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
    loss_stderr: np.ndarray
    """(C,) NaN where the table does not say."""
    flops: np.ndarray
    """(C,) training FLOPs, NaN where the table does not say."""
    dropped: tuple[Dropped, ...]
    rows: tuple[dict[str, Any], ...]
    """Every row of a study, failed cells included, as the report lists them; empty for anyone's table."""


def read_table(
    path: Path,
    *,
    params_column: str | None = None,
    events_column: str | None = None,
    loss_column: str | None = None,
    variant: str | None = None,
) -> Table:
    """Return the cells of a table.

    Args:
        path: A .csv, .csv.gz or .parquet file.
        params_column: Column of N; a study's table has num_params.
        events_column: Column of D; a study's table has num_events.
        loss_column: Column of the loss; a study's table has loss.
        variant: The variant of a study to fit, needed when it has several.

    Raises:
        InputError: The file cannot be read, a column is missing, or a row holds what no table of losses can hold.
    """
    arrow = _read_arrow(path)
    is_study = set(arrow.column_names) >= _STUDY_COLUMNS
    columns = _resolve_columns(path, arrow, (params_column, events_column, loss_column), is_study)
    if variant is not None and "variant" not in arrow.column_names:
        raise InputError(f"{path}: the table has no column 'variant', so variant {variant!r} cannot be chosen.")
    numbers = [_numbers(path, arrow, name) for name in columns]
    cell_ids = _labels(arrow, "cell_id") if is_study else [f"row {row + 1}" for row in range(arrow.num_rows)]
    reasons = [_reason_to_drop(arrow, row, columns, numbers, is_study, variant) for row in range(arrow.num_rows)]
    keep = np.array([reason is None for reason in reasons], bool)
    _refuse_impossible(path, columns, numbers, keep)
    if is_study:
        _refuse_mixture(path, arrow, keep)
    return Table(
        path=path,
        columns=columns,
        is_study=is_study,
        points=Points(*(column[keep] for column in numbers)),
        cell_id=tuple(cell for cell, kept in zip(cell_ids, keep, strict=True) if kept),
        trunk=_trunks(arrow, keep),
        seed=np.nan_to_num(_optional(path, arrow, "seed", 0.0))[keep].astype(np.int64),
        loss_stderr=_optional(path, arrow, "loss_stderr", math.nan)[keep],
        flops=_optional(path, arrow, "flops", math.nan)[keep],
        dropped=tuple(Dropped(cell, why) for cell, why in zip(cell_ids, reasons, strict=True) if why is not None),
        rows=tuple(arrow.to_pylist()) if is_study else (),
    )


def _read_arrow(path: Path) -> pa.Table:
    """Return the whole file as an Arrow table, or say what is wrong with it."""
    name = path.name.lower()
    if not path.exists():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file.{did_you_mean(path.name, siblings)}")
    if path.is_dir():
        raise InputError(f"{path}: is a directory; give the table inside it, such as {path / 'results.parquet'}.")
    if not name.endswith((".csv", ".csv.gz", ".parquet")):
        raise InputError(f"{path}: a table's name must end in .csv, .csv.gz or .parquet.")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty.")
    try:
        table = pq.read_table(path) if name.endswith(".parquet") else pa_csv.read_csv(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        kind = "Parquet" if name.endswith(".parquet") else "CSV"
        # Arrow quotes the bytes it stumbled over, which need not be text.
        why = "".join(letter for letter in str(error) if letter.isprintable() and letter != "\ufffd")[:200]
        raise InputError(f"{path}: cannot be read as {kind}: {why}") from error
    if table.num_rows == 0:
        raise InputError(f"{path}: the table has no rows.")
    return table


def _resolve_columns(path: Path, table: pa.Table, given: tuple[str | None, ...], is_study: bool) -> Columns:
    """Return the three column names: what the user named, else a study's own."""
    flags = ("--params-column", "--events-column", "--loss-column")
    defaults = ("num_params", "num_events", "loss") if is_study else (None, None, None)
    names, problems = [name or default for name, default in zip(given, defaults, strict=True)], []
    for name, flag in zip(names, flags, strict=True):
        if name is None:
            problems.append(f"{path}: is not a study's table, so {flag} must name one of {table.column_names}.")
        elif table.column_names.count(name) != 1:
            often = "is there more than once" if name in table.column_names else "is not in the table"
            hint = did_you_mean(name, set(table.column_names) - {name})
            problems.append(f"{path}: column {name!r} ({flag}) {often}; it has {table.column_names}.{hint}")
    if not problems and len(set(names)) < 3:
        problems.append(f"{path}: {', '.join(flags)} must name three different columns, not {names}.")
    if problems:
        raise InputError(*problems)
    return Columns(*(str(name) for name in names))


def _numbers(path: Path, table: pa.Table, name: str) -> np.ndarray:
    """Return a column as float64, NaN where it is null."""
    column = table.column(name)
    kind = column.type
    if _is_number(kind):
        return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(f"{path}: column {name!r} holds {kind}, not numbers.")
    values, problems = np.full(table.num_rows, math.nan), []
    for row, text in enumerate(column.to_pylist()):
        try:
            values[row] = float((text or "").strip() or "nan")
        except ValueError:
            problems.append(f"{path}: row {row + 1}: {name} is {str(text)[:60]!r}, not a number.")
    _raise_all(problems)
    return values


def _reason_to_drop(
    table: pa.Table, row: int, columns: Columns, numbers: list[np.ndarray], is_study: bool, variant: str | None
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
    for name, values in zip(columns, numbers, strict=True):
        if not np.isfinite(values[row]):
            return f"{name} is missing" if np.isnan(values[row]) else f"{name} is {values[row]}"
    return None


def _refuse_impossible(path: Path, columns: Columns, numbers: list[np.ndarray], keep: np.ndarray) -> None:
    """Raise for every kept row with a value that is not positive, or beyond anything measured."""
    low, high = _RANGE
    _raise_all(
        [
            f"{path}: row {row + 1}: {name} is {values[row]:g}; it must be positive, from {low:g} to {high:g}."
            for name, values in zip(columns, numbers, strict=True)
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
            found = sorted({value for value, kept in zip(_labels(table, name), keep, strict=True) if kept})
            if len(found) > 1:
                problems.append(f"{path}: completed cells have {len(found)} values of {name}, {found}; {hint}.")
    _raise_all(problems)


def _trunks(table: pa.Table, keep: np.ndarray) -> np.ndarray:
    """Return (C,) the index of each kept row's trunk; rows without one stand alone."""
    alone = [f"\0{row}" for row in range(table.num_rows)]  # no name holds a NUL: see _labels
    names = _labels(table, "trunk_id") if "trunk_id" in table.column_names else alone
    names = [name or single for name, single in zip(names, alone, strict=True)]
    kept = [name for name, kept in zip(names, keep, strict=True) if kept]
    return np.unique(np.array(kept, dtype=object), return_inverse=True)[1] if kept else np.zeros(0, np.int64)


def _optional(path: Path, table: pa.Table, name: str, default: float) -> np.ndarray:
    """Return a column that a table may have; one of another kind is not ours, whatever its name."""
    known = table.column_names.count(name) == 1 and _is_number(table.schema.field(name).type)
    return _numbers(path, table, name) if known else np.full(table.num_rows, default)


def _is_number(kind: pa.DataType) -> bool:
    return (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    )


def _labels(table: pa.Table, name: str) -> list[str]:
    """Return a column as text that is safe to print: control characters could steer a terminal."""
    texts = ["" if value is None else str(value) for value in table.column(name).to_pylist()]
    return ["".join(letter if letter.isprintable() else "?" for letter in text) for text in texts]


def _raise_all(problems: list[str]) -> None:
    if len(problems) > _MAX_PROBLEMS:
        problems = [*problems[:_MAX_PROBLEMS], f"... and {len(problems) - _MAX_PROBLEMS} more."]
    if problems:
        raise InputError(*problems)
