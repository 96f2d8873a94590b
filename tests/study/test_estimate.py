"""What a study is said to cost: memory and time against sums by hand, and the table that people read."""

import os
from dataclasses import replace

import pytest

from behavegpt.errors import InputError
from behavegpt.model.config import for_width
from behavegpt.model.transformer import BehaveGPT
from behavegpt.study import estimate
from behavegpt.study.config import of_widths
from behavegpt.study.estimate import (
    GROUP_START_S,
    check_memory,
    estimate_seconds,
    matmul_flops_per_core,
    memory_bytes,
    plan_lines,
    trunk_seconds,
)
from behavegpt.study.grid import Cost, Plan, plan_study
from behavegpt.train.config import ExecutionConfig


@pytest.fixture
def plan(make_config, manifest, tiny, tmp_path):
    return lambda **changes: plan_study(make_config(**changes), manifest, tiny, tmp_path / "study")


def params(width: int, manifest) -> tuple[int, int]:
    """Return all parameters of the built model, and those outside the lookup tables and positions."""
    model = BehaveGPT(for_width(width, vocabulary_sizes=manifest.vocabulary_sizes))
    total = sum(p.numel() for p in model.parameters())
    return total, total - sum(p.numel() for p in model.embeddings.parameters()) - model.positions.numel()


def test_memory_by_hand(plan, manifest):
    [job] = plan(sizes=of_widths(16)).jobs
    total, _ = params(16, manifest)
    # fp32 weight, gradient and two moments of each parameter. One window of 90 positions, each with 18 values a block
    # and 8 in the backward pass per unit of width, and 4 per class; 4 bytes a value.
    window = 90 * 4 * ((18 * 2 + 8) * 16 + 4 * job.model.num_classes)
    assert memory_bytes(job) == pytest.approx(600e6 + 16 * total + window)
    # 9,000 events end at two windows a batch, which two workers share, or two micro-batches.
    [job] = plan(sizes=of_widths(16), num_events=(9_000,)).jobs
    assert memory_bytes(job) == pytest.approx(600e6 + 16 * total + 2 * window)
    for execution in (ExecutionConfig(num_workers=2), ExecutionConfig(micro_windows=1)):
        assert memory_bytes(replace(job, execution=execution)) == pytest.approx(600e6 + 16 * total + window)


def test_a_plan_that_does_not_fit_is_refused_with_every_trunk(plan):
    planned = plan(execution=ExecutionConfig(memory_gb=0.5))
    with pytest.raises(InputError) as refused:
        check_memory(planned)
    assert len(refused.value.problems) == len(planned.jobs) > 1
    assert all("and has 0.50" in problem for problem in refused.value.problems)
    check_memory(plan(execution=ExecutionConfig(memory_gb=0.7)))


def test_time_of_a_trunk_by_hand(plan, manifest):
    planned = plan(sizes=of_widths(16))
    [job] = planned.jobs
    # Matrix products of a window's forward pass: 24 D^2 a position and block, the scores and weighted values over the
    # 90 x 90 square, and the head with 40 classes.
    forward = 90 * (2 * 24 * 16**2 + 2 * (16**2 + 16 * 40)) + 2 * 4 * 90**2 * 16
    # 51 windows whole, though the branches' last ones hold targets past their ends; twice the 12 validation windows.
    work = 3 * forward * 51 + forward * 12 * 2
    assert planned.costs == (cost := Cost(events=4_470, windows=51, steps=51),)
    assert trunk_seconds(job, cost, manifest, 1e9) == pytest.approx(2 + 51 * 0.006 + work / (0.35 * 1e9))
    three = replace(job, execution=ExecutionConfig(num_workers=3, cpus_per_worker=2))
    assert trunk_seconds(three, cost, manifest, 1e9) == pytest.approx(2 + 51 * 0.006 + work / (0.35 * 6e9))
    fewer = replace(job, train=replace(job.train, num_val_windows=3))
    work = 3 * forward * 51 + forward * 3 * 2
    assert trunk_seconds(fewer, cost, manifest, 1e9) == pytest.approx(2 + 51 * 0.006 + work / (0.35 * 1e9))
    # Two windows a step: steps, windows and events each count for what they cost.
    paired = Cost(events=400, windows=20, steps=10)
    work = 3 * forward * 20 + forward * 12 * 2
    assert trunk_seconds(job, paired, manifest, 1e9) == pytest.approx(2 + 10 * 0.006 + work / (0.35 * 1e9))


