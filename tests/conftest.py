"""Fixtures that every stage's tests share: the real logs, and one local Ray cluster for the whole session."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RAY_STATE = Path(tempfile.mkdtemp(prefix="behavegpt-tests-"))


def pytest_configure() -> None:
    """Make the token before anything touches Ray, which reads it once and for all."""
    token = RAY_STATE / "auth_token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}


def pytest_unconfigure() -> None:
    shutil.rmtree(RAY_STATE, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Return the folder with real logs (data/) and scaling tables (tables/), or skip the test."""
    root = Path(os.environ.get("BEHAVEGPT_SHARED", Path(__file__).parents[2] / "shared"))
    if not (root / "data").is_dir():
        pytest.skip(f"real logs and tables are not at {root}; set BEHAVEGPT_SHARED to their folder")
    return root


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """Start a head as users do, on free ports beside any other; return the dashboard's address."""
    ports = free_ports(3)
    names = ("BEHAVEGPT_RAY_PORT", "BEHAVEGPT_DASHBOARD_PORT", "BEHAVEGPT_AGENT_PORT")
    settings = {"BEHAVEGPT_RAY_STATE": str(RAY_STATE)} | dict(zip(names, ports, strict=True))
    local = [str(ROOT / "clusters" / "local.sh")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | settings
    subprocess.run([*local, "start"], env=environment, check=True, timeout=120)
    try:
        exports = subprocess.run([*local, "env"], env=environment, check=True, capture_output=True, text=True).stdout
        values = dict(line.removeprefix("export ").split("=", 1) for line in exports.splitlines())
        os.environ |= {name: value for name, value in values.items() if name.startswith("RAY_")}
        import ray

        ray.init(log_to_driver=False)
        yield f"http://127.0.0.1:{ports[1]}"
        ray.shutdown()
    finally:
        subprocess.run([*local, "stop"], env=environment, check=True, timeout=120)
        shutil.rmtree(f"/tmp/ray-{os.getuid()}-{ports[0]}", ignore_errors=True)  # its logs


def free_ports(number: int) -> list[str]:
    """Return ports of the loopback that nobody listens on now."""
    probes = [socket.socket() for _ in range(number)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [str(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports
