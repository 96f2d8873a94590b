"""Train a tiny job, once undisturbed and then once for each place at which it is killed and resumed; compare all bits.

Usage: LD_PRELOAD=kill_at.so run_killed.py LIBRARY DATASET OUT ENGINE:STAGE steps|operations EVERY

Prints JSON: how many places there are, how many were tried, and what differed. Every run is a fork of this process:
starting Python and torch anew would take most of the time.
"""

import ctypes
import itertools
import json
import os
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ray.util.metrics  # noqa: F401 - what every run would import for itself
import torch
import torch._dynamo
import torch.distributed as dist

from behavegpt.data.manifest import read_manifest
from behavegpt.data.stream import local_tables
from behavegpt.loss.config import Cvar
from behavegpt.model.config import for_width
from behavegpt.train import loop
from behavegpt.train.config import Cell, ExecutionConfig, TrainConfig, TrunkJob
from behavegpt.train.record import code_version

COMPARED = ("phase", "cell_events", "step", "from_events", "num_events", "loss", "lr_factor", "grad_norm")


def main(library: ctypes.CDLL, dataset: Path, out: Path, execution: str, where: str, every: int) -> None:
    torch.set_num_threads(1)
    code_version()  # once for all forks, also where the sources are edited meanwhile
    golden = job_on(dataset, out / "golden", execution)
    (out / "golden").mkdir(parents=True)
    counts = out / "counts"
    in_child(lambda: counts.write_text(" ".join(map(str, train(golden, library, where, 0)))))
    num_steps, num_operations = map(int, counts.read_text().split())
    places = num_steps if where == "steps" else num_operations
    wanted, differing, tried = result(golden), [], range(1, places + 1, every)
    assert all(wanted.values()) and len(list(golden.cell_dir.iterdir())) == len(golden.cells)
    for place in tried:
        job = job_on(dataset, out / f"killed-{place}", execution)
        job.study_dir.mkdir()
        status = in_child(lambda job=job, place=place: train(job, library, where, place))
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        resumed = in_child(lambda job=job: train(job, library, where, 0)) == 0
        if not killed or not resumed or result(job) != wanted or list(job.checkpoint_dir.glob("*.partial")):
            differing.append(place)
        else:
            shutil.rmtree(job.study_dir)
    print(json.dumps({"steps": num_steps, "places": places, "tried": len(tried), "differing": differing}))


def job_on(dataset: Path, study_dir: Path, execution: str) -> TrunkJob:
    """Return a job with everything that a checkpoint must hold: two branches, dropout, a loss with a memory."""
    engine, stage = execution.split(":")
    model = for_width(16, vocabulary_sizes=read_manifest(dataset).vocabulary_sizes)
    return TrunkJob(
        study="killed",
        variant="cvar",
        trunk_id="trunk",
        model=replace(model, dropout=0.1),
        train=TrainConfig(
            learning_rate=0.01,
            warmup_steps=5,
            batch_ramp=((0, 1), (1_000, 2)),
            loss=Cvar(eps=0.3, warmup_steps=3),
            num_val_windows=4,
        ),
        execution=ExecutionConfig(engine=engine, zero_stage=int(stage), checkpoint_steps=3),  # pyright: ignore
        dataset=dataset,
        study_dir=study_dir,
        cells=tuple(Cell(cell_id=f"d{d}", num_events=d, num_windows=-(-d // 90)) for d in (2_500, 5_500)),
        keep_final=True,
    )


def train(job: TrunkJob, library: ctypes.CDLL, where: str, place: int) -> tuple[int, int]:
    """Train the job; kill this process at the place (0: never). Return how many steps and operations there were."""
    if job.execution.engine == "deepspeed":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
        os.environ["MASTER_PORT"] = port
        dist.init_process_group("gloo")
    library.kill_at(str(job.study_dir).encode(), place if where == "operations" else 0)
    real, steps = loop.lr_factor, itertools.count(1)

    def factor(*args: object) -> float:
        if next(steps) == place and where == "steps":
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args)  # pyright: ignore[reportArgumentType]

    loop.lr_factor = factor
    loop.train_trunk(job, local_tables, torch.device("cpu"))
    return next(steps) - 1, library.num_operations()


def in_child(run: Callable[[], object]) -> int:
    """Return the wait status of a fork that runs `run`."""
    pid = os.fork()
    if pid == 0:
        try:
            run()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def result(job: TrunkJob) -> dict[str, object]:
    """Return all that must be equal to the last bit: losses, curve, and the files of the finished models."""
    rows = [json.loads(path.read_text()) for path in sorted(job.cell_dir.glob("*.json"))]
    lines = {}
    for line in map(json.loads, filter(whole, job.curve_path.read_text().splitlines())):
        if line["phase"] in ("trunk", "branch"):
            lines[line["phase"], line["cell_events"], line["step"]] = [line[key] for key in COMPARED]
    files = sorted(job.checkpoint_dir.glob("final-*/*.safetensors"))
    return {
        "losses": [[row["num_events"], float(row["loss"]).hex(), float(row["train_loss"]).hex()] for row in rows],
        "curve": sorted(map(repr, lines.values())),
        "files": [(str(path.relative_to(job.checkpoint_dir)), path.read_bytes()) for path in files],
    }


def whole(line: str) -> bool:
    """Return whether a killed writer finished the line."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


if __name__ == "__main__":
    shim = ctypes.CDLL(sys.argv[1])
    shim.kill_at.argtypes = [ctypes.c_char_p, ctypes.c_long]
    shim.num_operations.restype = ctypes.c_long
    main(shim, Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], sys.argv[5], int(sys.argv[6]))
