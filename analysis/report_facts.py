"""The records of a report about a study: plan.json and the table in, sections of plain facts out.

Nothing here judges the law; what people or programs wrote into the plan is passed on as text, to be escaped later.
"""

import hashlib
from collections import Counter
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


def study_section(plan: Mapping[str, Any], drawn: set[str]) -> Section | None:
    if not plan and "learning" not in drawn:
        return None
    facts = [("study", plan.get("study")), ("preset", plan.get("preset")), *(plan.get("config") or {}).items()]
    trunks = [trunk for trunk in plan.get("trunks") or () if isinstance(trunk, Mapping)]
    rows = [
        (
            _plain(trunk.get("trunk_id")),
            _plain(trunk.get("width")),
            _plain(trunk.get("depth")),
            _plain(trunk.get("num_heads")),
            _count(trunk.get("num_params")),
            _count(trunk.get("num_params_total")),
            _plain(trunk.get("seed")),
            ", ".join(_count(events) for events in trunk.get("num_events") or ()),
            _flops(trunk.get("flops")),
        )
        for trunk in trunks
    ]
    columns = ("trunk", "width", "depth", "heads", "N", "N in all", "seed", "branches at D", "FLOPs")
    grids = [_facts(facts), Grid(columns=columns, rows=tuple(rows))]
    return Section(title="The study", grids=tuple(grid for grid in grids if grid.rows), figures=("learning",))


def dataset_section(card: Mapping[str, Any]) -> Section | None:
    if not card:
        return None
    facts = [(name, card.get(name)) for name in ("name", "path", "fingerprint")]
    facts += [(f"source: {name}", value) for name, value in (card.get("source") or {}).items()]
    facts += [(f"cutoff: {name}", _date(value)) for name, value in (card.get("cutoffs") or {}).items()]
    facts += [(f"vocabulary: {name}", value) for name, value in (card.get("vocabulary_sizes") or {}).items()]
    counts = Grid(
        columns=("count", "rows"),
        rows=tuple((str(name), _exact(value)) for name, value in (card.get("counts") or {}).items()),
    )
    splits = Grid(
        columns=("split", "windows", "targets", "users"),
        rows=tuple(
            (str(name), *(_exact(split.get(key)) for key in ("num_windows", "num_targets", "num_users")))
            for name, split in (card.get("splits") or {}).items()
        ),
    )
    return Section(title="The dataset", grids=tuple(grid for grid in (_facts(facts), splits, counts) if grid.rows))


def cells_section(law: Law, table: Table) -> Section | None:
    if not table.is_study:
        grid = Grid(columns=("row", "reason"), rows=tuple((cell, why) for cell, why in table.dropped))
        return Section(title="Rows left out", grids=(grid,)) if table.dropped else None
    counts = Counter(str(row["status"]) for row in table.rows)
    fitted = dict.fromkeys(table.cell_id, "")
    if law.fits and not law.refused:
        values = law.fit.predict(table.points)
        fitted = {cell: figures(float(value)) for cell, value in zip(table.cell_id, values, strict=True)}
    left_out = dict(table.dropped)
    rows = tuple(
        (
            str(row["cell_id"]),
            str(row["status"]),
            _count(row["num_params"]),
            _count(row["num_events"]),
            _plain(row["seed"]),
            _number(row["loss"]),
            _number(row.get("loss_stderr"), 2),
            fitted.get(str(row["cell_id"]), ""),
            left_out.get(str(row["cell_id"]), ""),
        )
        for row in sorted(table.rows, key=lambda row: (row["num_params"] or 0, row["num_events"] or 0))
    )
    columns = ("cell", "status", "N", "D", "seed", "loss", "standard error", "law", "left out because")
    text = (
        ", ".join(f"{count} {status}" for status, count in counts.most_common())
        + ". Only completed cells reach the fit.",
    )
    return Section(title="Cells", text=text, grids=(Grid(columns=columns, rows=rows),))


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
    for name in ("variant", "schedule", "dataset_fingerprint", "code_version", "config_hash", "seed", "device"):
        found = sorted({_plain(row.get(name)) for row in table.rows if row.get("status") == "completed"})
        if found:
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            facts.append((name, ", ".join(found[:5]) + more))
    versions = {"behavegpt": __version__, "numpy": np.__version__, "scipy": scipy.__version__}
    facts.append(("fitted with", ", ".join(f"{name} {version}" for name, version in versions.items())))
    return Section(title="Provenance", grids=(_facts(facts),))


def _facts(pairs: Iterable[tuple[str, Any]]) -> Grid:
    return Grid(columns=("", ""), rows=tuple((str(name), _plain(value)) for name, value in pairs if value is not None))


def _plain(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(item)}" for name, item in value.items())
    return "-" if value is None else str(value)


def _number(value: Any, digits: int = 4) -> str:
    return figures(float(value), digits) if isinstance(value, int | float) else _plain(value)


def _count(value: Any) -> str:
    return human(float(value)) if isinstance(value, int | float) else _plain(value)


def _date(value: Any) -> Any:
    """Return seconds since 1970 as a UTC date and time; anything else as it is."""
    return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M UTC") if type(value) is int else value


def _exact(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else _plain(value)


def _flops(value: Any) -> str:
    return scientific(float(value)) if isinstance(value, int | float) else _plain(value)
