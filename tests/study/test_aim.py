"""The rules of --suggest and --auto that need no study: flags that contradict each other, the size of a round, what was
spent."""

import math
from dataclasses import dataclass
from typing import Any

import pytest

from behavegpt.errors import InputError
from behavegpt.study.aim import Aim
from behavegpt.study.auto import cells_of_round, spent
from behavegpt.study.config import of_widths
from behavegpt.study.grid import plan_study


@dataclass(frozen=True)
class Script:
    law: str
    width: float
    picks: tuple[int, ...]
    costs: tuple[float, ...]
    widths: tuple[float, ...]

    def table(self, number: int) -> tuple[str, ...]:
        return ()


@pytest.mark.parametrize(
    ("worth", "least", "may_cost", "width", "number"),
    [
        (10, 1, math.inf, None, 1),  # 4 + 8 > 10
        (12, 1, math.inf, None, 2),
        (100, 1, math.inf, None, 4),
        (1, 1, math.inf, None, 1),  # never none
        (1, 3, math.inf, None, 3),  # one for each group
        (100, 1, 20, None, 3),  # 4 + 8 + 8 <= 20
        (100, 3, 4, None, 1),  # the budget comes before the groups
        (100, 3, 3, None, 0),
        (100, 1, math.inf, 0.035, 2),  # the second is expected to reach it
        (100, 3, math.inf, 0.035, 3),
    ],
)
def test_a_round_is_as_large_as_its_worth(worth, least, may_cost, width, number):
    advice = Script("", 0.05, (2, 0, 1, 3), (4.0, 8.0, 8.0, 1.0), (0.04, 0.03, 0.02, 0.01))
    assert cells_of_round(advice, worth, least, may_cost, width) == number


def test_what_cells_took_is_read_from_their_own_records():
    taken = {"status": "completed", "flops": 100.0, "num_events": 50}
    rows = [
        taken | {"wall_s": 2.0, "events_per_s": 10.0},  # 20 of its 50 events: the trunk was there
        taken | {"wall_s": 5.0, "events_per_s": 10.0},
        taken | {"status": "diverged", "wall_s": None, "events_per_s": None},
        taken | {"status": "crashed", "wall_s": None, "events_per_s": None},
    ]
    assert spent(rows) == pytest.approx(40 + 100 + 100)


def test_the_target_is_ten_times_the_dearest_cell(make_config, manifest, tiny, tmp_path):
    # 8,000 targets are 89 windows, at width 24 of 3 (180 (24 W^2 + W^2 + 40 W) + 8 90^2 W) FLOPs: 10 times 1.06e9.
    window = 3 * (90 * 2 * (2 * 12 * 24**2 + 24**2 + 24 * 40) + 2 * 4 * 90**2 * 24)
    plan = plan_study(make_config(sizes=of_widths(8, 24), num_events=(2_000, 8_000)), manifest, tiny, tmp_path)
    assert Aim().target(plan) == float(f"{10 * 89 * window:.0e}")
    assert Aim(target_flops=3e9).target(plan) == 3e9


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"target_flops": 0.0}, "--target-flops is 0; it must be positive and finite"),
        ({"target_flops": math.inf}, "--target-flops is inf"),
        ({"auto": True, "auto_width": -0.1}, "--auto-width is -0.1; it must be positive"),
        ({"auto_width": 0.1}, "--auto-width needs --auto"),
        ({"auto_flops": 1e9}, "--auto-flops needs --auto"),
        ({"number": 3}, "--number needs --suggest"),
        ({"suggest": True, "number": 0}, "--number is 0"),
        ({"suggest": True, "auto": True}, "--suggest and --auto exclude each other"),
    ],
)
def test_aims_that_contradict_themselves_are_refused(changes, problem):
    with pytest.raises(InputError) as caught:
        Aim(**changes)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(problem)


def test_aims_that_contradict_other_flags_are_refused(tmp_path):
    quiet: dict[str, Any] = {"plan": False, "check_branches": 0, "num_variants": 1}
    Aim(auto=True).check(tmp_path, plan=True, check_branches=0, num_variants=1)
    with pytest.raises(InputError, match="has no cells yet"):
        Aim(suggest=True).check(tmp_path, **quiet)
    (tmp_path / "cells").mkdir()
    Aim(suggest=True).check(tmp_path, plan=False, check_branches=0, num_variants=2)
    cases: tuple[tuple[Aim, dict[str, Any], str], ...] = (
        (Aim(suggest=True), {"plan": True}, "--suggest and --plan exclude each other"),
        (Aim(suggest=True), {"check_branches": 2}, "--suggest trains nothing"),
        (Aim(auto=True), {"check_branches": 2}, "--auto and --check-branches exclude each other"),
        (Aim(auto=True), {"num_variants": 2}, "--auto fits one law, the study has 2 variants"),
    )
    for aim, flag, problem in cases:
        with pytest.raises(InputError, match=problem):
            aim.check(tmp_path, **(quiet | flag))
