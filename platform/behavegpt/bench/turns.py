"""Several processes measured side by side without disturbing each other: they work in turns and wait in between.

In: a file that all of them see. Out: the order of the turns. What drifts on the machine, drifts for all of them alike,
so the ratio of two of them, round by round, holds where neither time alone does.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

LOOK_S = 0.002
PATIENCE_S = 300.0
"""A side that waits so long for the others takes them for dead. Their start, Ray's included, is within it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Turns:
    """One side's view; the sides' processes may have several ranks each."""

    path: Path
    """Holds the number of turns that have ended; absent before the first."""
    index: int
    """Of this side."""
    num_sides: int
    rounds: int

    def wait(self, round_number: int) -> None:
        """Return when this side's turn of the round has come."""
        self._wait_for(round_number * self.num_sides + self.index)

    def wait_for_all(self) -> None:
        """Return when every side has had its last turn."""
        self._wait_for(self.rounds * self.num_sides)

    def end(self, round_number: int) -> None:
        """End this side's turn of the round; one rank of the side calls it."""
        partial = self.path.with_suffix(".next")
        partial.write_text(str(round_number * self.num_sides + self.index + 1))
        os.replace(partial, self.path)

    def _wait_for(self, ended: int) -> None:
        begin = time.monotonic()
        while (int(self.path.read_text()) if self.path.exists() else 0) < ended:
            if time.monotonic() - begin > PATIENCE_S:
                raise TimeoutError(f"{self.path}: {ended} turns have not ended within {PATIENCE_S:.0f} s")
            time.sleep(LOOK_S)
