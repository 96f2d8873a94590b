"""Every cell of a study, with or without a loss: its plan, results and curves in, one record a cell out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from analysis.curves import Trail
from analysis.records import Record

RUNNING, WAITING = "running", "not begun"


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedTrunk:
    """One trunk of plan.json."""

    trunk_id: str
    variant: str | None
    num_params: float
    num_events: tuple[int, ...]
    """D of its cells."""
    seed: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class CellState:
    """One cell of a study: where it stands, and why it has no loss where it has none."""

    cell_id: str
    trunk_id: str
    variant: str | None
    num_params: float
    num_events: float
    """D."""
    seed: int | None
    status: str
    """Of its row (completed, diverged, crashed, ...); without one, running when its trunk has begun, else not begun."""
    reason: str
    loss: float | None
    """Of a completed cell."""
    reached: int | None
    """Of D, the events that its trunk and branch have trained; None where no curve tells."""
    moved_at: datetime | None
    """When its trunk last trained, UTC."""

    @property
    def completed(self) -> bool:
        """Return whether it has a loss."""
        return self.status == "completed"

    @property
    def failed(self) -> bool:
        """Return whether it ended without a loss."""
        return self.status not in ("completed", RUNNING, WAITING)


def planned_trunks(plan: Record) -> tuple[PlannedTrunk, ...]:
    """Return the trunks of a plan.

    Raises:
        InputError: A trunk lacks a value, or has one of another kind.
    """
    return tuple(
        PlannedTrunk(
            trunk_id=trunk.text("trunk_id"),
            variant=trunk.text("variant") if "variant" in trunk.values else None,
            num_params=trunk.number("num_params"),
            num_events=trunk.counts("num_events"),
            seed=_whole(trunk.maybe_number("seed")),
        )
        for trunk in plan.records("trunks")
    )


def take_census(
    rows: Sequence[Mapping[str, Any]], trunks: Sequence[PlannedTrunk], trails: Mapping[str, Trail]
) -> tuple[CellState, ...]:
    """Return every cell that has a row or is planned, by variant, N, D and seed.

    Args:
        rows: Of results.parquet.
        trunks: Of plan.json; cells of a plan that was wider once have a row all the same.
        trails: How far the trunks have come, by their ids.
    """
    cells = [_of_row(row, trails.get(str(row["trunk_id"]))) for row in rows]
    known = {(row["trunk_id"], row["num_events"]) for row in rows}
    cells += [
        _of_plan(trunk, num_events, trails.get(trunk.trunk_id))
        for trunk in trunks
        for num_events in trunk.num_events
        if (trunk.trunk_id, num_events) not in known
    ]
    return tuple(sorted(cells, key=lambda cell: (str(cell.variant), cell.num_params, cell.num_events, cell.seed or 0)))


def _of_row(row: Mapping[str, Any], trail: Trail | None) -> CellState:
    completed = row["status"] == "completed"
    num_events = row["num_events"] or 0
    reached = trail.reached(num_events) if trail else None
    if reached == num_events and not completed:
        reached = None  # its trunk went on for larger D, which says nothing about this cell
    return CellState(
        cell_id=str(row["cell_id"]),
        trunk_id=str(row["trunk_id"]),
        variant=row.get("variant"),
        num_params=float(row["num_params"] or 0),
        num_events=float(num_events),
        seed=row["seed"],
        status=str(row["status"]),
        reason=str(row["reason"] or ""),
        loss=row["loss"] if completed else None,
        reached=num_events if completed else reached,
        moved_at=_moved_at(trail),
    )


def _of_plan(trunk: PlannedTrunk, num_events: int, trail: Trail | None) -> CellState:
    return CellState(
        # The id that a study gives a cell: its trunk's, and D.
        cell_id=f"{trunk.trunk_id}-d{num_events}",
        trunk_id=trunk.trunk_id,
        variant=trunk.variant,
        num_params=trunk.num_params,
        num_events=float(num_events),
        seed=trunk.seed,
        status=RUNNING if trail else WAITING,
        reason="",
        loss=None,
        reached=trail.reached(num_events) if trail else None,
        moved_at=_moved_at(trail),
    )


def _moved_at(trail: Trail | None) -> datetime | None:
    return datetime.fromtimestamp(trail.moved_at, UTC) if trail and trail.moved_at == trail.moved_at else None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
