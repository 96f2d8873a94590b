"""Tables with a known law, and a study's directory with a plan that tries to break out of the report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from analysis.forms import Points
from behavegpt.schema import RESULT_SCHEMA

TRUTH = {"C_N": 12.0, "alpha": 0.5, "C_D": 350.0, "beta": 0.69, "L0": 1.49}
SIZES = (7_500, 16_000, 28_000, 61_000, 107_000, 237_000)
EVENTS = (25_000, 50_000, 100_000, 200_000, 400_000, 800_000)
HOSTILE = "<script>alert(1)</script> | {{ 7*7 }} =cmd [x](javascript:alert(2)) \x1b[31m"


@pytest.fixture(scope="session")
def truth() -> dict[str, float]:
    """Return the law behind `grid`, `noise` apart."""
    return TRUTH


@pytest.fixture(scope="session")
def grid() -> Callable[..., Points]:
    """Return a function that makes the 36 cells of `truth`, with normal noise of a standard deviation."""

    def make(noise: float = 0.0, seed: int = 0) -> Points:
        num_params, num_events = (axis.ravel() for axis in np.meshgrid(SIZES, EVENTS, indexing="ij"))
        model, data = TRUTH["C_N"] / num_params ** TRUTH["alpha"], TRUTH["C_D"] / num_events ** TRUTH["beta"]
        loss = model + data + TRUTH["L0"]
        loss = loss + noise * np.random.default_rng(seed).standard_normal(len(loss))
        return Points(num_params.astype(float), num_events.astype(float), loss)

    return make


@pytest.fixture(scope="session")
def make_study(grid: Callable[..., Points]) -> Callable[[Path], Path]:
    """Return a function that makes a study: 36 completed cells of 6 trunks, three that failed, and a plan."""

    def make(directory: Path) -> Path:
        rows = [_row(at, *cell) for at, cell in enumerate(zip(*grid(0.002)[:3], strict=True))]
        rows.append(rows[0] | {"cell_id": "diverged", "status": "diverged", "loss": 9.0, "reason": HOSTILE})
        rows.append(rows[1] | {"cell_id": "crashed", "status": "crashed", "loss": 0.0, "reason": "worker died"})
        rows.append(rows[2] | {"cell_id": "skipped", "status": "skipped", "loss": None, "reason": None})
        directory.mkdir()
        pq.write_table(pa.Table.from_pylist(rows, schema=RESULT_SCHEMA), directory / "results.parquet")
        (directory / "plan.json").write_text(json.dumps(_plan()))
        return directory

    return make


@pytest.fixture
def study_dir(tmp_path: Path, make_study: Callable[[Path], Path]) -> Path:
    """Return a fresh study."""
    return make_study(tmp_path / "study")


@pytest.fixture(scope="session")
def load_points(shared_dir: Path) -> Callable[..., Points]:
    """Return a function that reads the points of a public table, all rows or those where columns have given values."""

    def load(name: str, **wanted: object) -> Points:
        table = pa_csv.read_csv(shared_dir / "tables" / f"{name}.csv").to_pydict()
        rows = [at for at in range(len(table["N"])) if all(table[key][at] == value for key, value in wanted.items())]
        columns = ["N", "D", "loss" if "loss" in table else "loss_c4_val"]
        epochs = np.array([table["epochs"][at] for at in rows]) if "epochs" in table else np.ones(len(rows))
        N, D, loss = (np.array([table[key][at] for at in rows], float) for key in columns)
        return Points(N, D, loss, np.maximum(epochs, 1.0))

    return load


def _row(at: int, num_params: float, num_events: float, loss: float) -> dict[str, Any]:
    """Return a completed cell; 6.4 FLOPs for each parameter and event."""
    blank: dict[str, Any] = dict.fromkeys(RESULT_SCHEMA.names)
    return blank | {
        "cell_id": f"cell{at:02d}",
        "study": HOSTILE,
        "status": "completed",
        "variant": "erm",
        "num_params": int(num_params),
        "num_events": int(num_events),
        "flops": 6.4 * num_params * num_events,
        "loss": loss,
        "loss_stderr": 0.002,
        "seed": 0,
        "schedule": "wsd",
        "trunk_id": f"trunk-{num_params:.0f}",
        "dataset_fingerprint": "abc123",
        "code_version": "0.1.0",
    }


def _plan() -> dict[str, Any]:
    trunk = {"trunk_id": "t0", "width": 16, "depth": 2, "num_heads": 1, "num_params": 7500, "num_params_total": 39000}
    return {
        "study": HOSTILE,
        "preset": "tiny",
        "config": {"note": HOSTILE, "widths": [16, 24]},
        "dataset": {
            "name": HOSTILE,
            "path": "datasets/habits",
            "fingerprint": "abc123",
            "source": {"kind": "generator", "world_seed": 7},
            "counts": {"rows_read": 2_000_000, "duplicates": 3},
            "cutoffs": {"val": 1_700_000_000},
            "vocabulary_sizes": {"behavior": 41},
            "splits": {"train": {"num_windows": 21_978, "num_targets": 1_978_020, "num_users": 20_000}},
            "floor": {"entropy_nats": 1.4835, "sampled_nats": 1.4873, "sampled_stderr": 0.004, "num_targets": 54_000},
        },
        "trunks": [trunk | {"seed": 0, "num_events": [25_000, 50_000], "flops": 1.2e11}],
    }
