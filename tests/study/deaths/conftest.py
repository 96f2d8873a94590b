"""A Ray head that these tests may kill, and a small study that is run on it as users run theirs."""

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from behavegpt.data.synthetic.generator import GeneratorConfig, write_generated

ROOT = Path(__file__).parents[3]
LOCAL = str(ROOT / "clusters" / "local.sh")
TIMES = ("wall_s", "worker_s", "events_per_s", "started_at", "finished_at")
"""The columns that tell when a cell was trained and how fast; every other one is the same in every run."""


@dataclass
class Head:
    """A head of clusters/local.sh with a folder, a token and ports of its own."""

    state: Path
    environment: dict[str, str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        subprocess.run([LOCAL, "start"], env=self.environment, check=True, timeout=150, capture_output=True)

    def stop(self) -> None:
        for pid in self.processes(rb"raylet/raylet"):
            self.kill(pid)
        subprocess.run([LOCAL, "stop"], env=self.environment, check=True, timeout=60, capture_output=True)
        logs = f"/tmp/ray-{os.getuid()}-{self.environment['BEHAVEGPT_RAY_PORT']}"
        shutil.rmtree(logs, ignore_errors=True)

    def job_environment(self) -> dict[str, str]:
        """Return the environment of a shell that has taken in `local.sh env`."""
        command = ["bash", "-c", f'eval "$({LOCAL} env)" && env -0']
        done = subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True, timeout=60)
        return dict(line.split("=", 1) for line in done.stdout.split("\0") if line)

    def processes(self, command: bytes) -> list[int]:
        """Return this head's live processes whose command line has the pattern: another head may run here too."""
        mine = f"RAY_AUTH_TOKEN_PATH={self.state / 'auth_token'}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                ours = mine in (path / "environ").read_bytes().split(b"\0")
                if ours and re.search(command, (path / "cmdline").read_bytes()):
                    found.append(int(path.name))
        return found

    @staticmethod
    def kill(pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def make_head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Head]]:
    """Return a starter of heads; settings are those of clusters/local.sh."""
    heads = []

    def make(**settings: str) -> Head:
        state = tmp_path_factory.mktemp("head")
        (state / "auth_token").touch(mode=0o600)
        (state / "auth_token").write_text(secrets.token_hex(32))
        names = ("BEHAVEGPT_RAY_PORT", "BEHAVEGPT_DASHBOARD_PORT", "BEHAVEGPT_AGENT_PORT")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        environment |= {"BEHAVEGPT_RAY_STATE": str(state)} | dict(zip(names, _free_ports(3), strict=True)) | settings
        heads.append(Head(state, environment))
        heads[-1].start()
        return heads[-1]

    yield make
    for head in heads:
        head.stop()


def _free_ports(number: int) -> list[str]:
    probes = [socket.socket() for _ in range(number)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [str(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset of 1,500 train windows."""
    out = tmp_path_factory.mktemp("data") / "small"
    config = GeneratorConfig(num_users=100, num_train_events=90 * 1_500, num_val_windows=40, num_test_windows=5)
    write_generated(out, config, "small")
    return out


@dataclass
class Job:
    """jobs/scaling_grid.py on one study directory, run again and again with the same command."""

    dataset: Path
    study_dir: Path
    environment: dict[str, str]
    flags: tuple[str, ...] = ("--widths", "8", "12", "--num-events", "5000", "20000", "100000")
    num_cells: int = 6

    def run(self) -> subprocess.Popen[str]:
        command = [sys.executable, str(ROOT / "jobs" / "scaling_grid.py"), "demo", "--dataset", str(self.dataset)]
        command += ["--study-dir", str(self.study_dir), *self.flags]
        log = self.study_dir.with_suffix(".log").open("a")
        return subprocess.Popen(
            command, env=self.environment, cwd=self.study_dir.parent, stdout=log, stderr=subprocess.STDOUT, text=True
        )

    def log(self) -> str:
        return self.study_dir.with_suffix(".log").read_text()

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of all curves, whole ones only."""
        lines = []
        for path in sorted(self.study_dir.glob("curves/*.jsonl")):
            for line in path.read_text().splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    lines.append(json.loads(line))
        return lines

    def finished_cells(self) -> int:
        return len([p for p in self.study_dir.glob("cells/*.json") if ".failed-" not in p.name])

    def results(self) -> list[dict[str, Any]]:
        """Return the rows of results.parquet without what tells the time."""
        rows = pq.read_table(self.study_dir / "results.parquet").to_pylist()
        return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]

    def litter(self) -> list[str]:
        """Return what a finished study has no use for: locks, half-written files, Ray's own state."""
        names = [str(p.relative_to(self.study_dir)) for p in self.study_dir.rglob("*")]
        return [n for n in names if re.search(r"(^|/)(\.|lock$|ray$)|\.partial", n)]


def wait_for(what: Callable[[], Any], seconds: float, name: str) -> Any:
    """Return what `what` gives once it is true."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {name}"
        time.sleep(0.02)
    return value


@pytest.fixture(name="wait_for", scope="session")
def _wait_for() -> Callable[..., Any]:
    return wait_for


@pytest.fixture(scope="module")
def make_job(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Job]:
    """Return a maker of jobs on the small dataset."""

    def make(name: str, head: Head, **changes: Any) -> Job:
        return Job(small, tmp_path_factory.mktemp(name) / "study", head.job_environment(), **changes)

    return make
