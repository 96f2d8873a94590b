"""The notebooks run from top to bottom in kernels of their own, and say what they must; nothing stays behind."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavegpt.schema import RESULT_SCHEMA

jupytext = pytest.importorskip("jupytext", reason="the notebooks extra is not installed")
nbclient = pytest.importorskip("nbclient", reason="the notebooks extra is not installed")
pytest.importorskip("ipykernel", reason="the notebooks extra is not installed")

NOTEBOOKS = Path(__file__).parents[2] / "analysis" / "notebooks"
CELL_S, NOTEBOOK_S = 120, 240
pytestmark = [pytest.mark.slow, pytest.mark.timeout(NOTEBOOK_S)]


@pytest.fixture
def execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that runs a notebook in a fresh folder with parameters, and returns all that it printed."""
    work = tmp_path / "work"
    work.mkdir()
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR", "TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")

    def run(name: str, **parameters: Any) -> str:
        notebook = jupytext.read(NOTEBOOKS / f"{name}.py")
        [tagged] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
        known = {line.split(" = ")[0] for line in tagged.source.splitlines() if " = " in line}
        assert set(parameters) <= known
        tagged.source += "".join(f"\n{key} = {value!r}" for key, value in parameters.items())
        client = nbclient.NotebookClient(
            notebook, timeout=CELL_S, startup_timeout=60, kernel_name="python3", resources={"metadata": {"path": work}}
        )
        client.execute()
        # A kernel's connection file goes when it has ended.
        for folder in (work, tmp_path / "TMPDIR", tmp_path / "JUPYTER_RUNTIME_DIR"):
            assert list(folder.iterdir()) == []
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        pictures = sum("image/svg+xml" in output.get("data", {}) for output in outputs)
        return "".join(output.get("text", "") for output in outputs) + f"\n{pictures} pictures"

    return run


@pytest.fixture
def lame_study(make_study: Callable[[Path], Path], tmp_path: Path) -> Path:
    """Return a study of two variants, the first with a crashed, a diverged and a running cell and one not begun."""
    study = make_study(tmp_path / "lame")
    plan = json.loads((study / "plan.json").read_text())
    trunk = {"trunk_id": "trunk-late", "variant": "erm", "num_params": 237_000, "seed": 1}
    waiting = trunk | {"trunk_id": "trunk-later", "num_events": [50_000]}
    (study / "plan.json").write_text(json.dumps(plan | {"trunks": [trunk | {"num_events": [800_000]}, waiting]}))
    (study / "curves").mkdir()
    lines = [{"phase": "trunk", "num_events": at, "loss": 3.0, "time": 1e9 + at} for at in (100_000, 200_000)]
    (study / "curves" / "trunk-late.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    rows = pq.read_table(study / "results.parquet").to_pylist()
    rows += [
        row | {"variant": "cvar-0.5", "cell_id": f"cvar-{row['cell_id']}", "loss": row["loss"] + 0.1}
        for row in rows
        if row["status"] == "completed"
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=RESULT_SCHEMA), study / "results.parquet")
    return study


def test_a_study_with_a_failed_a_diverged_and_a_running_cell(execute: Callable[..., str], lame_study: Path):
    said = execute("study", STUDY_DIR=str(lame_study), NUM_DRAWS=100)
    # 36 completed of each variant, then a diverged, a crashed, a skipped, a running cell and one that has not begun.
    assert "77 cells: 72 completed" in said
    told = {line.split()[0]: line for line in said.splitlines() if line.startswith("  ")}
    assert "diverged" in told["diverged"].split()[1]
    assert told["crashed"].split()[1:] == ["crashed", "worker", "died"]
    assert told["trunk-late-d800000"].split()[1:] == ["running", "200,000", "of", "800,000", "events"]
    assert told["trunk-later-d50000"].split()[1:] == ["not", "begun"]
    assert "== erm" in said
    assert "== cvar-0.5: loss" in said
    assert int(said.split()[-2]) >= 9


def test_a_law_from_a_table_and_the_refusals_of_bad_ones(execute: Callable[..., str]):
    said = execute("public_table", NUM_DRAWS=200)
    for name in ("C_N", "alpha", "C_D", "beta", "L0"):
        line = next(line for line in said.splitlines() if line.startswith(f"{name} ") and "stated" in line)
        assert line.endswith("inside"), line
    assert "log N and log D move together" in said
    assert "N, the number of parameters, has 2 distinct levels" in said
    assert "row 2: N is -2e+07" in said
    assert "row 3: loss is 0" in said


def test_a_law_from_a_table_of_ones_own(execute: Callable[..., str], tmp_path: Path):
    cells = [(n, d, 12 / n**0.5 + 350 / d**0.69 + 1.49) for n in (1e4, 4e4, 16e4) for d in (5e4, 1e5, 2e5, 4e5)]
    (tmp_path / "own.csv").write_text("size,tokens,nll\n" + "".join(f"{n},{d},{loss}\n" for n, d, loss in cells))
    columns = {"params_column": "size", "events_column": "tokens", "loss_column": "nll"}
    said = execute("public_table", TABLE=str(tmp_path / "own.csv"), COLUMNS=columns, NUM_DRAWS=100)
    assert "own.csv: 12 cells, 0 left out" in said
    assert "stated" not in said.split("refused")[0]


def test_planning_answers_in_flops_hours_and_money(execute: Callable[..., str]):
    said = execute("planning", NUM_DRAWS=200)
    # 16 GPU-hours at 4e14 FLOP/s; 500 of money buys 200 hours at 2.5 each.
    assert "16.0 GPU-hours at 4e14 FLOP/s = 2.3e+19 FLOPs" in said
    assert "500 of money, 2.50 a GPU-hour at 4e14 FLOP/s = 2.9e+20 FLOPs" in said
    assert said.count("half +") == said.count("double +") == 3
    assert "nan" not in said
    # N* = (0.34 A / 0.28 B)^(1 / 0.62) (C / 6)^(0.28 / 0.62) of the stated law at C = 1e21: 1.345 x 1.357e9.
    best = float(re.findall(r"N\* ([\d,]+)", said)[0].replace(",", ""))
    assert best == pytest.approx(1.82e9, rel=0.3)
    ratios = {line.split()[0]: line for line in said.splitlines() if "D*/N*" in line and not line.startswith("  ")}
    assert set(ratios) == {"N", "N_total"}
    [now] = re.findall(r"interval now ([\d.]+)%", said)
    then = [float(width) for width in re.findall(r"interval then ([\d.]+)%", said)]
    assert len(then) == 5
    assert [float(now), *then] == sorted([float(now), *then], reverse=True)


def test_every_notebook_is_executed_here():
    assert {path.stem for path in NOTEBOOKS.iterdir()} == {"study", "public_table", "planning"}
