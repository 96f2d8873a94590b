"""Steps, legs and rates against small plans worked by hand."""

import numpy as np
import pytest

from behavegpt.errors import InputError
from behavegpt.train.config import TrainConfig
from behavegpt.train.schedule import Leg, branch_start, lr_factor, plan_legs, plan_steps

# Ten windows of 90, 80, 90, ... targets; one window a step below 200 events, two from there on.
TARGETS = np.array([90, 80, 90, 90, 90, 90, 90, 90, 90, 90], np.uint8)
RAMP = ((0, 1), (200, 2))


def config(**changes) -> TrainConfig:
    return TrainConfig(**{"learning_rate": 0.1, "warmup_steps": 2, "batch_ramp": RAMP, **changes})


def test_batches_grow_with_the_events_seen():
    plan = plan_steps(TARGETS, RAMP)
    assert plan.first_window.tolist() == [0, 1, 2, 3, 5, 7, 9, 10]
    assert plan.events_before.tolist() == [0, 90, 170, 260, 440, 620, 800, 890]


def test_each_branch_leaves_the_trunk_where_the_last_fifth_of_its_events_begins():
    plan = plan_steps(TARGETS, RAMP)
    # 80 % of 330 is 264: the last boundary at or below is step 3 (260). 80 % of 800 is 640: step 5 (620).
    assert [branch_start(plan, d, config()) for d in (330, 800)] == [3, 5]
    assert plan_legs(plan, config(), [800, 330], set(), 100) == [
        Leg("trunk", 0, 3, 260),
        Leg("branch", 3, 4, 330, fork=3),
        Leg("trunk", 3, 5, 620),
        Leg("branch", 5, 6, 800, fork=5),
    ]


def test_only_what_is_missing_is_planned_from_the_nearest_checkpoint():
    plan = plan_steps(TARGETS, RAMP)
    assert plan_legs(plan, config(), [800], {3, 5}, 100) == [Leg("branch", 5, 6, 800, fork=5)]
    assert plan_legs(plan, config(), [800], {3}, 100) == [Leg("trunk", 3, 5, 620), Leg("branch", 5, 6, 800, fork=5)]
    assert plan_legs(plan, config(), [330], {5}, 100) == [Leg("trunk", 0, 3, 260), Leg("branch", 3, 4, 330, fork=3)]
    assert plan_legs(plan, config(), [], {3}, 100) == []


def test_a_long_trunk_is_saved_on_the_way_at_fixed_steps():
    plan = plan_steps(TARGETS, RAMP)
    trunk = [Leg("trunk", 0, 2, 170), Leg("trunk", 2, 4, 440), Leg("trunk", 4, 5, 620)]
    assert plan_legs(plan, config(), [800], set(), 2) == [*trunk, Leg("branch", 5, 6, 800, fork=5)]
    assert plan_legs(plan, config(), [800], {2}, 2) == [*trunk[1:], Leg("branch", 5, 6, 800, fork=5)]


def test_rate_warms_up_stays_and_falls_to_zero_over_the_branch():
    plan = plan_steps(np.full(20, 90, np.uint8), ((0, 1),))
    trunk, branch = Leg("trunk", 0, 8, 720), Leg("branch", 8, 10, 900, fork=8)
    assert [lr_factor(config(), plan, trunk, s) for s in (0, 1, 7)] == [0.5, 1.0, 1.0]
    assert [lr_factor(config(), plan, branch, s) for s in (8, 9)] == [1.0, 0.5]


def test_cosine_runs_alone_and_ends_near_a_tenth():
    plan = plan_steps(np.full(20, 90, np.uint8), ((0, 1),))
    cosine = config(schedule="cosine", warmup_steps=0)
    [leg] = plan_legs(plan, cosine, [1800], set(), 100)
    assert (leg.start, leg.stop) == (0, 20)
    assert lr_factor(cosine, plan, leg, 0) == 1.0
    assert lr_factor(cosine, plan, leg, 10) == pytest.approx(0.55)  # halfway: 0.1 + 0.9 / 2
    assert lr_factor(cosine, plan, leg, 19) == pytest.approx(0.1 + 0.45 * (1 - np.cos(np.pi / 20)))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"decay_share": 1.0}, "decay_share"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"batch_ramp": ((10, 1),)}, "batch_ramp"),
        ({"batch_ramp": ((0, 2), (5, 0))}, "batch_ramp"),
        ({"warmup_steps": -1}, "warmup_steps"),
    ],
)
def test_an_impossible_recipe_is_named(change, word):
    with pytest.raises(InputError, match=word):
        config(**change)
