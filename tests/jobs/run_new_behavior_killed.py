"""Run jobs/adapt.py new-behavior once undisturbed, then killed at each of some places and run again; compare all bits.

Usage: run_new_behavior_killed.py DATASET OUT EVERY FLAGS...

EVERY takes each so-manyth place. Prints JSON: the places, and those at which the second run differed. Every run is a
fork of this process.
"""

import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path
from types import ModuleType

from behavegpt.tasks import page
from behavegpt.tasks.adaptation import new_behavior_data, new_behavior_training, new_behavior_weights
from behavegpt.train import loop
from behavegpt.train.record import code_version

JOB = Path(__file__).parents[2] / "jobs" / "adapt.py"
PLACES: dict[str, tuple[ModuleType, str, int]] = {
    "first dataset": (new_behavior_data, "finish_dataset", 1),
    "pretraining": (loop, "lr_factor", 13),
    "exported model": (new_behavior_training, "export_model", 1),
    "few shots' dataset": (new_behavior_data, "finish_dataset", 2),
    "extended weights": (new_behavior_weights, "sha256_of", 1),
    "few shots": (loop, "lr_factor", 33),
    "report": (page, "replace_file", 2),
}
"""Killed at which call of what."""


def main(dataset: Path, out: Path, every: int, flags: list[str]) -> None:
    code_version()  # once for all forks
    command = ["new-behavior", "--dataset", str(dataset), "--out", "run", *flags]
    assert in_child(out / "golden", command, None) == 0
    wanted = result(out / "golden")
    differing, places = [], list(PLACES)[every - 1 :: every]
    for place in places:
        folder = out / place
        status = in_child(folder, command, place)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not killed or in_child(folder, command, None) != 0 or result(folder) != wanted:
            differing.append(place)
    print(json.dumps({"places": places, "differing": differing}))


def in_child(folder: Path, command: list[str], place: str | None) -> int:
    """Return the wait status of a fork that runs the job in `folder`, and kills itself at the place."""
    folder.mkdir(exist_ok=True)
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(folder)
            os.dup2(os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
            if place:
                kill_at(*PLACES[place])
            sys.argv = [str(JOB), *command]
            runpy.run_path(str(JOB), run_name="__main__")
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def kill_at(module: ModuleType, name: str, call: int) -> None:
    real, calls = getattr(module, name), 0

    def counted(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    setattr(module, name, counted)


def result(folder: Path) -> dict[str, bytes]:
    """Return all that must be equal to the last bit: the report, the datasets and every weight; nothing half-made."""
    run = folder / "run"
    assert not list(run.rglob("*.partial")), "something half-made is left"
    files = [*run.glob("new-behavior.*"), *run.glob("data/**/*"), *run.glob("models/*/*")]
    files += run.glob("checkpoints/*/final-*/*.safetensors")
    # A model's card and configuration tell how long its training took.
    kept = [p for p in files if p.is_file() and p.suffix != ".md" and p.name != "config.json"]
    return {str(path.relative_to(run)): path.read_bytes() for path in kept}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
