"""The whole way from a table to a law: what is refused, what is written, and that both methods stand side by side."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from analysis import fit_law, law_to_json, read_table
from analysis.forms import Parameters


def test_a_studys_law(study_dir: Path, truth: Parameters):
    law = fit_law(read_table(study_dir / "results.parquet"), num_draws=200)
    assert not law.refused
    assert (law.method, law.other, law.n_used, len(law.dropped)) == ("curve_fit", "huber", 36, 3)
    assert law.flops_per_param_event == pytest.approx(6.4)
    assert law.bootstrap is not None
    assert law.bootstrap.num_clusters == 6
    for name, (low, high) in law.intervals().items():
        assert low < getattr(truth, name) < high, name
    assert law.optima[1].flops == pytest.approx(6.4 * 237_000 * 800_000)


def test_failed_cells_do_not_change_the_law(study_dir: Path):
    path = study_dir / "results.parquet"
    with_failures = fit_law(read_table(path), num_draws=0).fit.parameters
    table = pq.read_table(path)
    pq.write_table(table.filter(pc.field("status") == "completed"), path)
    assert fit_law(read_table(path), num_draws=0).fit.parameters == with_failures


def test_fit_json_keeps_its_contract(study_dir: Path):
    written = law_to_json(fit_law(read_table(study_dir / "results.parquet"), num_draws=200, budgets=(1e12,)))
    fit = json.loads(json.dumps(written, allow_nan=False))
    contract = "form method parameters stderr intervals r2 n_used dropped held_out warnings refused reasons"
    assert set(contract.split()) | {"num_params_convention", "optimum"} <= set(fit)
    assert (
        list(fit["parameters"])
        == list(fit["stderr"])
        == list(fit["intervals"])
        == ["C_N", "alpha", "C_D", "beta", "L0"]
    )
    assert fit["refused"] is False
    assert fit["num_params_convention"] == "num_params"
    assert {"cell_id": "crashed", "reason": "crashed: worker died"} in fit["dropped"]
    assert set(fit["held_out"][0]) >= {"rung", "error"}
    (optimum,) = fit["optimum"]
    assert optimum["num_params"] * optimum["num_events"] * 6.4 == pytest.approx(1e12)


def test_a_study_without_completed_cells_is_refused(study_dir: Path):
    path = study_dir / "results.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter(pc.field("status") != "completed"), path)
    law = fit_law(read_table(path))
    assert law.refused
    assert law.fits == {}
    fit = json.loads(json.dumps(law_to_json(law), allow_nan=False))
    assert fit["refused"] is True
    assert fit["parameters"] is None
    assert "Only 0 completed cells" in fit["reasons"][0]


def test_a_law_at_its_bound_is_refused_but_its_numbers_are_kept(tmp_path: Path):
    sizes, events = (axis.ravel() for axis in np.meshgrid([1e4, 1e5, 1e6], [1e5, 1e6, 1e7]))
    columns = {"N": sizes, "D": events, "loss": 3 * sizes**-0.1 + 3 * events**-0.1 - 0.3}
    pa_csv.write_csv(pa.table(columns), tmp_path / "t.csv")
    table = read_table(tmp_path / "t.csv", params_column="N", events_column="D", loss_column="loss")
    law = fit_law(table)
    assert law.refused
    assert law.bootstrap is None
    assert any("L0 is at its bound 0" in reason for reason in law.reasons)
    assert law_to_json(law)["parameters"]["L0"] == pytest.approx(0, abs=1e-3)


@pytest.mark.real_data
def test_farseers_coupling_is_flagged(shared_dir: Path):
    path = shared_dir / "tables" / "farseer.csv"
    table = read_table(path, params_column="N", events_column="D", loss_column="loss")
    law = fit_law(table, method="huber", num_draws=0)
    assert any("Extrapolation misses" in warning for warning in law.warnings)
    assert law.held_out[-1].error > 3 * law.fit.mean_error
