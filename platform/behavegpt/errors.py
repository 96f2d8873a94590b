"""What can go wrong on the user's side, and the exit code that each kind means for a job.

0 done; 2 the input is wrong; 3 the directory belongs to another live run; 4 the result is refused; 5 the disk is full
or the cluster is gone, and a rerun goes on; 130 interrupted; 141 nobody reads what it prints any more; 143 terminated.
"""

import difflib
import errno
import os
import select
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says where no byte more can be written."""
OUTAGE = 5
UNREAD = 128 + signal.SIGPIPE
"""What a shell shows for a program whose reader has left, as in `job | head -1`."""
STDOUT = 1
_hint: str | None = None
"""How to resume the job that this process runs; None where it runs none."""


class InputError(ValueError):
    """The user's input is wrong. Holds every problem found, one sentence each, and prints them all at once."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class DirectoryBusyError(RuntimeError):
    """The output directory belongs to another live run; the message names its owner."""


class RefusedError(RuntimeError):
    """The job ran, but the result would mislead; the message gives the reasons."""


class OutageError(RuntimeError):
    """The machine or the cluster failed a job whose input is fine; the message says what to bring back."""


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Return ' Did you mean 'x'?' for the allowed name nearest to `name`, or '' when none is near."""
    near = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def abandon(message: str) -> None:
    """End a job at once, from any thread, with the message and code of the OutageError that it is too stuck to raise.

    Nothing is cleaned up: it is as if it had been killed. Outside of `exit_codes` nothing happens.
    """
    if _hint is not None:
        print(f"error: {message}{_hint}", file=sys.stderr, flush=True)
        os._exit(OUTAGE)


@contextmanager
def exit_codes(*, resume_with: str | None = None) -> Iterator[None]:
    """Turn the errors above into a message on stderr and the job's exit code; anything else keeps its traceback.

    SIGTERM, which schedulers send before they kill, ends the job as Ctrl-C does, cleaning up, with exit code 143.

    Args:
        resume_with: The command that continues the job, printed when it was stopped on its way.
    """
    global _hint
    terminated: list[int] = []

    def terminate(signum: int, frame: FrameType | None) -> None:
        terminated.append(signum)
        # Who handles Ctrl-C in his own way, as Ray Tune does in order to stop its trials, handles this one too.
        interrupt = signal.getsignal(signal.SIGINT)
        (interrupt if callable(interrupt) else signal.default_int_handler)(signal.SIGINT, frame)

    hint = _hint = f"; resume with: {resume_with}" if resume_with else ""

    def leave() -> NoReturn:
        print(f"{'terminated' if terminated else 'interrupted'}{hint}", file=sys.stderr)
        sys.exit(143 if terminated else 130)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
        sys.stdout.flush()
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
    except OutageError as error:
        print(f"error: {error}{hint}", file=sys.stderr)
        sys.exit(OUTAGE)
    except BrokenPipeError:
        if not _reader_has_left():
            raise
        print(f"stopped: nobody reads the output any more{hint}", file=sys.stderr)
        sys.exit(UNREAD)
    except OSError as error:
        if error.errno not in FULL:
            raise
        print(f"error: {error.filename or 'the output'}: {error.strerror}; free some space{hint}", file=sys.stderr)
        sys.exit(OUTAGE)
    except KeyboardInterrupt:
        leave()
    except SystemExit as left:
        if left.code != signal.SIGTERM:
            raise
        # While Ray connects, a handler of its own is in the place of ours.
        terminated.append(signal.SIGTERM)
        leave()
    finally:
        _hint = None
        signal.signal(signal.SIGTERM, before)


def _reader_has_left() -> bool:
    """Say whether stdout is a pipe without a reader; if so, what is still to be printed is dropped."""
    poll = select.poll()
    poll.register(STDOUT, select.POLLOUT)
    if not any(events & select.POLLERR for _, events in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
    return True
