"""A study's directory: its path in, one frozen `Study` out, with all that lies beside results.parquet.

What is absent is empty or None; a file that no study wrote is an error that names it and its key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.census import CellState, planned_trunks, take_census
from analysis.columns import read_arrow
from analysis.curves import Curve, read_curves, read_trail
from analysis.records import Record, read_list, read_record
from behavegpt.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class BranchRun:
    """A sampled cell, trained again without a trunk; None is a loss that did not come about."""

    cell_id: str
    num_params: float
    num_events: float
    branch: float | None
    independent: float | None
    """Of a run of its own, by the branch's schedule."""
    cosine: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RateSweep:
    """What a calibration sweep says about the recipe's learning rate."""

    path: Path
    num_events: float
    """D of its runs."""
    widths: tuple["RateOfWidth", ...]
    rate_x_width: float
    """c of the rule rate = c / width that fits the best rates."""
    scatter: float
    """Largest factor by which a bracketed width's best rate is off that rule."""
    exponent: float
    """p of the free fit rate ~ width^-p."""
    seed_sd: float
    """Noise of the loss between seeds, pooled over widths and rates."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RateOfWidth:
    """One width of a calibration sweep."""

    width: int
    losses: dict[float, float]
    """Mean loss by factor of the rule's rate; NaN where a run diverged."""
    best_rate: float
    bracketed: bool
    """Whether rates on both sides of the best were tried; else `best_rate` is a bound."""
    regret: float
    """Nats that the rule's own rate loses to the best of those tried."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stale:
    """The mark of a study whose dataset has lost users since."""

    marked_at: str
    dataset_fingerprint: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """What a study's directory holds."""

    path: Path
    rows: tuple[dict[str, Any], ...]
    """Every row of results.parquet; none before the first cell has ended."""
    plan: Mapping[str, Any]
    """plan.json; empty where there is none."""
    cells: tuple[CellState, ...]
    """Every cell, planned or with a row, by variant, N, D and seed."""
    curves: tuple[Curve, ...]
    """Training losses of every trunk and branch that has begun."""
    notes: tuple[tuple[str, str], ...]
    """What the workers wrote beside the losses: trunk and sentence."""
    branch_check: tuple[BranchRun, ...]
    """Of branch_check/comparison.json; empty where branches were not checked."""
    calibration: RateSweep | None
    """Of calibration.json in the study, or of the study named calibration beside it that used the same dataset."""
    stale: Stale | None

    @property
    def variants(self) -> tuple[str, ...]:
        """Return the names of its variants, each of which has a law of its own."""
        return tuple(dict.fromkeys(cell.variant for cell in self.cells if cell.variant is not None))

    def of(self, variant: str | None) -> tuple[CellState, ...]:
        """Return the cells of one variant, and those whose plan names none."""
        return tuple(cell for cell in self.cells if None in (variant, cell.variant) or cell.variant == variant)

    @property
    def floor(self) -> float | None:
        """Return the entropy that no model can beat, in nats per event, where the data's generator knows it."""
        return ((self.plan.get("dataset") or {}).get("floor") or {}).get("entropy_nats")

    @property
    def num_planned(self) -> int:
        """Return how many cells the plan has."""
        return sum(len(trunk["num_events"]) for trunk in self.plan.get("trunks") or ())


def read_study(study_dir: Path, rows: Sequence[dict[str, Any]] | None = None) -> Study:
    """Return what a study's directory holds, while it runs too.

    Args:
        study_dir: The directory.
        rows: Of results.parquet, where they have been read; None reads them.

    Raises:
        InputError: The directory is no study, or a file in it is not what a study writes.
    """
    results = study_dir / "results.parquet"
    if rows is None and not results.is_file() and not (study_dir / "plan.json").is_file():
        raise InputError(f"{study_dir}: is no study; it has neither plan.json nor results.parquet.")
    if rows is None:
        rows = read_arrow(results).to_pylist() if results.is_file() else []
    plan = read_record(study_dir / "plan.json") or Record(study_dir / "plan.json", "", {})
    _check(plan)
    trunks = planned_trunks(plan)
    sizes = {str(row["trunk_id"]): float(row["num_params"]) for row in rows if row["trunk_id"] and row["num_params"]}
    sizes |= {trunk.trunk_id: trunk.num_params for trunk in trunks}
    trails = {name: trail for name in sizes if (trail := read_trail(study_dir, name))}
    return Study(
        path=study_dir,
        rows=tuple(rows),
        plan=plan.values,
        cells=take_census(rows, trunks, trails),
        curves=read_curves(study_dir, sizes),
        notes=tuple((name, note) for name, trail in trails.items() for note in trail.notes),
        branch_check=tuple(_branch_run(one) for one in read_list(study_dir / "branch_check" / "comparison.json")),
        calibration=_find_calibration(study_dir, plan),
        stale=_stale(study_dir / "stale.json"),
    )


def _check(plan: Record) -> None:
    """Raise where a plan is not made as its readers expect; its values are text to them, whatever they are."""
    plan.maybe_number("cost_ratio")
    plan.texts("notes")
    plan.record("config")
    plan.record("recipe")
    dataset = plan.record("dataset")
    dataset.record("floor").maybe_number("entropy_nats")
    for key in ("source", "cutoffs", "vocabulary_sizes", "counts"):
        dataset.record(key)
    splits = dataset.record("splits")
    for name in splits.values:
        splits.record(name)


def _branch_run(record: Record) -> BranchRun:
    return BranchRun(
        cell_id=record.text("cell_id"),
        num_params=record.number("num_params"),
        num_events=record.number("num_events"),
        branch=record.maybe_number("branch"),
        independent=record.maybe_number("independent"),
        cosine=record.maybe_number("cosine"),
    )


def _stale(path: Path) -> Stale | None:
    mark = read_record(path)
    keys = ("marked_at", "dataset_fingerprint", "reason")
    return Stale(**{key: mark.text(key) for key in keys}) if mark else None


def _find_calibration(study_dir: Path, plan: Record) -> RateSweep | None:
    own = read_record(study_dir / "calibration.json")
    if own:
        return _rate_sweep(own)
    beside = study_dir.parent / "calibration"
    swept = read_record(beside / "plan.json") if beside != study_dir else None
    fingerprint = plan.record("dataset").values.get("fingerprint")
    if swept is None or fingerprint is None or swept.record("dataset").values.get("fingerprint") != fingerprint:
        return None
    found = read_record(beside / "calibration.json")
    return _rate_sweep(found) if found else None


def _rate_sweep(record: Record) -> RateSweep:
    widths = []
    for one in record.records("widths"):
        losses = one.record("losses")
        factors = {_factor(losses, key): losses.number(key) for key in losses.values}
        widths.append(
            RateOfWidth(
                width=int(one.number("width")),
                losses=dict(sorted(factors.items())),
                best_rate=one.number("best_rate"),
                bracketed=one.flag("bracketed"),
                regret=one.number("regret"),
            )
        )
    names = ("num_events", "rate_x_width", "scatter", "exponent", "seed_sd")
    return RateSweep(path=record.path, widths=tuple(widths), **{name: record.number(name) for name in names})


def _factor(losses: Record, key: str) -> float:
    try:
        return float(key)
    except ValueError:
        raise InputError(f"{losses.path}: {losses.where}{key} is no factor of the rule's rate.") from None
