"""What users see of a trunk that runs out of memory, hangs, or finds the disk full, and of a node that is lost."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from behavegpt.study import tuner
from behavegpt.study.config import StudyConfig, of_widths
from behavegpt.study.run import open_study, run_study
from behavegpt.train.config import ExecutionConfig, TrunkJob

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(600)]


def with_faults(faults: dict[str, str]) -> Callable[..., None]:
    """Return a trial whose workers fail (memory, a full disk, a hang) at the first validation of the trunks named.

    Functions within functions travel to Ray's processes by value, so the platform there is the installed one.
    """

    def trial(config: dict[str, Any], **packs: Any) -> None:
        from behavegpt.study import tuner
        from behavegpt.train import launch

        def work(config: dict[str, Any]) -> None:
            import resource
            import time

            import torch

            from behavegpt.train import launch, loop

            current, evaluate, train_trunk = [], loop.evaluate, launch.train_trunk

            def train(job: TrunkJob, *others: Any) -> None:
                current[:] = [faults.get(job.trunk_id)]
                train_trunk(job, *others)

            def validate(*arguments: Any) -> Any:
                if current == ["hang"]:
                    time.sleep(3_600)
                if current == ["disk"]:
                    with open("/dev/full", "wb") as full:  # written to alone: read, it has no end
                        full.write(bytes(1 << 16))
                if current == ["memory"]:
                    status = Path("/proc/self/status").read_text()
                    [used] = [int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmSize")]
                    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
                    torch.ones(1 << 26)  # 256 MiB
                return evaluate(*arguments)

            loop.evaluate, launch.train_trunk = validate, train
            launch._work(config)

        launch._work = work
        tuner._trial(config, **packs)

    return trial


def test_memory_a_hang_and_a_full_disk_cost_their_trunk_alone(ray_cluster, small, tmp_path, monkeypatch):
    """Three trunks fail, each in its way, beside one that does not; each cell says why; a rerun completes them all."""
    config = StudyConfig(
        name="small",
        sizes=of_widths(8, 12, 16, 20),
        num_events=(5_000, 20_000),
        execution=ExecutionConfig(timeout_s=40),
    )
    study = open_study(config, small, tmp_path / "study")
    jobs = {job.model.width: job for job in study.plan.jobs}
    faults = {jobs[8].trunk_id: "memory", jobs[12].trunk_id: "hang", jobs[16].trunk_id: "disk"}
    with monkeypatch.context() as patch:
        patch.setattr(tuner, "_trial", with_faults(faults))
        rows = run_study(study).to_pylist()
    told = {(row["width"], row["num_events"]): (row["status"], row["reason"]) for row in rows}
    for events in (5_000, 20_000):
        assert told[20, events] == ("completed", "")
        status, reason = told[8, events]
        assert status == "oom" and "can't allocate memory: you tried to allocate 268435456 bytes" in reason
        status, reason = told[12, events]
        assert status == "timeout", reason
        assert reason.startswith("TimeoutError: no step for 40 s: worker-0 hung in train_trunk (train/loop.py:")
        status, reason = told[16, events]
        assert (status, reason) == ("crashed", f"OSError: [Errno 28] No space left on device: '{study.study_dir}'")
    # Where in the code of others it stood is beside the reason.
    [failure] = study.study_dir.glob(f"cells/{jobs[12].cells[0].cell_id}.failed-*.json")
    assert "time.sleep(3_600)" in json.loads(failure.read_text())["traceback"]
    healed = run_study(open_study(config, small, study.study_dir)).to_pylist()
    assert [row["status"] for row in healed] == ["completed"] * 8
    before = [row["loss"] for row in rows if row["width"] == 20]
    assert [row["loss"] for row in healed if row["width"] == 20] == before


def add_node(head, name: str) -> subprocess.Popen:
    """Join a second machine's raylet, of two CPUs, to the head."""
    environment = head.job_environment()
    command = [str(Path(sys.executable).with_name("ray")), "start", "--address", environment["RAY_ADDRESS"], "--block"]
    command += ["--node-ip-address", "127.0.0.1", "--num-cpus", "2", "--resources", json.dumps({name: 1})]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


JOINED = """
import time, ray
ray.init(log_to_driver=False)
while ray.cluster_resources().get("CPU", 0) < 2:
    time.sleep(0.2)
"""


def test_a_lost_node_costs_what_it_had_not_saved(make_head, make_job, wait_for):
    """The workers' machine goes away while they train: the group starts on another one, and the study completes."""
    head = make_head(BEHAVEGPT_RAY_CPUS="0")
    nodes = [add_node(head, "first")]
    try:
        environment = head.job_environment()
        subprocess.run([sys.executable, "-c", JOINED], env=environment, check=True, timeout=120, capture_output=True)
        job = make_job("nodes", head, flags=("--widths", "12", "--num-events", "5000", "100000"), num_cells=2)
        process = job.run()
        wait_for(lambda: "trunk" in [line["phase"] for line in job.lines()], 240, "the first machine")
        os.killpg(nodes[0].pid, signal.SIGKILL)
        lines = len(job.lines())
        nodes.append(add_node(head, "second"))
        assert process.wait(timeout=300) == 4, job.log()[-3000:]  # one size is too few for a law
        assert [row["status"] for row in job.results()] == ["completed"] * 2
        assert not list(job.study_dir.glob("cells/*.failed-*"))
        assert len(job.lines()) > lines
    finally:
        for node in nodes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)
