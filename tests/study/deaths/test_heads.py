"""Two heads on one machine: a submitted job belongs to the one that it was submitted to."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Head


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_a_job_runs_where_it_was_submitted_though_a_newer_head_runs(ray_cluster: str, make_head: Callable[..., Head]):
    make_head()
    submit = [str(Path(sys.executable).parent / "ray"), "job", "submit", "--", "printenv", "RAY_ADDRESS"]
    done = subprocess.run(submit, env=os.environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    port = os.environ["RAY_ADDRESS"].rpartition(":")[2]
    assert [line for line in done.stdout.splitlines() if line.endswith(f":{port}")], done.stdout
