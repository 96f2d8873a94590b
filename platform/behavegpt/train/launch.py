"""Run trunks on the cluster: a Ray Train worker group around train.loop, restarted when a worker dies.

In: TrunkJobs of one execution, trained one after the other: a group takes ten seconds to start. Out: nothing but their
files. Called from a Tune trial; the workers may be anywhere that sees the study directory and the dataset.
"""

import gc
import uuid
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import ray.train.torch
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from behavegpt.data.stream import ray_tables
from behavegpt.train.config import TrunkJob
from behavegpt.train.loop import train_trunk

WORKER_RESTARTS = 2
"""A killed worker costs the steps since the last checkpoint; a bug that repeats ends the group after so many."""
CONTROLLER_RESTARTS = 3
"""Without a limit, a worker group that never fits the cluster would be retried for ever."""
COLLECTIVE_TIMEOUT = timedelta(minutes=10)
"""A peer that is silent for so long is taken for dead; the group restarts."""


def fit_trunks(jobs: Sequence[TrunkJob], storage: Path) -> None:
    """Train what is missing of the jobs, in order, on one worker group; a restarted group goes on where it was.

    Args:
        jobs: Of the same execution.
        storage: For Ray Train's own state, on a path that all nodes share. Nothing is ever resumed from it.

    Raises:
        ray.train.TrainingFailedError: The workers failed more often than they are restarted.
    """
    execution = jobs[0].execution
    trainer = TorchTrainer(
        _work,
        train_loop_config={"jobs": tuple(jobs)},
        scaling_config=ScalingConfig(
            num_workers=execution.num_workers,
            use_gpu=execution.use_gpu,
            resources_per_worker={"CPU": execution.cpus_per_worker, **({"GPU": 1} if execution.use_gpu else {})},
        ),
        torch_config=TorchConfig(
            backend="nccl" if execution.use_gpu else "gloo", timeout_s=int(COLLECTIVE_TIMEOUT.total_seconds())
        ),
        run_config=RunConfig(
            # Ray Train would silently resume a name that it has seen; our checkpoints are the only memory.
            name=f"{jobs[0].trunk_id}-{uuid.uuid4().hex[:8]}",
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=WORKER_RESTARTS, controller_failure_limit=CONTROLLER_RESTARTS),
        ),
    )
    trainer.fit()


def _work(config: dict[str, Any]) -> None:
    jobs: tuple[TrunkJob, ...] = config["jobs"]
    torch.set_num_threads(jobs[0].execution.cpus_per_worker)
    for job in jobs:
        train_trunk(job, ray_tables, ray.train.torch.get_device())
        gc.collect()  # an engine holds itself in a cycle, and its memory with it
