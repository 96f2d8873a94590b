"""A worker that gets nowhere is ended and says where it hung: a hang is silent, and holds its CPUs or GPUs for ever.

In: beats of the thread that trains, after each step and each batch of a validation. Out: a file that says where that
thread stood when they stopped, and then the end of the process; the group's next start reads the files. A worker that
cannot even look at its beats, because it is frozen as a whole, is Ray Train's to find (after ten minutes).
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import behavegpt
from behavegpt.files import create_file
from behavegpt.train.distributed import rank

LOOKS = 60
"""At the beats, within the limit."""
MOST_TEXT = 400
"""Of the error: Ray keeps the first and the last 500 characters of a traceback, and this is its last line."""
_beats = 0


def beat() -> None:
    """Say that this process has moved."""
    global _beats
    _beats += 1


@contextmanager
def watched(limit_s: float, reports: Path) -> Iterator[None]:
    """End this process with SIGKILL when no beat is heard for `limit_s` seconds within the block.

    Args:
        limit_s: Of the process's own time: a machine that sleeps, or a process that is stopped, does not count.
        reports: Directory that takes a file of every worker that hung.
    """
    stop = threading.Event()
    arguments = (limit_s, reports / f"worker-{rank()}", threading.get_ident(), stop)
    thread = threading.Thread(target=_watch, args=arguments, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def check_hung(limit_s: float, reports: Path) -> None:
    """Ask whether the workers hung in an earlier life of their group: they would again, for as long.

    Raises:
        TimeoutError: They did; it names where, and its cause holds their stacks.
    """
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(reports.glob("worker-*"))}
    if texts:
        places = "; ".join(f"{name} hung in {text.splitlines()[0]}" for name, text in texts.items())
        raise TimeoutError(f"no step for {limit_s:g} s: {places}"[:MOST_TEXT]) from RuntimeError(
            "\n".join(texts.values())
        )


def _watch(limit_s: float, report: Path, thread_id: int, stop: threading.Event) -> None:
    heard, silent = _beats, 0
    while not stop.wait(limit_s / LOOKS):
        # Looks are counted, not seconds: while the process was stopped there were none.
        heard, silent = (heard, silent + 1) if _beats == heard else (_beats, 0)
        if silent >= LOOKS:
            text = where(sys._current_frames()[thread_id])
            print(text, file=sys.stderr, flush=True)
            try:
                create_file(report, text)
                # Those that wait for this worker notice within a look, and say so before the group is torn down.
                stop.wait(2 * limit_s / LOOKS)
            finally:
                os.kill(os.getpid(), signal.SIGKILL)


def where(frame: FrameType) -> str:
    """Return one line that says where in this package the frame stands, and then its stack, last call first."""
    stack = traceback.extract_stack(frame)
    package = str(Path(behavegpt.__file__).parent)
    place = [one for one in stack if one.filename.startswith(package)][-1:] or stack[-1:]
    lines = [f"{one.name} ({os.path.relpath(one.filename, package)}:{one.lineno}: {one.line})" for one in place]
    return "\n".join([*lines, *reversed(stack.format())])
