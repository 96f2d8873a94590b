"""Run one function in a process of its own, and say how long it took and how much memory the process held.

In: the dotted name of a function and keyword arguments. Out: a `Run`. Each side of a comparison gets a fresh process,
so that neither finds the other's memory, caches or threads.
"""

import importlib
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One function's result and cost."""

    value: Any
    wall_s: float
    """Of the call alone: imports and the start of the process are not in it."""
    peak_bytes: int
    """Resident memory of the process at its worst moment, imports included, as the kernel kept it."""


def run_alone(function: str, **arguments: Any) -> Run:
    """Return the result of `module:function`, called with `arguments` in a fresh process, and what it cost."""
    # Spawned, so that the child does not begin with this process's memory.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, function, arguments).result()


def _measure(name: str, arguments: dict[str, Any]) -> Run:
    module, _, function = name.partition(":")
    call = getattr(importlib.import_module(module), function)
    begin = time.perf_counter()
    value = call(**arguments)
    wall_s = time.perf_counter() - begin
    return Run(value=value, wall_s=wall_s, peak_bytes=peak_bytes())


def peak_bytes() -> int:
    """Return the peak of this process since its exec; getrusage would carry over what the parent held."""
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
