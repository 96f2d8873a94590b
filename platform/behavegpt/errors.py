"""What can go wrong on the user's side, and the exit code that each kind means for a job.

0 done; 2 the input is wrong; 3 the directory belongs to another live run; 4 the result is refused; 130 interrupted; 143
terminated.
"""

import difflib
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn


class InputError(ValueError):
    """The user's input is wrong. Holds every problem found, one sentence each, and prints them all at once."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class DirectoryBusyError(RuntimeError):
    """The output directory belongs to another live run; the message names its owner."""


class RefusedError(RuntimeError):
    """The job ran, but the result would mislead; the message gives the reasons."""


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Return ' Did you mean 'x'?' for the allowed name nearest to `name`, or '' when none is near."""
    near = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


@contextmanager
def exit_codes(*, resume_with: str | None = None) -> Iterator[None]:
    """Turn the errors above into a message on stderr and the job's exit code; anything else keeps its traceback.

    SIGTERM, which schedulers send before they kill, ends the job as Ctrl-C does, cleaning up, with exit code 143.

    Args:
        resume_with: The command that continues the job, printed when the user interrupts it.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except InputError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
    except DirectoryBusyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(3)
    except RefusedError as error:
        print(f"refused: {error}", file=sys.stderr)
        sys.exit(4)
    except KeyboardInterrupt:
        hint = f"; resume with: {resume_with}" if resume_with else ""
        print(f"interrupted{hint}", file=sys.stderr)
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(signum: int, frame: object) -> NoReturn:
    sys.exit(128 + signum)
