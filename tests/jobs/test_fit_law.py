"""The job fit_law: its exit codes, what it prints last, and that wrong input leaves nothing behind."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from analysis import Spending
from behavegpt.errors import InputError, RefusedError

JOB = Path(__file__).parents[2] / "jobs" / "fit_law.py"


@pytest.fixture(scope="module")
def job() -> ModuleType:
    """Return the job as a module."""
    spec = importlib.util.spec_from_file_location("fit_law_job", JOB)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fit_law_job"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def losses(tmp_path: Path) -> Path:
    """Return a table of 30 cells of the law 20 N^-0.5 + 30 D^-0.4 + 1.2, with a small alternating error."""
    lines = ["N,D,loss"]
    for at, (size, events) in enumerate(
        (n, d) for n in (1e4, 3e4, 1e5, 3e5, 1e6) for d in (1e5, 3e5, 1e6, 3e6, 1e7, 3e7)
    ):
        lines.append(f"{size},{events},{20 * size**-0.5 + 30 * events**-0.4 + 1.2 + 0.0005 * (-1) ** (at % 7)}")
    (tmp_path / "losses.csv").write_text("\n".join(lines))
    return tmp_path / "losses.csv"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the job in a process of its own."""
    command = [sys.executable, str(JOB), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def columns(path: Path) -> list[str]:
    """Return the flags that name the table and its columns."""
    return ["--table", str(path), "--params-column", "N", "--events-column", "D", "--loss-column", "loss"]


def test_summary_report_and_exit_0(losses: Path, tmp_path: Path):
    done = run(
        *columns(losses),
        "--out",
        str(tmp_path / "out"),
        "--budget",
        "1e12",
        "--budget",
        "1e13",
        "--gpu-hours",
        "10",
        "--flops-per-second",
        "1e9",
        "--bootstrap",
        "100",
        "--form",
        "separable",
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == str(tmp_path / "out" / "report.html")
    assert Path(lines[-1]).is_file()
    fit = json.loads((tmp_path / "out" / "fit.json").read_text())
    assert fit["parameters"]["alpha"] == pytest.approx(0.5, abs=0.02)
    assert fit["parameters"]["beta"] == pytest.approx(0.4, abs=0.02)
    assert [optimum["flops"] for optimum in fit["optimum"]] == [1e12, 1e13, 3.6e13]
    assert sum(line.startswith("optimum of") for line in lines) == 3


def test_wrong_input_exits_2_with_every_problem_and_no_traceback(losses: Path, tmp_path: Path):
    done = run("--table", str(losses), "--params-column", "M", "--events-column", "D", "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stderr.count("error: ") == 2
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_refused_exits_4_and_still_reports(tmp_path: Path):
    (tmp_path / "t.csv").write_text("N,D,loss\n" + "".join(f"{n},{20 * n},{5 / n + 1}\n" for n in range(1, 9)))
    done = run(*columns(tmp_path / "t.csv"), "--out", str(tmp_path / "out"))
    assert done.returncode == 4
    assert "refused: log N and log D move together" in done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "out" / "report.html")
    assert json.loads((tmp_path / "out" / "fit.json").read_text())["refused"] is True


def test_every_wrong_flag_is_named(job: ModuleType, tmp_path: Path):
    with pytest.raises(InputError) as caught:
        job.Args(
            table=tmp_path,
            out=tmp_path,
            bootstrap=5,
            seed=-1,
            spending=Spending(budget=(1e12, -3.0), money=(5.0,)),
            flops_per_param_event=0.0,
        )
    assert [problem.split()[0] for problem in caught.value.problems] == [
        "--budget",
        "--gpu-hours",
        "--money",
        "--flops-per-param-event",
        "--bootstrap",
        "--seed",
    ]


def test_a_file_in_the_way_of_out_is_told_before_the_fit(job: ModuleType, losses: Path):
    with pytest.raises(InputError, match="is a file"):
        job.main(job.Args(table=losses, out=losses, params_column="N", events_column="D", loss_column="loss"))


def test_two_levels_are_refused(job: ModuleType, tmp_path: Path):
    cells = "".join(f"{n},{d},{1 + 1 / n + 1 / d}\n" for n in (10, 20) for d in (10, 20, 40, 80))
    (tmp_path / "t.csv").write_text("N,D,loss\n" + cells)
    args = job.Args(
        table=tmp_path / "t.csv", out=tmp_path / "o", params_column="N", events_column="D", loss_column="loss"
    )
    with pytest.raises(RefusedError, match="2 distinct levels"):
        job.main(args)


@pytest.mark.real_data
def test_the_chinchilla_table(shared_dir: Path, tmp_path: Path):
    table = shared_dir / "tables" / "chinchilla_kyo_takano.csv"
    done = run(*columns(table), "--method", "huber", "--form", "separable", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    fit = json.loads((tmp_path / "out" / "fit.json").read_text())
    for name, golden in (("L0", 1.784), ("alpha", 0.3426), ("beta", 0.3420)):
        assert fit["parameters"][name] == pytest.approx(golden, abs=0.002)
