"""DeepSpeed's ZeRO stages compute what plain torch computes, on one worker and on two, through saves and restores."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).with_name("run_engines.py")
EVERY = ("torch:0", "deepspeed:0", "deepspeed:1", "deepspeed:2", "deepspeed:3")


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def run(dataset: Path, out: Path, world_size: int, executions: tuple[str, ...]) -> dict[str, list]:
    """Return, for each execution, every step's training loss and both cells' losses, or the cells' status."""
    out.mkdir()
    port = free_port()
    command = [sys.executable, str(RUNNER), str(dataset), str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [*command, str(rank), str(world_size), port, *executions],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world_size)
    ]
    try:
        for worker in workers:
            _, stderr = worker.communicate(timeout=240)
            assert worker.returncode == 0, stderr[-2000:]
    finally:
        for worker in workers:
            worker.kill()
    return {name: json.loads((out / f"{name.replace(':', '')}.json").read_text()) for name in executions}


@pytest.fixture(scope="module")
def reference(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    poisoned = tuple(f"{name}:poison" for name in EVERY)
    return run(dataset, tmp_path_factory.mktemp("engines") / "one", 1, EVERY + poisoned)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY[1:])
def test_every_stage_gives_torchs_losses(reference, name):
    assert len(reference["torch:0"]) > 35
    assert reference[name] == pytest.approx(reference["torch:0"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_a_gradient_that_is_not_a_number_never_becomes_a_completed_cell(reference, name):
    assert reference[f"{name}:poison"] == ["completed", "diverged"]


@pytest.mark.slow
def test_two_workers_give_the_losses_of_one(reference, dataset, tmp_path):
    two = run(dataset, tmp_path / "two", 2, ("torch:0", "deepspeed:1"))
    assert two["torch:0"] == pytest.approx(reference["torch:0"], abs=1e-5)
    assert two["deepspeed:1"] == pytest.approx(reference["torch:0"], abs=1e-5)
