"""The ingest job: its output, its exit codes, and what a user who gets something wrong is told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

JOB = Path(__file__).parents[2] / "jobs" / "ingest.py"
MAPPING = ("--user", "user", "--timestamp", "time", "--event", "event")


def run(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(JOB), *map(str, args)]
    env = {**os.environ, "COLUMNS": "300", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    rows = [f"canary-{i % 3},2012-06-{1 + i // 24:02d}T{i % 24:02d}:06Z,e{i % 7}" for i in range(240)]
    path = tmp_path / "log.csv"
    path.write_text("\n".join(["user,time,event", *rows, rows[0], ",2012-06-01T00:00Z,e1"]) + "\n")
    return path


def test_card_is_printed_and_ends_with_the_directory(log: Path, tmp_path: Path) -> None:
    done = run("--input", log, *MAPPING, "--out", tmp_path / "sets" / "toy")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "dataset toy"
    assert lines[-1] == f"wrote {tmp_path / 'sets' / 'toy'}"
    assert [line.split() for line in lines if "rows read" in line] == [["rows", "read", "242"]]
    assert [line.split()[0] for line in lines if "duplicates" in line or "without a user" in line] == ["1", "1"]
    assert "canary" not in done.stdout
    assert (tmp_path / "sets" / "toy" / "manifest.json").is_file()


def test_wrong_input_exits_2_with_every_problem_and_leaves_nothing(log: Path, tmp_path: Path) -> None:
    mapping = ("--user", "usr", "--timestamp", "time", "--event", "event")
    done = run(
        "--input", log, *mapping, "--timezone", "UTCC", "--split", 70, 15, 15, "--out", tmp_path / "sets" / "toy"
    )
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error"] * 3
    assert "Did you mean 'user'?" in lines[0]
    assert "Did you mean 'UTC'?" in lines[1]
    assert "Did you mean 0.7 0.15 0.15?" in lines[2]
    assert list(tmp_path.iterdir()) == [log]


def test_wrong_unit_exits_2_and_names_the_unit_that_fits(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,time,event\n" + "".join(f"u{i % 2},{1_339_437_960_000 + i * 10**6},e\n" for i in range(40)))
    done = run("--input", path, *MAPPING, "--out", tmp_path / "toy")
    assert done.returncode == 2
    assert "pass --time-unit ms" in done.stderr
    assert not (tmp_path / "toy").exists()
    assert run("--input", path, *MAPPING, "--time-unit", "ms", "--out", tmp_path / "toy").returncode == 0


def test_unknown_flag_and_missing_flag_exit_2(log: Path, tmp_path: Path) -> None:
    done = run("--input", log, *MAPPING, "--out", tmp_path / "toy", "--behaviour", "event")
    assert done.returncode == 2
    assert "--behavior" in done.stdout + done.stderr
    done = run("--input", log, "--user", "user", "--event", "event", "--out", tmp_path / "toy")
    assert done.returncode == 2
    assert "--timestamp" in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == [log]


def test_help_explains_every_flag() -> None:
    done = run("--help")
    assert done.returncode == 0
    for words in ("IANA name", "Unit of a numeric time column", "map no column that identifies people"):
        assert words in done.stdout


def test_ingest_needs_neither_torch_nor_ray() -> None:
    code = "import sys, behavegpt.data.ingest, behavegpt.data.card; print({'torch', 'ray'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"
