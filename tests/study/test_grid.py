"""The plan of a study: its cells, ids that follow the science and nothing else, and costs worked by hand."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from behavegpt.data.manifest import read_manifest
from behavegpt.data.synthetic.generator import GeneratorConfig, write_generated
from behavegpt.errors import InputError
from behavegpt.loss.config import Cvar
from behavegpt.model.config import for_width
from behavegpt.model.transformer import BehaveGPT
from behavegpt.study.config import of_widths
from behavegpt.study.grid import Plan, plan_study
from behavegpt.study.plan_record import plan_record
from behavegpt.train.config import ExecutionConfig


def trunk_ids(plan: Plan) -> list[str]:
    return [job.trunk_id for job in plan.jobs]


def cell_ids(plan: Plan) -> list[str]:
    return [cell.cell_id for job in plan.jobs for cell in job.cells]


@pytest.fixture
def plan(make_config, manifest, tiny, tmp_path):
    """Return a planner of the small study with changes."""
    return lambda **changes: plan_study(make_config(**changes), manifest, tiny, tmp_path / "study")


def test_the_grid_has_every_cell_once_largest_models_first(plan):
    planned = plan(seeds=(0, 7), num_events=(4_000, 2_000))
    assert [(job.model.width, job.train.seed) for job in planned.jobs] == [(16, 0), (16, 7), (12, 0), (12, 7)]
    assert [[c.num_events for c in job.cells] for job in planned.jobs] == [[2_000, 4_000]] * 4
    assert planned.num_cells == 8
    assert len(set(cell_ids(planned))) == 8


def test_a_job_holds_absolute_paths_for_workers_elsewhere(plan, tiny, tmp_path):
    [job] = plan(sizes=of_widths(12)).jobs
    assert job.dataset == tiny.resolve()
    assert job.study_dir == (tmp_path / "study").resolve()
    assert job.keep_final is False


def test_ids_are_the_same_in_every_call_order_and_directory(plan, make_config, manifest, tiny, tmp_path):
    ids = cell_ids(plan())
    assert cell_ids(plan()) == ids
    assert cell_ids(plan(sizes=of_widths(16, 12), num_events=(4_000, 2_000))) == ids
    assert cell_ids(plan_study(make_config(name="other"), manifest, tiny, tmp_path / "elsewhere")) == ids


def test_ids_are_file_names(plan):
    for name in cell_ids(plan()):
        assert name.replace("-", "").isalnum()
        assert ".failed-" not in name


@pytest.mark.parametrize(
    "execution",
    [
        ExecutionConfig(engine="deepspeed"),
        ExecutionConfig(zero_stage=3, num_workers=4),
        ExecutionConfig(cpus_per_worker=8),
        ExecutionConfig(engine="torch", checkpoint_steps=7),
    ],
)
def test_ids_do_not_change_with_the_execution(plan, execution):
    assert cell_ids(plan(execution=execution)) == cell_ids(plan())


def test_gpus_train_in_another_precision_so_their_cells_are_others(plan):
    cpu, gpu = plan(execution=ExecutionConfig()), plan(execution=ExecutionConfig(use_gpu=True))
    assert not set(cell_ids(cpu)) & set(cell_ids(gpu))
    assert [{job.train.precision for job in p.jobs} for p in (cpu, gpu)] == [{"fp32"}, {"bf16"}]
    again = plan(execution=ExecutionConfig(use_gpu=True, zero_stage=2, num_workers=2, checkpoint_steps=9))
    assert cell_ids(again) == cell_ids(gpu)


SCIENCE = [
    {"sizes": of_widths(20, 24)},
    {"sizes": of_widths(12, 16, depth=3)},
    {"rate_factor": 0.5},
    {"seeds": (1,)},
    {"learning_rate": 0.123},
    {"schedule": "cosine"},
    {"schedule": "wsd_independent"},
    {"loss": Cvar(eps=0.5)},
    {"loss": Cvar(eps=0.25)},
    {"loss": Cvar(eps=0.5, ema=0.2)},
    {"num_val_windows": 5},
    {"num_val_windows": 6},
    {"execution": ExecutionConfig(use_gpu=True)},
]


def test_ids_change_with_all_that_changes_a_number(plan):
    plans = [plan(), *(plan(**change) for change in SCIENCE)]
    ids = [name for p in plans for name in cell_ids(p)]
    assert len(ids) == 4 * len(plans)
    assert len(set(ids)) == len(ids)


def test_ids_change_with_the_dataset(make_config, manifest, tiny, tmp_path):
    other = replace(manifest, fingerprint="0" * 64)
    before, after = (plan_study(make_config(), m, tiny, tmp_path) for m in (manifest, other))
    assert not set(cell_ids(before)) & set(cell_ids(after))


def test_wsd_shares_one_trunk_and_its_id_survives_more_data_sizes(plan):
    shared = plan()
    assert len(shared.jobs) == 2
    extended = plan(num_events=(1_000, 2_000, 4_000))
    assert trunk_ids(extended) == trunk_ids(shared)
    assert set(cell_ids(shared)) < set(cell_ids(extended))


@pytest.mark.parametrize("schedule", ["wsd_independent", "cosine"])
def test_other_schedules_share_no_trunk(plan, schedule):
    alone = plan(schedule=schedule)
    assert [[c.num_events for c in job.cells] for job in alone.jobs] == [[4_000], [2_000], [4_000], [2_000]]
    assert len(set(trunk_ids(alone))) == 4
    assert set(cell_ids(alone)) <= set(cell_ids(plan(schedule=schedule, num_events=(1_000, 2_000, 4_000))))


def test_a_data_size_beyond_the_dataset_is_refused_with_what_it_has(plan, tiny):
    assert plan(num_events=(9_000,)).num_cells == 2
    with pytest.raises(InputError) as caught:
        plan(num_events=(2_000, 9_001, 80_000))
    assert [p.split(";")[0] for p in caught.value.problems] == ["num_events has 9,001", "num_events has 80,000"]
    assert all(f"{tiny} has 9,000 unique training targets" in p for p in caught.value.problems)


def test_a_data_size_of_fewer_than_ten_steps_is_refused_with_the_least(plan):
    assert [c.steps for c in plan(num_events=(900,)).costs] == [10, 10]
    with pytest.raises(InputError) as caught:
        plan(num_events=(50, 899, 2_000))
    assert caught.value.problems == (
        "num_events has 50; the least is 900 (10 steps)",
        "num_events has 899; the least is 900 (10 steps)",
    )


def test_data_sizes_that_are_too_small_and_too_large_are_told_together(plan):
    with pytest.raises(InputError) as caught:
        plan(num_events=(50, 9_001))
    assert {p.split(";")[0] for p in caught.value.problems} == {"num_events has 50", "num_events has 9,001"}


def test_a_dataset_without_ten_steps_trains_nothing(make_config, tmp_path):
    config = GeneratorConfig(num_users=5, num_train_events=450, num_val_windows=4, num_test_windows=2)
    five = tmp_path / "five"
    write_generated(five, config, "five windows")
    with pytest.raises(InputError) as caught:
        plan_study(make_config(num_events=(450, 451)), read_manifest(five), five, tmp_path)
    small, large = caught.value.problems
    assert small == f"num_events has 450; {five} is too small for 10 optimiser steps"
    assert large.startswith(f"num_events has 451; {five} has 450 unique training targets")


def test_more_validation_windows_than_there_are_is_refused_with_what_there_is(plan, tiny):
    assert plan(num_val_windows=12).num_cells == 4
    with pytest.raises(InputError) as caught:
        plan(num_val_windows=13, num_events=(50, 2_000))
    assert caught.value.problems == (
        "num_events has 50; the least is 900 (10 steps)",
        f"num_val_windows is 13; {tiny} has 12",
    )


def test_the_record_says_what_each_trunk_is_and_costs(make_config, manifest, tiny, tmp_path, plan):
    config = make_config()
    planned = plan_study(config, manifest, tiny, tmp_path)
    record = plan_record(config, manifest, tiny, planned)
    assert json.loads(json.dumps(record)) == record
    assert record["dataset"]["splits"]["train"] == {"num_windows": 100, "num_targets": 9_000, "num_users": 40}
    assert record["dataset"]["fingerprint"] == manifest.fingerprint
    assert record["dataset"]["path"] == str(tiny)
    for job, trunk in zip(planned.jobs, record["trunks"], strict=True):
        model = BehaveGPT(for_width(trunk["width"], vocabulary_sizes=manifest.vocabulary_sizes))
        tables = sum(p.numel() for p in model.embeddings.parameters()) + model.positions.numel()
        assert trunk["num_params_total"] == sum(p.numel() for p in model.parameters())
        assert trunk["num_params"] == trunk["num_params_total"] - tables
        # Six FLOPs per matrix weight and position; scores and weighted values of two blocks over 90 positions besides.
        matrices = sum(p.numel() for n, p in model.named_parameters() if p.ndim == 2 and n[:4] in ("bloc", "head"))
        flops = 6 * matrices + 2 * 3 * 4 * 90 * trunk["width"]
        assert trunk["flops"] == pytest.approx(flops * 51 * 90, rel=1e-12)
        assert (trunk["trunk_id"], trunk["num_events"], trunk["events_to_train"]) == (
            job.trunk_id,
            [2_000, 4_000],
            4_470,
        )


def test_planning_writes_nothing(plan, tmp_path):
    plan()
    assert list(Path(tmp_path).iterdir()) == []
