"""SIGKILL at any step and inside any write, fsync, rename or removal: the resumed run is the undisturbed one.

The places tried are spread over the run; BEHAVEGPT_KILL_EVERY=1 tries every one of them (some ten minutes).
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return kill_at.c as a library."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the library that counts writes")
    path = tmp_path_factory.mktemp("library") / "kill_at.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", path, HERE / "kill_at.c", "-ldl"], check=True)
    return path


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize(
    ("execution", "where", "every", "least"),
    [("torch:0", "steps", 8, 40), ("torch:0", "operations", 45, 200), ("deepspeed:1", "steps", 20, 40)],
)
def test_a_killed_run_goes_on_as_if_it_had_not_been_killed(
    library: Path, dataset: Path, tmp_path: Path, execution: str, where: str, every: int, least: int
):
    every = int(os.environ.get("BEHAVEGPT_KILL_EVERY", every))
    command = [sys.executable, HERE / "run_killed.py", library, dataset, tmp_path, execution, where, str(every)]
    environment = os.environ | {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["differing"] == [] and report["tried"] == len(range(1, report["places"] + 1, every))
    assert report["places"] >= least and report["steps"] >= 40
