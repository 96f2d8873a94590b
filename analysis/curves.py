"""Learning curves of a study: curves/<trunk_id>.jsonl in; one record a leg, and how far each trunk has come, out."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_MIN_POINTS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Training loss along one leg of a run."""

    trunk_id: str
    num_params: float
    cell_events: int | None
    """D of the cell that a decay branch ends in; None for the trunk."""
    num_events: np.ndarray
    """(K,) events consumed, rising."""
    loss: np.ndarray
    """(K,) mean training loss since the line before, up to the first that is not finite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trail:
    """How far a trunk has come, by the last lines of its curve."""

    trunk_events: int
    """Events that the trunk has consumed."""
    branch_events: Mapping[int, int]
    """Events at which each decay branch stands, by the D that it ends at."""
    moved_at: float
    """Seconds since 1970 of the last line; NaN where no line has a time."""
    notes: tuple[str, ...]
    """What the workers wrote beside the losses."""

    def reached(self, num_events: int) -> int:
        """Return how many of a cell's events are trained: its branch's, else the trunk's."""
        return min(self.branch_events.get(num_events, self.trunk_events), num_events)


def read_curves(study_dir: Path, sizes: Mapping[str, float]) -> tuple[Curve, ...]:
    """Return the curves of the trunks named; none where the folder is missing.

    Args:
        study_dir: The study, with curves/.
        sizes: N of each trunk.
    """
    curves = []
    for trunk_id, num_params in sorted(sizes.items()):
        curves += _legs(_lines(study_dir, trunk_id), trunk_id, num_params)
    return tuple(curves)


def read_trail(study_dir: Path, trunk_id: str) -> Trail | None:
    """Return how far a trunk has come, None when it has not begun."""
    lines = list(_lines(study_dir, trunk_id))
    if not lines:
        return None
    branches: dict[int, int] = {}
    for line in lines:
        if line.get("phase") == "branch":
            branches[line["cell_events"]] = max(line["num_events"], branches.get(line["cell_events"], 0))
    return Trail(
        trunk_events=max((line["num_events"] for line in lines if line.get("phase") == "trunk"), default=0),
        branch_events=branches,
        moved_at=max((float(line["time"]) for line in lines if "time" in line), default=float("nan")),
        notes=tuple(dict.fromkeys(str(line["text"]) for line in lines if line.get("phase") == "note")),
    )


def _legs(lines: Iterator[dict[str, Any]], trunk_id: str, num_params: float) -> list[Curve]:
    """Return the trunk and the branches of a file. A resumed run repeats lines: the last of equal ones counts."""
    legs: dict[int | None, dict[int, float]] = {}
    for line in lines:
        if line.get("phase") in ("trunk", "branch"):
            legs.setdefault(line.get("cell_events"), {})[line["num_events"]] = line["loss"]
    curves = []
    for cell_events, losses in legs.items():
        events = np.array(sorted(losses))
        loss = np.array([losses[at] for at in events], float)
        finite = int(np.argmin(np.isfinite(loss))) if not np.isfinite(loss).all() else len(loss)
        if finite >= _MIN_POINTS:
            curves.append(
                Curve(
                    trunk_id=trunk_id,
                    num_params=num_params,
                    cell_events=cell_events,
                    num_events=events[:finite],
                    loss=loss[:finite],
                )
            )
    return curves


def _lines(study_dir: Path, trunk_id: str) -> Iterator[dict[str, Any]]:
    """Yield the lines of a trunk's file, without the half line that a killed run leaves."""
    # A trunk's id names a file of the study, never one elsewhere.
    path = study_dir / "curves" / f"{Path(trunk_id).name}.jsonl"
    if not path.is_file():
        return
    for raw in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(raw)
        except ValueError:
            continue
        if isinstance(line, dict) and _is_whole(line):
            yield line


def _is_whole(line: dict[str, Any]) -> bool:
    """Return whether a line has what its phase needs."""
    needed: dict[str, dict[str, Any]] = {
        "trunk": {"num_events": int, "loss": float},
        "branch": {"num_events": int, "loss": float, "cell_events": int},
        "note": {"text": str},
    }
    kinds = needed.get(str(line.get("phase")), {})
    return all(isinstance(line.get(key), kind) for key, kind in kinds.items())
