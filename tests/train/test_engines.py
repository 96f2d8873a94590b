"""DeepSpeed's ZeRO stages compute what plain torch computes, on one worker and on two, through saves and restores."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(1_300)
RUNNER = Path(__file__).with_name("run_engines.py")
EVERY = ("torch:0", "deepspeed:0", "deepspeed:1", "deepspeed:2", "deepspeed:3")
ZERO = EVERY[2:]
POISONED = (*EVERY, *(f"{name}:bf16" for name in EVERY[1:]))
CUT = tuple(f"{name}:micro" for name in ZERO[1:])
"""What two workers cut into micro-batches: the stages whose gradients are spread over them."""


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def run(dataset: Path, out: Path, world_size: int, executions: dict[str, str]) -> dict[str, list]:
    """Return, for each execution, what run_engines.py writes."""
    out.mkdir(exist_ok=True)
    port = free_port()
    command = [sys.executable, str(RUNNER), str(dataset), str(out)]
    arguments = [f"{name}={execution}" for name, execution in executions.items()]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [*command, str(rank), str(world_size), port, *arguments],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world_size)
    ]
    try:
        for worker in workers:
            _, stderr = worker.communicate(timeout=1_200)
            assert worker.returncode == 0, stderr[-2000:]
    finally:
        for worker in workers:
            worker.kill()
    kept = [name for name, execution in executions.items() if "stop" not in execution]
    return {name: json.loads((out / f"{name}.json").read_text()) for name in kept}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def one(dataset: Path, out: Path) -> dict[str, list]:
    """Return the runs on one worker; and stop some that two workers shall resume."""
    executions = {name: name for name in EVERY}
    executions |= {f"{name}:micro": f"{name}:micro" for name in EVERY}
    executions |= {f"{name}:poison": f"{name}:poison" for name in EVERY}
    executions |= {f"{name}:lora": f"{name}:lora" for name in EVERY}
    executions |= {f"{name}:untouched": f"{name}:untouched" for name in POISONED}
    executions |= {f"grow-{name}": f"{name}:stop" for name in ZERO}
    return run(dataset, out, 1, executions)


@pytest.fixture(scope="module")
def two(one: dict[str, list], dataset: Path, out: Path) -> dict[str, list]:
    """Return the runs on two workers, those that one worker began among them; and stop some that one shall resume."""
    executions = {f"two-{name}": name for name in (*EVERY, *CUT)}
    executions |= {f"two-{name}:untouched": f"{name}:untouched" for name in EVERY}
    executions |= {f"grow-{name}": name for name in ZERO}
    executions |= {f"shrink-{name}": f"{name}:stop" for name in ZERO} | {"other": "deepspeed:2:stop"}
    return run(dataset, out, 2, executions)


@pytest.fixture(scope="module")
def shrunk(two: dict[str, list], dataset: Path, out: Path) -> dict[str, list]:
    """Return the runs that two workers began and one ended; one of them under another stage."""
    return run(dataset, out, 1, {f"shrink-{name}": name for name in ZERO} | {"other": "deepspeed:3"})


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY[1:])
def test_every_stage_gives_torchs_losses(one, name):
    assert len(one["torch:0"]) > 30
    assert one[name] == pytest.approx(one["torch:0"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY[1:])
def test_every_stage_gives_torchs_losses_where_parts_are_frozen(one, name):
    assert one["torch:0:lora"][-1] != one["torch:0"][-1]
    assert one[f"{name}:lora"] == pytest.approx(one["torch:0:lora"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_losses_do_not_depend_on_how_a_batch_is_cut(one, name):
    assert one[f"{name}:micro"] != one[name]  # another order of additions, or nothing was cut
    assert one[f"{name}:micro"] == pytest.approx(one[name], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_a_gradient_that_is_not_a_number_never_becomes_a_completed_cell(one, name):
    assert one[f"{name}:poison"] == ["completed", "diverged"]


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "name"), [*((1, name) for name in POISONED), *((2, name) for name in EVERY)])
def test_a_gradient_that_is_not_a_number_moves_neither_weights_nor_optimiser(one, two, name, workers):
    runs, files = (one, 1) if workers == 1 else (two, 2)
    norm, before, after = runs[f"{name}:untouched"] if workers == 1 else runs[f"two-{name}:untouched"]
    assert norm in ("nan", "inf")
    assert (before, after) == (str(files), "0")  # state files that the step before it, and it itself, changed


@pytest.mark.slow
@pytest.mark.parametrize("name", [*EVERY, *CUT])
def test_two_workers_give_the_losses_of_one(one, two, name):
    assert two[f"two-{name}"] == pytest.approx(one["torch:0"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ZERO)
def test_another_number_of_workers_goes_on_as_if_nothing_had_changed(one, two, shrunk, out, name):
    assert two[f"grow-{name}"] == pytest.approx(one["torch:0"], abs=1e-5)
    assert shrunk[f"shrink-{name}"] == pytest.approx(one["torch:0"], abs=1e-5)
    assert "'num_workers': 2" in notes(out / f"shrink-{name}") and "'num_workers': 1" in notes(out / f"grow-{name}")


@pytest.mark.slow
def test_another_stage_goes_on_as_if_nothing_had_changed(one, shrunk, out):
    assert shrunk["other"] == pytest.approx(one["torch:0"], abs=1e-5)
    assert "'zero_stage': 2" in notes(out / "other")


def notes(study: Path) -> str:
    lines = map(json.loads, (study / "curves" / "trunk.jsonl").read_text().splitlines())
    return "\n".join(line["text"] for line in lines if line["phase"] == "note")
