"""Data sizes of each model by hand: multiples of N, budgets of FLOPs, and the grid that a total budget buys."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from behavegpt.data.synthetic.config import GeneratorConfig
from behavegpt.errors import InputError
from behavegpt.loss.config import Cvar
from behavegpt.study import ladder
from behavegpt.study.axes import data_sizes, grid_within, iso_flop_sizes, model_of
from behavegpt.study.config import Size, StudyConfig, Variant, of_widths
from behavegpt.study.grid import plan_study
from behavegpt.study.request import GridRequest, answer, least_after_warm_up, outline, within_budgets

SIZES = {"weekday": 8, "slot": 49, "location": 2_002, "event": 116, "behavior": 41}


def params(width: int, depth: int = 2) -> int:
    """Return N with 40 classes: blocks, last norm, head."""
    return depth * (12 * width**2 + 13 * width) + 2 * width + width**2 + width + 40 * width + 40


def flops(width: int, depth: int = 2) -> int:
    """Return the training FLOPs of a window: three forward passes of two FLOPs a weight, and of the attention."""
    return 3 * (90 * 2 * (12 * depth * width**2 + width**2 + 40 * width) + depth * 4 * 90**2 * width)


def study(**axes) -> StudyConfig:
    return replace(ladder.demo(), **({"num_events": ()} | axes))


def test_the_shape_of_a_size_is_the_models():
    model = model_of(Size(width=768, depth=12, num_heads=12), SIZES)
    assert (model.width, model.depth, model.num_heads, model.head_width) == (768, 12, 12, 64)
    assert model_of(Size(width=48), SIZES).num_heads == 3


def test_multiples_of_n_are_those_of_the_parameters_outside_the_tables():
    config = study(events_per_param=(10, 0.5, 1))
    full = np.full(7, 90, np.uint8)
    for width in (8, 16):
        expected = tuple(round(k * params(width)) for k in (0.5, 1, 10))
        assert data_sizes(config, model_of(Size(width=width), SIZES), full) == expected


def test_a_budget_buys_the_targets_of_the_windows_that_it_computes():
    targets = np.array([90, 10, 0, 50, 90], np.uint8)
    model = model_of(Size(width=8), SIZES)
    config = study(flop_budgets=(4.9 * flops(8), 2 * flops(8), 0.5 * flops(8)))
    # Two windows hold 100 targets, four 150; half a window is none.
    assert data_sizes(config, model, targets) == (100, 150)
    # Beyond the dataset, windows of 48 targets, the average.
    assert data_sizes(study(flop_budgets=(10 * flops(8),)), model, targets) == (240 + 5 * 48,)


def test_iso_flop_sizes_have_about_twenty_events_a_parameter():
    budget = 2e10
    chosen = iso_flop_sizes((budget,), SIZES, 90.0)
    ratios = {w: budget / flops(w) * 90 / params(w) for w in (8, 12, 16, 24, 32, 48, 64, 96, 128)}
    assert [size.width for size in chosen] == [w for w, ratio in ratios.items() if 1.25 <= ratio <= 320]
    assert min(ratios[s.width] for s in chosen) < 20 < max(ratios[s.width] for s in chosen)
    more = iso_flop_sizes((budget, 16 * budget), SIZES, 90.0)
    assert {s.width for s in more} > {s.width for s in chosen}
    # A third of the targets in a window: the same FLOPs go to smaller models.
    assert iso_flop_sizes((budget,), SIZES, 30.0)[-1].width < chosen[-1].width
    with pytest.raises(InputError, match="flop_budgets has 1; no width from 8 to 1024"):
        iso_flop_sizes((1.0, budget), SIZES, 90.0)


def within(budget: float, *, available: int = 10**9, config: StudyConfig | None = None) -> StudyConfig:
    return grid_within(
        config or study(num_events=(1,)), budget, SIZES, events_per_window=90.0, available=available, least=10_000
    )


def price(config: StudyConfig) -> float:
    """Return the FLOPs of shared trunks and their decays."""
    events = 0.8 * max(config.num_events) + 0.2 * sum(config.num_events)
    return events * sum(flops(size.width) / 90 for size in config.sizes) * len(config.seeds)


@pytest.mark.parametrize("budget", [1e11, 1e12, 1e13, 1e15])
def test_a_total_budget_buys_a_grid_that_no_axis_can_widen(budget):
    config = within(budget)
    assert price(config) <= budget
    events, widths = list(config.num_events), [size.width for size in config.sizes]
    assert [b / a for a, b in pairwise(events)] == [2.0] * (len(events) - 1)
    assert (events[0], widths[:4]) == (10_000, [8, 12, 16, 24])
    ladder_of = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
    following = Size(width=ladder_of[len(widths)])
    assert price(replace(config, num_events=(*events, 2 * events[-1]))) > budget
    assert price(replace(config, sizes=(*config.sizes, following))) > budget
    # Neither axis is left behind by more than a step of the other: N grows by at most 2.4, D by 2.
    arms = params(widths[-1]) / params(widths[0]), events[-1] / events[0]
    assert max(arms) / min(arms) < 8


def test_a_total_budget_ends_where_the_dataset_does_and_counts_seeds_and_variants():
    assert within(1e13, available=160_000).num_events == (10_000, 20_000, 40_000, 80_000, 160_000)
    thrice = within(3e12, config=study(num_events=(1,), seeds=(0, 1, 2)))
    assert (thrice.sizes, thrice.num_events) == (within(1e12).sizes, within(1e12).num_events)
    twice = within(2e12, config=study(num_events=(1,), variants=(Variant(), Variant(loss=Cvar(eps=0.5)))))
    assert (twice.sizes, twice.num_events) == (within(1e12).sizes, within(1e12).num_events)


@pytest.mark.parametrize(("budget", "available"), [(1e9, 10**9), (1e13, 159_999)])
def test_a_total_budget_that_buys_nothing_is_told_the_least(budget, available):
    with pytest.raises(InputError) as caught:
        within(budget, available=available)
    [problem] = caught.value.problems
    least = (0.8 * 160_000 + 0.2 * 310_000) * sum(flops(w) / 90 for w in (8, 12, 16, 24))
    assert f"4 sizes by 5 data sizes from 10,000 to 160,000 events, costs {least:.3g}" in problem
    assert problem.endswith(f"(the dataset has {available:,} events)")


def test_the_least_data_size_decays_after_the_warm_up_by_hand():
    # 89 steps of one window reach 8,010 events, 11 of two windows 9,990; four fifths of 12,488 and more.
    assert least_after_warm_up(np.full(400, 90, np.uint8)) == 13_000
    with pytest.raises(InputError, match="it has no 100 optimiser steps"):
        least_after_warm_up(np.full(90, 90, np.uint8))


def test_a_request_replaces_what_it_names():
    preset = ladder.demo()
    assert answer(preset, GridRequest()) == preset
    assert answer(preset, GridRequest(widths=(8,), depth=3)).sizes == of_widths(8, depth=3)
    multiples = answer(preset, GridRequest(events_per_param=(1, 2)), seeds=(4,))
    assert (multiples.num_events, multiples.events_per_param, multiples.seeds) == ((), (1, 2), (4,))
    assert answer(ladder.paper(), GridRequest(num_events=(5,))).events_per_param == ()
    assert answer(preset, GridRequest(iso_flops=(1e9,))).flop_budgets == (1e9,)
    for wrong, names in [
        ({"num_events": (5,), "iso_flops": (1e9,)}, "--num-events and --iso-flops"),
        ({"total_flops": 1e12, "widths": (8,)}, "--total-flops and --widths"),
    ]:
        with pytest.raises(InputError, match=f"{names} exclude each other"):
            answer(preset, GridRequest(**wrong))


def test_iso_flop_cells_beyond_the_dataset_are_left_out_and_said(make_config, manifest, tiny, tmp_path):
    config = make_config(sizes=of_widths(8, 16), num_events=(), flop_budgets=(15.5 * flops(16), 400 * flops(16)))
    plan = plan_study(config, manifest, tiny, tmp_path)
    [large, small] = plan.jobs
    assert [cell.num_events for cell in large.cells] == [15 * 90]
    assert [cell.num_events for cell in small.cells] == [int(15.5 * flops(16) / flops(8)) * 90]
    assert sum("is left out: the dataset trains 900 to 9,000" in note for note in plan.notes) == 2
    with pytest.raises(InputError, match="width 16 at D = 36,000 is left out"):
        plan_study(replace(config, flop_budgets=(400 * flops(16),)), manifest, tiny, tmp_path)


def test_a_multiple_of_n_beyond_the_dataset_is_named_with_its_width(make_config, manifest, tiny, tmp_path):
    config = make_config(sizes=of_widths(8, 16), num_events=(), events_per_param=(1, 2))
    with pytest.raises(InputError) as caught:
        plan_study(config, manifest, tiny, tmp_path)
    [problem] = caught.value.problems
    assert problem.startswith(f"events_per_param has 2, at width 16 D = {2 * params(16):,}; {tiny} has 9,000 unique")


def test_budgets_are_spent_on_the_dataset_at_hand(tiny):
    config = answer(ladder.demo(), GridRequest(iso_flops=(2e9,)))
    assert within_budgets(config, GridRequest(iso_flops=(2e9,)), tiny).sizes == iso_flop_sizes((2e9,), SIZES, 90.0)
    assert within_budgets(config, GridRequest(iso_flops=(2e9,), widths=(8,)), tiny) == config
    assert within_budgets(ladder.demo(), GridRequest(), tiny) == ladder.demo()


def test_an_outline_is_as_large_as_the_study_needs():
    config = study(events_per_param=(1, 10), sizes=of_widths(16, 32))
    manifest, targets_W, command = outline(config, GeneratorConfig())
    windows = -(-10 * params(32) // 90)
    assert (len(targets_W), manifest.splits["train"].num_targets) == (windows, 90 * windows)
    assert command == f"python jobs/synthesize.py --out data/demo --num-train-events {90 * windows}"
    _, _, large = outline(study(num_events=(600_000_000,)), GeneratorConfig())
    assert large.endswith(" --num-users 2048")
