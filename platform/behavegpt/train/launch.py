"""Run trunks on the cluster: a Ray Train worker group around train.loop, restarted when a worker dies.

In: TrunkJobs of one execution, trained one after the other: a group takes ten seconds to start. Out: nothing but their
files. Called from a Tune trial; the workers may be anywhere that sees the study directory and the dataset.
"""

import errno
import gc
import os
import shutil
import signal
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray.train.torch
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from behavegpt.data.stream import ray_tables
from behavegpt.errors import FULL
from behavegpt.train.config import TrunkJob
from behavegpt.train.heartbeat import check_hung, watched
from behavegpt.train.loop import train_trunk
from behavegpt.train.process import ENVIRONMENT

WORKER_RESTARTS = 2
"""A killed worker costs the steps since the last checkpoint; a bug that repeats ends the group after so many."""
CONTROLLER_RESTARTS = 3
"""Without a limit, a worker group that never fits the cluster would be retried for ever."""
PATIENCE = 2
"""A worker waits so many times longer for a peer's tensor than for its own step: who hung is to be named, not who
waited for it."""
FULL_BELOW = 1 << 20
"""Bytes: a disk on which a write failed while no more than these were free was full."""


def fit_trunks(jobs: Sequence[TrunkJob], storage: Path) -> None:
    """Train what is missing of the jobs, in order, on one worker group; a restarted group goes on where it was.

    Args:
        jobs: Of the same execution.
        storage: For Ray Train's own state, on a path that all nodes share. Nothing is ever resumed from it.

    Raises:
        ray.train.TrainingFailedError: The workers failed more often than they are restarted.
        KeyboardInterrupt: Ctrl-C; the workers are gone.
    """
    execution = jobs[0].execution
    # Ray Train would silently resume a name that it has seen; our checkpoints are the only memory.
    name = f"{jobs[0].trunk_id}-{uuid.uuid4().hex[:8]}"
    trainer = TorchTrainer(
        _work,
        train_loop_config={"jobs": tuple(jobs), "hung": storage / f"{name}.hung"},
        scaling_config=ScalingConfig(
            num_workers=execution.num_workers,
            use_gpu=execution.use_gpu,
            resources_per_worker={"CPU": execution.cpus_per_worker, **({"GPU": 1} if execution.use_gpu else {})},
        ),
        torch_config=TorchConfig(
            backend="nccl" if execution.use_gpu else "gloo", timeout_s=int(PATIENCE * execution.timeout_s)
        ),
        run_config=RunConfig(
            name=name,
            storage_path=str(storage),
            worker_runtime_env={"env_vars": ENVIRONMENT},
            failure_config=FailureConfig(max_failures=WORKER_RESTARTS, controller_failure_limit=CONTROLLER_RESTARTS),
        ),
    )
    try:
        with _interruptible():
            trainer.fit()
    finally:
        # The group is gone. On a full disk, what its last save left is the room in which its failure is written down.
        for job in jobs:
            for path in job.checkpoint_dir.glob("*.partial"):
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the job as it does elsewhere.

    Ray Train puts a handler of its own in the place of SIGINT's and leaves it there, where later it does nothing at
    all; while workers run it ends them, and then the process, with exit code 0 or 1.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as left:
        raise KeyboardInterrupt from left
    finally:
        if signal.getsignal(signal.SIGINT) is not before:  # only the main thread has a handler put there, and may
            signal.signal(signal.SIGINT, before)


def _work(config: dict[str, Any]) -> None:
    jobs: tuple[TrunkJob, ...] = config["jobs"]
    execution, hung = jobs[0].execution, config["hung"]
    check_hung(execution.timeout_s, hung)
    torch.set_num_threads(execution.cpus_per_worker)
    with watched(execution.timeout_s, hung):
        for job in jobs:
            _train(job)
            gc.collect()  # an engine holds itself in a cycle, and its memory with it


def _train(job: TrunkJob) -> None:
    """Train the job; of a full disk say that it is full, and which one.

    Torch says of it that a write failed, a stream that is flushed does not know its file's name.
    """
    try:
        train_trunk(job, ray_tables, ray.train.torch.get_device())
    except Exception as error:
        if isinstance(error, OSError):
            unnamed = error.errno in FULL and error.filename is None
        else:
            unnamed = shutil.disk_usage(job.study_dir).free <= FULL_BELOW
        if not unnamed:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(job.study_dir)) from error
