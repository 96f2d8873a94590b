"""Learning curves of a study: curves/<trunk_id>.jsonl in, one record a trunk or decay branch out."""

import json
from collections.abc import Mapping, Sequence
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
    """(K,) mean training loss since the line before."""


def read_curves(study_dir: Path, rows: Sequence[Mapping[str, Any]]) -> tuple[Curve, ...]:
    """Return the curves of the trunks that the results table knows; none where the folder is missing.

    Args:
        study_dir: The study, with curves/.
        rows: Its results, for N of each trunk.
    """
    sizes = {row["trunk_id"]: float(row["num_params"]) for row in rows if row["trunk_id"] and row["num_params"]}
    curves = []
    for trunk_id, num_params in sorted(sizes.items()):
        # A trunk's id names a file of the study, never one elsewhere.
        path = study_dir / "curves" / f"{Path(trunk_id).name}.jsonl"
        if path.is_file():
            curves += _legs(path.read_text(encoding="utf-8", errors="replace"), trunk_id, num_params)
    return tuple(curves)


def _legs(text: str, trunk_id: str, num_params: float) -> list[Curve]:
    """Return the trunk and the branches of a file. A resumed run repeats lines: the last of equal ones counts."""
    legs: dict[int | None, dict[int, float]] = {}
    for raw in text.splitlines():
        line = _parse(raw)
        if line.get("phase") in ("trunk", "branch") and isinstance(line.get("loss"), float):
            legs.setdefault(line.get("cell_events"), {})[int(line["num_events"])] = line["loss"]
    curves = []
    for cell_events, losses in legs.items():
        events = np.array(sorted(losses))
        loss = np.array([losses[at] for at in events])
        if len(events) >= _MIN_POINTS and np.isfinite(loss).all():
            curves.append(
                Curve(trunk_id=trunk_id, num_params=num_params, cell_events=cell_events, num_events=events, loss=loss)
            )
    return curves


def _parse(raw: str) -> dict[str, Any]:
    """Return a line, empty for the half line that a killed run leaves."""
    try:
        line = json.loads(raw)
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}
