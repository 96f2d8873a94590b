"""results.parquet: the journal's rows under the shared schema, rebuilt from the cell files alone."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from behavegpt.errors import InputError
from behavegpt.schema import RESULT_SCHEMA, STATUSES
from behavegpt.study import results
from behavegpt.study.config import of_widths
from behavegpt.study.grid import plan_study
from behavegpt.study.journal import record_failure
from behavegpt.study.results import write_results
from behavegpt.train.record import result_row


@pytest.fixture
def study(make_config, manifest, tiny, tmp_path, write_cell):
    """Return a study directory with four completed cells, and its plan."""
    study_dir = tmp_path / "study"
    plan = plan_study(make_config(), manifest, tiny, study_dir)
    for job in plan.jobs:
        for cell in job.cells:
            write_cell(job, cell, loss=3 - cell.num_events / 10_000)
    return study_dir, plan


def test_the_table_has_the_shared_schema_and_every_value_of_the_cell_files(study):
    study_dir, _ = study
    table = write_results(study_dir)
    assert table.schema.equals(RESULT_SCHEMA)
    stored = pq.read_table(study_dir / "results.parquet")
    assert stored.schema.equals(RESULT_SCHEMA)
    assert stored.equals(table)
    rows = {row["cell_id"]: row for row in stored.to_pylist()}
    assert len(rows) == 4
    for path in (study_dir / "cells").iterdir():
        assert rows[path.stem] == json.loads(path.read_text()) | {"loss_seed_sd": None}
    assert {row["loss"] for row in rows.values()} == {2.8, 2.6}


def test_rows_rise_by_params_events_and_seed(make_config, manifest, tiny, tmp_path, write_cell):
    plan = plan_study(make_config(seeds=(2, 1)), manifest, tiny, tmp_path)
    for job in plan.jobs:
        for cell in reversed(job.cells):
            write_cell(job, cell)
    rows = [(r["width"], r["num_events"], r["seed"]) for r in write_results(tmp_path).to_pylist()]
    assert rows == [(w, d, s) for w in (12, 16) for d in (2_000, 4_000) for s in (1, 2)]


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_keeps_its_row(status, make_config, manifest, tiny, tmp_path):
    [job] = plan_study(make_config(sizes=of_widths(12), num_events=(2_000,)), manifest, tiny, tmp_path).jobs
    record_failure(tmp_path, result_row(job, job.cells[0], manifest, status, "why"))
    [row] = write_results(tmp_path).to_pylist()
    assert (row["status"], row["reason"], row["loss"], row["wall_s"]) == (status, "why", None, None)
    # What the cell is stays known: width 12 with 41 behaviour ids, by the published formula (40 classes).
    assert row["num_params"] == 2 * (12 * 144 + 13 * 12) + 24 + (144 + 12 + 12 * 40 + 40)
    assert (row["width"], row["depth"], row["num_events"], row["seed"], row["variant"]) == (12, 2, 2_000, 0, "erm")
    assert row["num_epochs"] == pytest.approx(2_000 / 9_000)
    assert row["batch_events"] == 90
    assert (row["world_size"], row["zero_stage"]) == (1, -1)


def test_the_table_is_rebuilt_from_the_cells_alone(study, tmp_path):
    study_dir, _ = study
    table = write_results(study_dir)
    shutil.copytree(study_dir / "cells", tmp_path / "moved" / "cells")
    assert write_results(tmp_path / "moved").equals(table)
    (study_dir / "results.parquet").write_bytes(b"damaged")
    assert write_results(study_dir).equals(table)
    assert sorted(p.name for p in study_dir.iterdir()) == ["cells", "results.parquet"]


def test_a_study_without_cells_has_an_empty_table(tmp_path):
    table = write_results(tmp_path)
    assert table.num_rows == 0
    assert pq.read_table(tmp_path / "results.parquet").schema.equals(RESULT_SCHEMA)


def test_a_writer_that_dies_leaves_the_old_table(study, monkeypatch):
    study_dir, plan = study
    table = write_results(study_dir)
    (plan.jobs[0].cell_dir / f"{plan.jobs[0].cells[0].cell_id}.json").unlink()

    def die(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", die)
        with pytest.raises(OSError, match=f"No space left on device: '{study_dir / 'results.parquet'}'"):
            write_results(study_dir)
    assert [p.name for p in study_dir.iterdir() if p.name.startswith(".")] == []
    assert pq.read_table(study_dir / "results.parquet").equals(table)
    assert write_results(study_dir).num_rows == 3


def test_an_edited_cell_stops_the_table_and_is_named(study):
    study_dir, plan = study
    table = write_results(study_dir)
    path = plan.jobs[0].cell_dir / f"{plan.jobs[0].cells[0].cell_id}.json"
    path.write_text(path.read_text()[:-10])
    with pytest.raises(InputError, match=path.name):
        write_results(study_dir)
    assert pq.read_table(study_dir / "results.parquet").equals(table)


def test_an_edited_value_of_the_wrong_type_is_named(study):
    study_dir, plan = study
    path = plan.jobs[0].cell_dir / f"{plan.jobs[0].cells[0].cell_id}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"loss": "low"}))
    with pytest.raises(InputError, match=path.name):
        write_results(study_dir)


def noisy(losses: dict[tuple, list[float]]) -> list[dict]:
    """Return completed rows by (variant, num_params, num_events): a seed for each loss."""
    names = ("variant", "num_params", "num_events")
    return [
        dict(zip(names, key, strict=True)) | {"depth": 2, "status": "completed", "loss": loss, "seed": seed}
        for key, values in losses.items()
        for seed, loss in enumerate(values)
    ]


def test_noise_between_seeds_is_pooled_over_sizes_by_hand():
    rows = noisy(
        {
            ("erm", 100, 5): [2.0, 2.2],  # variance 0.02, one degree of freedom
            ("erm", 900, 5): [1.0, 1.1, 1.2],  # variance 0.01, two
            ("erm", 100, 9): [1.5],
            ("cvar-0.5", 100, 5): [3.0, 3.0],
        }
    )
    assert results.seed_noise(rows) == {
        ("erm", 5): pytest.approx(((0.02 + 2 * 0.01) / 3) ** 0.5),
        ("cvar-0.5", 5): 0.0,
    }
    failed = [row | {"status": "diverged", "loss": None} for row in noisy({("erm", 100, 9): [0.0]})]
    assert ("erm", 9) not in results.seed_noise(rows + failed)


def test_every_row_carries_the_noise_of_its_data_size(make_config, manifest, tiny, tmp_path, write_cell):
    plan = plan_study(make_config(seeds=(1, 2)), manifest, tiny, tmp_path)
    for job in plan.jobs:
        for cell in job.cells:
            write_cell(job, cell, loss=2.0 + 0.1 * job.train.seed * (cell.num_events == 2_000))
    table = write_results(tmp_path)
    # Two seeds 0.1 apart: a standard deviation of 0.1 / sqrt(2); none at the other data size.
    expected = {2_000: 0.1 / 2**0.5, 4_000: 0.0}
    for row in table.to_pylist():
        assert row["loss_seed_sd"] == pytest.approx(expected[row["num_events"]])
