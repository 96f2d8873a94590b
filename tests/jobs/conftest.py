"""A small dataset, and runners of jobs in this process, for the tests of the jobs without a cluster."""

import runpy
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from behavegpt.data.synthetic.generator import GeneratorConfig, write_generated

JOB = Path(__file__).parents[2] / "jobs" / "scaling_grid.py"
SMALL = GeneratorConfig(num_users=40, num_train_events=9_000, num_val_windows=12, num_test_windows=4)


class Done(NamedTuple):
    """What a job left with, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return 9,000 unique training targets."""
    out = tmp_path_factory.mktemp("grid") / "small"
    write_generated(out, SMALL, "small")
    return out


@pytest.fixture
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run_job(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Return a runner of any job in this process: its file, then its arguments."""

    def run(job: Path, *arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", [str(job), *map(str, arguments)])
        code = 0
        try:
            runpy.run_path(str(job), run_name="__main__")
        except SystemExit as left:
            assert isinstance(left.code, int)
            code = left.code
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    return run


@pytest.fixture
def run(cwd: Path, monkeypatch: pytest.MonkeyPatch, run_job: Callable[..., Done]) -> Callable[..., Done]:
    """Return a runner of the job in an empty directory; a run that would train fails before it meets a cluster."""
    monkeypatch.setitem(sys.modules, "behavegpt.study.tuner", None)
    return partial(run_job, JOB)