@pytest.mark.parametrize(
    ("cores", "execution", "expected"),
    [
        # Trunks of 50, 30, 20 and 10 s: on one core in turn; on two, 50 + 10 beside 30 + 20; on four, side by side. A
        # worker group starts once for all that it trains.
        (1, ExecutionConfig(), 110),
        (2, ExecutionConfig(), 60),
        (4, ExecutionConfig(), 50),
        # Two workers fill both cores, and where one trunk needs more cores than there are, they still come in turn.
        (2, ExecutionConfig(num_workers=2), 110),
        (2, ExecutionConfig(cpus_per_worker=8), 110),
    ],
)
def test_trunks_side_by_side(plan, manifest, monkeypatch, cores, execution, expected):
    seconds = {24: 50.0, 20: 30.0, 16: 20.0, 12: 10.0}
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(estimate, "matmul_flops_per_core", lambda: 1e9)
    monkeypatch.setattr(estimate, "trunk_seconds", lambda job, *_: seconds[job.model.width])
    planned = plan(sizes=of_widths(*seconds), execution=execution)
    assert estimate_seconds(planned, manifest) == GROUP_START_S + expected


def test_nothing_to_train_takes_no_time(manifest):
    assert estimate_seconds(Plan((), ()), manifest) == 0.0


def test_the_machines_rate_is_measured_within_reason():
    assert 1e8 < matmul_flops_per_core() < 1e14


def test_the_table_has_a_line_per_trunk_and_the_totals(plan, manifest):
    planned = plan(seeds=(0, 1))
    head, columns, *lines, sizes, totals, alone, short, shorter, time = plan_lines(planned, manifest, 90.0)
    assert head == f"study test on tiny ({manifest.fingerprint[:12]})"
    assert columns.split() == ["trunk", "N", "total", "params", "cells", "events", "to", "train", "FLOPs", "memory"]
    assert len(lines) == 4
    for line, job in zip(lines, planned.jobs, strict=True):
        total, non_embedding = params(job.model.width, manifest)
        fields = line.split()
        assert fields[:5] == [job.trunk_id, f"{non_embedding:,}", f"{total:,}", "2", "4,470"]
        assert fields[6:] == ["0.6", "GB"]
    assert {len(line) for line in lines} == {len(lines[0])}
    assert sizes == "  D (unique training targets): 2,000, 4,000"
    assert "4 trunks, 8 cells, 17,880 events to train" in totals
    assert totals.endswith(" FLOPs")
    # 4,470 of the 2,000 + 4,000 that two runs train.
    assert alone == "  0.74 of the events that one run per cell would train"
    assert [short.split(",")[0], shorter.split(",")[0]] == ["  note: D = 2", "  note: D = 4"]
    assert time == "  what is missing takes about 1.5 minutes on this machine"
    # 51 windows each; a position of a window costs 6 FLOPs a matrix weight, and the attention besides.
    matrices = {w: 2 * 12 * w**2 + w**2 + w * 40 for w in (12, 16)}
    flops = {w: 51 * (6 * 90 * matrices[w] + 3 * 2 * 4 * 90**2 * w) for w in (12, 16)}
    assert [line.split()[5] for line in lines] == [f"{flops[w]:.2e}" for w in (16, 16, 12, 12)]
    assert totals.split(" FLOPs")[0].split()[-1] == f"{2 * (flops[12] + flops[16]):.2e}"


def test_a_plan_without_notes_ends_with_its_totals_and_the_time(plan, manifest):
    silent = replace(plan(), notes=())
    *_, totals, alone, time = plan_lines(silent, manifest, 6.0)
    assert alone.startswith("  0.74 of")
    assert "2 trunks, 4 cells, 8,940 events to train" in totals
    assert time == "  what is missing takes about 0.1 minutes on this machine"
