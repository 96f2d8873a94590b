"""Several processes measured side by side without disturbing each other: they work in turns and wait in between.

In: a file that all of them see. Out: the order of the turns. What drifts on the machine, drifts for all of them alike,
so the ratio of two of them, round by round, holds where neither time alone does.
"""

import mmap
import time
from dataclasses import dataclass
from pathlib import Path

LOOK_S = 0.01
"""A look at shared memory costs a side that waits a two-hundredth of a core. (To open a file every 2 ms cost a
twentieth: three sides that wait took more from the one that works than all of Ray's processes.)"""
PATIENCE_S = 300.0
"""A side that waits so long for the others takes them for dead. Their start, Ray's included, is within it."""
COUNT_BYTES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Turns:
    """One side's view; the sides' processes may have several ranks each."""

    path: Path
    """Holds the number of turns that have ended."""
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
        with self.path.open("r+b") as file, mmap.mmap(file.fileno(), COUNT_BYTES) as shared:
            shared[:] = (round_number * self.num_sides + self.index + 1).to_bytes(COUNT_BYTES)

    def _wait_for(self, ended: int) -> None:
        begin = time.monotonic()
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), COUNT_BYTES, prot=mmap.PROT_READ) as shared:
            while int.from_bytes(shared[:]) < ended:
                if time.monotonic() - begin > PATIENCE_S:
                    raise TimeoutError(f"{self.path}: {ended} turns have not ended within {PATIENCE_S:.0f} s")
                time.sleep(LOOK_S)


def sides_of(path: Path, num_sides: int, rounds: int) -> list[Turns]:
    """Return the sides, of whose turns none has ended."""
    path.write_bytes(bytes(COUNT_BYTES))
    return [Turns(path=path, index=index, num_sides=num_sides, rounds=rounds) for index in range(num_sides)]
