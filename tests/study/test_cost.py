"""What is left to train, by hand: events, windows and steps of a plan, FLOPs by the windows, notes on short runs."""

import json
from dataclasses import replace

import pytest
import torch

from behavegpt.data.manifest import read_manifest
from behavegpt.data.stream import local_tables
from behavegpt.data.synthetic.generator import GeneratorConfig, write_generated
from behavegpt.study.config import of_widths
from behavegpt.study.estimate import plan_lines
from behavegpt.study.grid import Cost, cost, plan_study, resolve
from behavegpt.study.plan_record import plan_record
from behavegpt.train import loop, robust
from behavegpt.train.config import ExecutionConfig
from behavegpt.train.record import result_row


@pytest.fixture
def plan(make_config, manifest, tiny, tmp_path):
    """Return a planner of the small study with changes."""
    return lambda **changes: plan_study(make_config(**changes), manifest, tiny, tmp_path / "study")


def test_events_and_steps_of_a_trunk_by_hand(plan):
    # Windows of 90 targets, one a step below 8,000 events. The branch to 2,000 leaves at the last step boundary up to
    # 1,600 (17 steps, 1,530 events) and takes 6 more steps, the last one cut: 23 x 90 = 2,070. The branch to 4,000
    # leaves at the last one up to 3,200 (35 steps, 3,150 events) and ends in step 45 (4,050).
    shared = plan(sizes=of_widths(12))
    [job], [costs] = shared.jobs, shared.costs
    assert costs.events == 1_530 + (2_000 - 1_530) + (3_150 - 1_530) + (4_000 - 3_150) == 4_470
    assert costs.steps == costs.windows == 17 + 6 + 18 + 10
    assert [cell.num_windows for cell in job.cells] == [23, 45]
    # Two windows a step from 8,010 events (89 windows) on: the 11 windows left make 6 steps, the last one of a single
    # window. The branch to 9,000 leaves at 7,200 = 80 x 90 exactly.
    whole = plan(sizes=of_widths(12), num_events=(9_000,))
    assert whole.costs == (Cost(events=7_200 + 1_800, windows=100, steps=80 + 9 + 6),)
    assert [cell.num_windows for cell in whole.jobs[0].cells] == [100]
    # 8,100 events fill 90 windows: the step that ends there would take two, and takes the first alone. The branch
    # leaves at 6,480 = 72 x 90.
    even = plan(sizes=of_widths(12), num_events=(8_100,))
    assert even.costs == (Cost(events=8_100, windows=90, steps=72 + 17 + 1),)
    assert [cell.num_windows for cell in even.jobs[0].cells] == [90]


def test_a_trunk_that_is_saved_on_the_way_costs_the_same(plan):
    often = plan(execution=ExecutionConfig(checkpoint_steps=1))
    assert often.costs == plan().costs


def test_checkpoints_save_what_lies_before_them_by_hand(plan, make_config, manifest, tiny):
    [job] = plan(sizes=of_widths(12)).jobs
    _, steps, _ = resolve(make_config(sizes=of_widths(12)), manifest, tiny)
    # Both branches from their forks: 6 and 10 steps.
    assert cost(job, steps, {17, 35}) == Cost(events=470 + 850, windows=16, steps=16)
    # The fork of the larger cell does not help the smaller one, which comes first.
    assert cost(job, steps, {35}) == Cost(events=2_000 + 850, windows=33, steps=33)
    assert cost(job, steps, {17}) == Cost(events=470 + 1_620 + 850, windows=34, steps=34)
    # Five steps of the trunk (450 events) are behind, whatever lies past the forks.
    assert cost(job, steps, {5, 90}) == Cost(events=4_470 - 450, windows=46, steps=46)
    large = replace(job, cells=job.cells[1:])
    assert cost(large, steps, {17, 20}) == Cost(events=4_000 - 1_800, windows=25, steps=25)


