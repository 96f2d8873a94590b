"""The plan of a study: its cells, ids that follow the science and nothing else, and costs worked by hand."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from behavegpt.data.generator import GeneratorConfig, write_generated
from behavegpt.data.manifest import read_manifest
from behavegpt.errors import InputError
from behavegpt.loss.dro import DroConfig
from behavegpt.model.config import for_width
from behavegpt.model.transformer import BehaveGPT
from behavegpt.study.grid import Plan, plan_record, plan_study
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
    [job] = plan(widths=(12,)).jobs
    assert job.dataset == tiny.resolve()
    assert job.study_dir == (tmp_path / "study").resolve()
    assert job.keep_final is False


def test_ids_are_the_same_in_every_call_order_and_directory(plan, make_config, manifest, tiny, tmp_path):
    ids = cell_ids(plan())
    assert cell_ids(plan()) == ids
    assert cell_ids(plan(widths=(16, 12), num_events=(4_000, 2_000))) == ids
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
        ExecutionConfig(cpus_per_worker=8, use_gpu=True),
    ],
)
def test_ids_do_not_change_with_the_execution(plan, execution):
    assert cell_ids(plan(execution=execution)) == cell_ids(plan())


SCIENCE = [
    {"widths": (20, 24)},
    {"depth": 3},
    {"seeds": (1,)},
    {"learning_rate": 0.123},
    {"schedule": "cosine"},
    {"schedule": "wsd_independent"},
    {"dro": DroConfig(eps=0.5)},
    {"dro": DroConfig(eps=0.25)},
    {"dro": DroConfig(eps=0.5, ema=0.2)},
    {"num_val_windows": 5},
    {"num_val_windows": 6},
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


def test_events_and_steps_of_a_trunk_by_hand(plan):
    # Windows of 90 targets, one a step below 8,000 events. The branch to 2,000 leaves at the last step boundary up to
    # 1,600 (17 steps, 1,530 events) and takes 6 more steps, the last one cut: 23 x 90 = 2,070. The branch to 4,000
    # leaves at the last one up to 3,200 (35 steps, 3,150 events) and ends in step 45 (4,050).
    shared = plan(widths=(12,))
    assert shared.events == (1_530 + (2_000 - 1_530) + (3_150 - 1_530) + (4_000 - 3_150),) == (4_470,)
    assert shared.steps == (17 + 6 + 18 + 10,)
    # Two windows a step from 8,010 events (89 windows) on: the 11 windows left make 6 steps, the last one of a single
    # window. The branch to 9,000 leaves at 7,200 = 80 x 90 exactly.
    whole = plan(widths=(12,), num_events=(9_000,))
    assert whole.events == (7_200 + 1_800,)
    assert whole.steps == (80 + 9 + 6,)


@pytest.mark.parametrize("schedule", ["wsd_independent", "cosine"])
def test_events_and_steps_of_runs_of_their_own_by_hand(plan, schedule):
    alone = plan(widths=(12,), schedule=schedule)
    assert alone.events == (4_000, 2_000)
    assert alone.steps == (45, 23)


def test_a_data_size_beyond_the_dataset_is_refused_with_what_it_has(plan, tiny):
    assert plan(num_events=(9_000,)).num_cells == 2
    with pytest.raises(InputError) as caught:
        plan(num_events=(2_000, 9_001, 80_000))
    assert [p.split(";")[0] for p in caught.value.problems] == ["num_events has 9,001", "num_events has 80,000"]
    assert all(f"{tiny} has 9,000 unique training targets" in p for p in caught.value.problems)


def test_a_data_size_of_fewer_than_ten_steps_is_refused_with_the_least(plan):
    assert plan(num_events=(900,)).steps == (10, 10)
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
    write_generated(tmp_path / "five", config, "five windows")
    with pytest.raises(InputError):
        plan_study(make_config(num_events=(450,)), read_manifest(tmp_path / "five"), tmp_path / "five", tmp_path)


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
        # Six FLOPs per matrix weight and event; scores and weighted values of two blocks over 90 positions besides.
        matrices = sum(p.numel() for n, p in model.named_parameters() if p.ndim == 2 and n[:4] in ("bloc", "head"))
        flops = 6 * matrices + 2 * 3 * 4 * 90 * trunk["width"]
        assert trunk["flops"] == pytest.approx(flops * 4_470, rel=1e-12)
        assert (trunk["trunk_id"], trunk["num_events"], trunk["events_to_train"]) == (
            job.trunk_id,
            [2_000, 4_000],
            4_470,
        )


def test_planning_writes_nothing(plan, tmp_path):
    plan()
    assert list(Path(tmp_path).iterdir()) == []
