"""Live progress of a sweep, read from the curve files: one line per trunk whenever it has moved, a call per cell.

Plain lines, so that a terminal and the log of a Ray job show the same.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from behavegpt.study.grid import Plan
from behavegpt.train.config import TrunkJob

POLL_S = 1.0
MOST_BYTES = 1 << 24
"""Of a curve at a poll: what is more waits for the next one."""
SILENCE_S = 120.0
"""Nothing to report for so long is itself reported: Ray waits without a word for resources that others hold."""
LINE_EVERY_S = 10.0
"""At most one line per trunk in so many seconds, besides its cells."""


@contextmanager
def show_progress(plan: Plan, on_cell: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Print the trunks' progress until the block ends, and call `on_cell` for each cell that finishes."""
    stop = threading.Event()
    followers = [_Follower(job, cost.events, on_cell) for job, cost in zip(plan.jobs, plan.costs, strict=True)]
    thread = threading.Thread(target=_watch, args=(followers, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _watch(followers: list["_Follower"], stop: threading.Event) -> None:
    heard = time.monotonic()
    while not stop.wait(POLL_S):
        moved = [follower.poll() for follower in followers]
        if any(moved):
            heard = time.monotonic()
        elif time.monotonic() - heard > SILENCE_S:
            heard = time.monotonic()
            print(f"  no trunk has moved for {SILENCE_S:.0f} s; `ray status` says who holds the cluster", flush=True)
    for follower in followers:
        follower.poll()


@dataclass
class _Follower:
    """Reads the new lines of one trunk's curve."""

    job: TrunkJob
    total: int
    on_cell: Callable[[], None] = lambda: None
    done: int = 0
    last_print: float = 0.0
    reached: dict[tuple[Any, ...], int] = field(default_factory=dict)
    """Events at which each leg stood when it was last heard of: a resumed worker repeats lines."""

    def __post_init__(self) -> None:
        path = self.job.curve_path
        self.offset = path.stat().st_size if path.exists() else 0

    def poll(self) -> bool:
        """Take in the new lines; return whether there were any."""
        if not self.job.curve_path.exists():
            return False
        with self.job.curve_path.open("rb") as file:
            file.seek(self.offset)
            data = file.read(MOST_BYTES)
        complete = data[: data.rfind(b"\n") + 1]
        self.offset += len(complete)
        for line in complete.splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # a line that its writer did not live to finish
                self._take(json.loads(line))
        return bool(complete)

    def _take(self, line: dict[str, Any]) -> None:
        name = self.job.trunk_id
        if line["phase"] == "note":
            print(f"  {name}  {line['text']}", flush=True)
            return
        if line["phase"] == "cell":
            loss = f"{line['loss']:.4f}" if line["loss"] is not None else "-"
            print(f"  {name}  D {line['cell_events']:>11,}  {line['status']}  loss {loss}", flush=True)
            self.on_cell()
            return
        leg = (line["phase"], line["cell_events"])
        start = max(line["from_events"], self.reached.get(leg, 0))
        self.done += max(0, line["num_events"] - start)
        self.reached[leg] = max(line["num_events"], start)
        if time.monotonic() - self.last_print > LINE_EVERY_S:
            self.last_print = time.monotonic()
            left = int(max(0, self.total - self.done) / line["events_per_s"])
            print(
                f"  {name}  {line['phase']:6}  {self.done:>11,} / {self.total:,} events  "
                f"{line['events_per_s']:>9,.0f} ev/s  loss {line['loss']:.4f}  ETA {left // 60}:{left % 60:02}",
                flush=True,
            )
