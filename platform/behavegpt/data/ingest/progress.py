"""How far a pass is, as plain lines on stderr; a pass of a few seconds says nothing."""

import sys
import time

EVERY_S = 5.0


class Progress:
    """Says a pass's progress at most every few seconds."""

    def __init__(self, label: str, every_s: float = EVERY_S) -> None:
        self.label = label
        self.every_s = every_s
        self.started = self.said = time.monotonic()

    def say(self, done: str) -> None:
        """Print `done`, which names no user, unless a line was printed a moment ago."""
        now = time.monotonic()
        if now - self.said >= self.every_s:
            self.said = now
            print(f"{self.label}: {done} after {now - self.started:.0f} s", file=sys.stderr, flush=True)
