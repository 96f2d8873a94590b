"""The whole way from a table to a law: what is refused, what is written, and that both methods stand side by side."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from analysis import Flops, fit_law, law_to_json, read_table


def test_a_studys_law(study_dir: Path, truth: dict[str, float]):
    law = fit_law(read_table(study_dir / "results.parquet"), form="separable", num_draws=200)
    assert not law.refused
    assert (law.method, law.other, law.n_used, len(law.dropped)) == ("curve_fit", "huber", 36, 3)
    assert law.flops_per_param_event == pytest.approx(6.4)
    assert law.spread is not None
    assert law.spread.draws.num_clusters == 6
    assert law.calibration is not None
    assert 0.9 <= law.calibration.coverage <= 1
    for name, (low, high) in law.intervals().items():
        assert low < truth[name] < high, name
    assert law.optima[1].flops == pytest.approx(6.4 * 237_000 * 800_000)


def test_failed_cells_do_not_change_the_law(study_dir: Path):
    path = study_dir / "results.parquet"
    with_failures = fit_law(read_table(path), num_draws=0).fit.parameters
    table = pq.read_table(path)
    pq.write_table(table.filter(pc.field("status") == "completed"), path)
    assert fit_law(read_table(path), num_draws=0).fit.parameters == with_failures


def test_fit_json_keeps_its_contract(study_dir: Path):
    table = read_table(study_dir / "results.parquet")
    written = law_to_json(fit_law(table, form="separable", num_draws=200, budgets=[Flops(1e12)]))
    fit = json.loads(json.dumps(written, allow_nan=False))
    contract = "form formula method parameters stderr intervals r2 n_used dropped held_out warnings refused reasons"
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
    law = fit_law(table, form="separable")
    assert law.refused
    assert law.spread is None
    assert any("L0 is at its bound 0" in reason for reason in law.reasons)
    assert law_to_json(law)["parameters"]["L0"] == pytest.approx(0, abs=1e-3)


def test_the_form_is_chosen_and_said(study_dir: Path):
    law = fit_law(read_table(study_dir / "results.parquet"), num_draws=0)
    assert law.contest is not None
    assert law.contest.why.startswith(f"{law.form.name}, by its error on dearer cells")
    assert law_to_json(law)["why_this_form"] == law.contest.why
    assert set(law.contest.errors) >= {"tied", "separable", "coupled"}


def test_every_answer_under_each_counting(study_dir: Path):
    path = study_dir / "results.parquet"
    rows = pq.read_table(path)
    # Embeddings of 5,000 parameters in every model: the exponent of N as a whole is another.
    counts = [None if n is None else n + 5_000 for n in rows.column("num_params").to_pylist()]
    at = rows.schema.get_field_index("num_params_total")
    pq.write_table(rows.set_column(at, "num_params_total", pa.array(counts, pa.int64())), path)
    law = fit_law(read_table(path), form="separable", num_draws=100, budgets=[Flops(1e11), Flops(1e12)])
    (total,) = law.countings
    assert total.num_params == "num_params_total"
    assert [best.flops for best in total.optima] == [1e11, 1e12]
    assert total.fit.parameters["alpha"] > 1.1 * law.fit.parameters["alpha"]
    assert total.optima[1].num_params_interval is not None
    # FLOPs are those of the table, so k is smaller for the larger count.
    assert total.flops_per_param_event < law.flops_per_param_event == pytest.approx(6.4)
    other = read_table(path, params_column="num_params_total")
    assert any("Embeddings counted" in why for why in fit_law(other, form="separable", num_draws=0).warnings)


def test_one_size_gives_a_law_of_events_alone(study_dir: Path):
    path = study_dir / "results.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter(pc.field("num_params") == 7500), path)
    assert fit_law(read_table(path)).refused
    law = fit_law(read_table(path), form="events", num_draws=100)
    assert not law.refused
    assert law.fit.parameters["exponent"] == pytest.approx(0.69, abs=0.1)
    assert law.optima == ()


def test_repeats_are_told_from_data(tmp_path: Path):
    sizes, unique, epochs = (
        axis.ravel() for axis in np.meshgrid([1e4, 3e4, 1e5, 3e5], [1e5, 1e6, 1e7], [1.0, 4.0, 16.0])
    )
    repeated = unique * (1 + 10 * (1 - np.exp(-(epochs - 1) / 10)))
    loss = 40 * sizes**-0.4 + 40 * repeated**-0.4 + 1.5
    pa_csv.write_csv(pa.table({"N": sizes, "D": unique * epochs, "U": unique, "loss": loss}), tmp_path / "t.csv")
    names = {"params_column": "N", "events_column": "D", "loss_column": "loss"}
    law = fit_law(read_table(tmp_path / "t.csv", unique_column="U", **names), num_draws=0)
    assert law.form.name == "repeats"
    blind = fit_law(read_table(tmp_path / "t.csv", unique_column="U", **names), form="separable", num_draws=0)
    assert any("Repeats are counted as data in 24 cells" in warning for warning in blind.warnings)