@pytest.mark.parametrize("schedule", ["wsd_independent", "cosine"])
def test_events_and_steps_of_runs_of_their_own_by_hand(plan, schedule):
    alone = plan(sizes=of_widths(12), schedule=schedule)
    assert alone.costs == (Cost(events=4_000, windows=45, steps=45), Cost(events=2_000, windows=23, steps=23))


def test_flops_are_those_of_the_windows_where_few_events_have_a_behaviour(make_config, sparse, tmp_path):
    manifest = read_manifest(sparse)
    planned = plan_study(make_config(sizes=of_widths(16), num_events=(140, 701)), manifest, sparse, tmp_path)
    [job], [costs] = planned.jobs, planned.costs
    # Seven targets a window and one window a step: 140 targets are in 20 windows, 701 in 101. The branches leave at 112
    # (16 steps) and 560 (80 steps) exactly.
    assert [cell.num_windows for cell in job.cells] == [20, 101]
    assert costs == Cost(events=112 + 28 + 448 + 141, windows=16 + 4 + 64 + 21, steps=105)
    # A window's products, forward: 24 D^2 a position and block, scores and weighted values over the 90 x 90 square of
    # two blocks, the head with 4 classes (3 known behaviours and `other`). A training step is three of these.
    window = 3 * (90 * (2 * 24 * 16**2 + 2 * (16**2 + 16 * 4)) + 2 * 4 * 90**2 * 16)
    rows = [result_row(job, cell, manifest, "completed") for cell in job.cells]
    assert [row["flops"] for row in rows] == [20 * window, 101 * window]
    # By the targets alone it would be a thirteenth.
    assert rows[0]["flops"] / (140 * window / 90) == pytest.approx(90 / 7)
    record = plan_record(make_config(sizes=of_widths(16)), manifest, sparse, planned)
    assert record["trunks"][0]["flops"] == 105 * window
    [line] = [line for line in plan_lines(planned, manifest, 0.0) if job.trunk_id in line]
    assert line.split()[4:6] == ["729", f"{105 * window:.2e}"]


def test_a_cell_computes_on_the_windows_that_it_counts(make_config, sparse, tmp_path, monkeypatch):
    plan = plan_study(make_config(sizes=of_widths(4), num_events=(150,)), read_manifest(sparse), sparse, tmp_path)
    seen, real = [], robust.token_losses
    monkeypatch.setattr(
        robust, "token_losses", lambda logits, targets: seen.append(len(targets)) or real(logits, targets)
    )
    [job] = plan.jobs
    loop.train_trunk(job, local_tables, torch.device("cpu"))
    # 150 = 21 x 7 + 3.
    assert sum(seen) == job.cells[0].num_windows == plan.costs[0].windows == 22
    [path] = job.cell_dir.iterdir()
    window = 3 * (90 * (2 * 24 * 4**2 + 2 * (4**2 + 4 * 4)) + 2 * 4 * 90**2 * 4)
    assert json.loads(path.read_text())["flops"] == 22 * window


def test_a_cell_that_decays_within_the_warm_up_is_noted(plan, make_config, tmp_path):
    # Forks at steps 17 and 35 (see above) are within the 100 steps of warm-up.
    assert [(n.split()[3], n.split(" at step ")[1].split(",")[0]) for n in plan(num_events=(4_000, 2_000)).notes] == [
        ("2,000", "17"),
        ("4,000", "35"),
    ]
    config = GeneratorConfig(num_users=40, num_train_events=18_000, num_val_windows=4, num_test_windows=2)
    write_generated(tmp_path / "more", config, "more")
    large = make_config(num_events=(12_000, 12_600))
    planned = plan_study(large, read_manifest(tmp_path / "more"), tmp_path / "more", tmp_path / "study")
    # 89 steps of one window (8,010 events), then 180 events each: step 99 at 9,810, step 100 at 9,990. Four fifths of
    # 12,000 are 9,600 (step 97 at 9,450), of 12,600 10,080 (step 100): no longer within the warm-up.
    [note] = planned.notes
    assert note.startswith("note: D = 12,000 begins its decay at step 97, within the 100 steps of warm-up: ")
