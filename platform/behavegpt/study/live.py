"""The law while its cells are still being trained: refitted whenever some have finished, printed and shown as metrics.

In: a study, and the command of the process that fits; nothing of it is imported here. Out: a line and gauges per refit,
and a report that refreshes itself. Training comes first: the fits run one at a time in a process of the lowest
priority, cells that finish meanwhile share the next one, and what a fit took is followed by a rest.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from behavegpt.study.run import Study, rebuild_results

if TYPE_CHECKING:
    from behavegpt.study.gauges import LawGauges

FITTER = (sys.executable, "-P", "-m", "analysis.live")
"""The process that fits: named, not imported, for no stage may know of the analysis."""
FITS_SHARE, REPORTS_SHARE = 0.03, 0.02
"""Of one core: what refits, and the reports that some of them write, may take; the start of the process comes on top.
On the demo a refit takes 1 CPU-second, a report 2.7, the start 1.5."""
REFRESH_S = 30
"""Browsers load the report again this often."""
ERROR_S = 3.0
"""What a failed refit counts as having taken: its message is not to fill the screen."""
END_S = 5.0
"""What the process gets to end by itself when the sweep is over."""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@contextmanager
def live_law(study: Study, command: Sequence[str], target_flops: float) -> Iterator[Callable[[], None]]:
    """Refit the law in the background until the block ends; yield what is to be called when a cell has finished.

    Args:
        study: The study whose cells are being trained.
        command: The process that fits: a line of JSON on stdin is answered by one on stdout, as analysis/live.py says.
        target_flops: The budget whose loss is shown.
    """
    # Imported here: it imports ray, which takes seconds, and what asks for this may have nothing to train.
    from behavegpt.study.gauges import LawGauges

    with _Fitter(command) as fitter:
        refits = _Refits(study, fitter, LawGauges(study.config.name), target_flops)
        thread = threading.Thread(target=refits.run, daemon=True)
        thread.start()
        try:
            yield refits.fresh.set
        finally:
            refits.stop.set()
            refits.fresh.set()
            fitter.end()
            thread.join()


class _Fitter:
    """The process that fits; it starts with the first request."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[str] | None = None
        self._starting = threading.Lock()
        self._ended = False

    def __enter__(self) -> "_Fitter":
        self._errors = tempfile.TemporaryFile("w+")
        return self

    def __exit__(self, *_: object) -> None:
        self._errors.close()
        if self._process is not None:
            assert self._process.stdin and self._process.stdout
            self._process.stdout.close()
            with suppress(BrokenPipeError):  # what it did not live to read
                self._process.stdin.close()

    def wait_until_ready(self) -> None:
        """Start the process if need be and wait for its first line: its imports take seconds.

        Raises:
            RuntimeError: As for `ask`.
        """
        with self._starting:
            if self._process is not None or self._ended:
                return
            self._process = self._start()
        self._read_line()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer.

        Raises:
            RuntimeError: The process has ended; the message is what it said last.
        """
        assert self._process is not None and self._process.stdin
        with suppress(BrokenPipeError):  # it has ended, and reading says why
            print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._read_line())

    def _read_line(self) -> str:
        assert self._process is not None and self._process.stdout
        if line := self._process.stdout.readline():
            return line
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines()
        raise RuntimeError(said[-1] if said else "it ended without a word")

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | _ONE_THREAD,
            process_group=0,  # Ctrl-C is the sweep's, which ends this process in its turn
        )
        os.setpriority(os.PRIO_PROCESS, process.pid, 19)
        return process

    def end(self) -> None:
        """End the process, in the middle of a fit if need be."""
        with self._starting:
            self._ended = True
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Refits:
    """Asks for a law whenever cells have finished, and says what it is."""

    def __init__(self, study: Study, fitter: _Fitter, gauges: "LawGauges", target_flops: float) -> None:
        self.fresh, self.stop = threading.Event(), threading.Event()
        self._study, self._fitter, self._gauges, self._target = study, fitter, gauges, target_flops
        self._seen: dict[str, int] = {}
        self._next_report = 0.0

    def run(self) -> None:
        """Refit until told to stop."""
        while True:
            self.fresh.wait()
            if self.stop.is_set():
                return
            begin = time.thread_time()
            try:
                self._fitter.wait_until_ready()
                if self.stop.is_set():
                    return
                self.fresh.clear()
                spent = self._refit(rebuild_results(self._study.study_dir))
            except Exception as error:
                # Whatever it is, the sweep goes on; the fit after it will raise what stands in the way of a law.
                if self.stop.is_set():
                    return
                print(f"  the law is not refitted: {type(error).__name__}: {error}", flush=True)
                self.fresh.clear()
                spent = ERROR_S
            self.stop.wait((spent + time.thread_time() - begin) / FITS_SHARE)

    def _refit(self, table: pa.Table) -> float:
        """Ask for the law of each variant that has new cells; return the CPU-seconds that the fits took."""
        spent, config = 0.0, self._study.config
        with_report = time.monotonic() >= self._next_report
        for variant in config.variants:
            pairs = zip(table["variant"].to_pylist(), table["status"].to_pylist(), strict=True)
            num_cells = sum(pair == (variant.name, "completed") for pair in pairs)
            if num_cells == self._seen.get(variant.name, 0):
                continue
            self._seen[variant.name] = num_cells
            request = {
                "table": str(self._study.study_dir / "results.parquet"),
                "variant": variant.name,
                "target_flops": self._target,
                "out": str(self._study.report_dir(variant)) if with_report else None,
                "refresh_s": REFRESH_S,
            }
            told = self._fitter.ask(request)
            name = f"{variant.name}: " if len(config.variants) > 1 else ""
            if "error" in told:
                print(f"  {name}no law: {told['error']}", flush=True)
                continue
            print(f"  {name}{told['line']}", flush=True)
            self._gauges.show(variant.name, told["cells"], told["values"])
            spent += told["fit_s"]
            if with_report:
                self._next_report = time.monotonic() + told["report_s"] / REPORTS_SHARE
        return spent
