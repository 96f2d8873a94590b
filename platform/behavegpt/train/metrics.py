"""What a running trunk tells the world: a line per stretch of steps in curves/<trunk_id>.jsonl, and Ray's metrics.

In: each step's loss. Out: JSON lines {phase, cell_events, step, from_events, num_events, loss, lr_factor, grad_norm,
events_per_s, time}, appended and flushed by rank 0. A resumed run repeats lines: of equal (phase, cell_events, step)
the last one counts.
"""

import io
import json
import os
import time
from pathlib import Path
from typing import Any, TextIO

from behavegpt.train.schedule import Leg

LINES_PER_TRUNK = 250


class CurveWriter:
    """Averages the training loss between lines and appends them; a writer without a path writes nothing."""

    def __init__(self, path: Path | None, trunk_id: str, max_events: int) -> None:
        self._file = _open(path) if path else None
        self._trunk_id = trunk_id
        self._every = max(1, max_events // LINES_PER_TRUNK)
        self._gauges = _gauges() if path else {}
        self._reset(0)

    def begin(self, num_events: int) -> None:
        """Start a leg at `num_events` consumed targets."""
        self._reset(num_events)

    def add(self, leg: Leg, step: int, num_events: int, loss_sum: float, lr_factor: float, grad_norm: float) -> None:
        """Take in one step, which ended at `num_events` and whose targets' losses sum to `loss_sum`."""
        self._loss_sum += loss_sum
        if num_events - self._from_events < self._every and step + 1 < leg.stop:
            return
        events = num_events - self._from_events
        line = {
            "phase": leg.kind,
            "cell_events": leg.num_events if leg.kind == "branch" else None,
            "step": step + 1,
            "from_events": self._from_events,
            "num_events": num_events,
            "loss": self._loss_sum / max(1, events),
            "lr_factor": lr_factor,
            "grad_norm": grad_norm,
            "events_per_s": events / (time.monotonic() - self._from_time),
            "time": time.time(),
        }
        self._write(line)
        self._reset(num_events)

    def cell(self, num_events: int, status: str, loss: float | None) -> None:
        """Note a finished cell."""
        self._write({"phase": "cell", "cell_events": num_events, "status": status, "loss": loss, "time": time.time()})

    def _write(self, line: dict[str, Any]) -> None:
        if self._file:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            for name, gauge in self._gauges.items():
                if line.get(name) is not None:
                    gauge.set(line[name], tags={"trunk_id": self._trunk_id})

    def _reset(self, num_events: int) -> None:
        self._loss_sum, self._from_events, self._from_time = 0.0, num_events, time.monotonic()


def write_note(path: Path, text: str) -> None:
    """Append a line that people should read: the sweep's driver prints it."""
    with _open(path) as file:
        file.write(json.dumps({"phase": "note", "text": text, "time": time.time()}) + "\n")


def _open(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+b")
    # A killed writer may have left half a line; it must not swallow the first one of this writer.
    if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
        file.write(b"\n")
    return io.TextIOWrapper(file, encoding="utf-8")


def _gauges() -> dict[str, Any]:
    """Return Ray gauges where this process is a Ray worker: they reach the dashboard's metrics."""
    import ray
    from ray.util.metrics import Gauge

    if not ray.is_initialized():
        return {}
    names = {"loss": "nats per target", "events_per_s": "targets per second", "num_events": "targets consumed"}
    return {n: Gauge(f"behavegpt_{n}", description=d, tag_keys=("trunk_id",)) for n, d in names.items()}
