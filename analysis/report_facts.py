"""Plain facts of a report: what a section is, how values become text, the dataset and the provenance.

What people or programs wrote into a plan is passed on as text, to be escaped later.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import scipy

from analysis.law import Law
from analysis.table import Table
from analysis.text import figures, human, scientific
from behavegpt import __version__


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """A table of text."""

    title: str = ""
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A part of the report."""

    title: str
    text: tuple[str, ...] = ()
    """Paragraphs."""
    notes: tuple[str, ...] = ()
    """Refusals or warnings, one a line."""
    grids: tuple[Grid, ...] = ()
    figures: tuple[str, ...] = ()
    """Names of the figures that belong here."""


def dataset_section(card: Mapping[str, Any]) -> Section | None:
    if not card:
        return None
    facts = [(name, card.get(name)) for name in ("name", "path", "fingerprint")]
    facts += [(f"source: {name}", value) for name, value in (card.get("source") or {}).items()]
    facts += [(f"cutoff: {name}", date(value)) for name, value in (card.get("cutoffs") or {}).items()]
    facts.append(("vocabulary sizes", card.get("vocabulary_sizes") or None))
    counts = Grid(
        columns=("count", "rows"),
        rows=tuple((str(name), exact(value)) for name, value in (card.get("counts") or {}).items()),
    )
    splits = Grid(
        columns=("split", "windows", "targets", "users"),
        rows=tuple(
            (str(name), *(exact(split.get(key)) for key in ("num_windows", "num_targets", "num_users")))
            for name, split in (card.get("splits") or {}).items()
        ),
    )
    return Section(title="The dataset", grids=tuple(grid for grid in (facts_grid(facts), splits, counts) if grid.rows))


def provenance_section(law: Law, table: Table) -> Section:
    facts: list[tuple[str, Any]] = [
        ("table", str(table.path)),
        ("sha256 of the table", hashlib.sha256(table.path.read_bytes()).hexdigest()),
        ("columns of N, D, loss", ", ".join(table.columns)),
        ("form, method", f"{law.form.name}, {law.method}"),
        ("cells used, left out", f"{law.n_used}, {len(law.dropped)}"),
        ("FLOPs per parameter and event", figures(law.flops_per_param_event)),
    ]
    if law.spread is not None:
        draws = law.spread.draws
        by = f"by {draws.num_clusters} trunks or by row" if len(draws.draws) > 1 else "by row"
        facts.append(("bootstrap", f"{draws.num_draws} wild draws, {by}, seed {draws.seed}"))
    for name in (
        "variant", "schedule", "dataset_fingerprint", "code_version", "config_hash", "seed", "device", "attention",
    ):  # fmt: skip
        found = sorted({plain(row.get(name)) for row in own_rows(table) if row["status"] == "completed"})
        if found:
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            facts.append((name, ", ".join(found[:5]) + more))
    versions = {"behavegpt": __version__, "numpy": np.__version__, "scipy": scipy.__version__}
    facts.append(("fitted with", ", ".join(f"{name} {version}" for name, version in versions.items())))
    return Section(title="Provenance", grids=(facts_grid(facts),))


def own_rows(table: Table) -> list[dict[str, Any]]:
    """Return the rows of the variant that was fitted, whatever their status."""
    return [row for row in table.rows if table.variant is None or row.get("variant") == table.variant]


def facts_grid(pairs: Iterable[tuple[str, Any]]) -> Grid:
    return Grid(columns=("", ""), rows=tuple((str(name), plain(value)) for name, value in pairs if value is not None))


def plain(value: Any) -> str:
    """Return any value as text, floats with six figures."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(plain(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {plain(item)}" for name, item in value.items())
    return "-" if value is None else str(value)


def number(value: Any, digits: int = 4) -> str:
    return figures(float(value), digits) if isinstance(value, int | float) else plain(value)


def count(value: Any) -> str:
    return human(float(value)) if isinstance(value, int | float) else plain(value)


def date(value: Any) -> Any:
    """Return seconds since 1970 as a UTC date and time; anything else as it is."""
    return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M UTC") if type(value) is int else value


def exact(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else plain(value)


def flops(value: Any) -> str:
    return scientific(float(value)) if isinstance(value, int | float) else plain(value)
