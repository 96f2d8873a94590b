"""The oracle: p* in closed form, against a loop over the formula and against the behaviours that were drawn."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2

from behavegpt.data.synthetic.config import GeneratorConfig
from behavegpt.data.synthetic.domains import app, demo, mobility, phone
from behavegpt.data.synthetic.generator import Generated, generate
from behavegpt.data.synthetic.oracle import floor_of, true_probabilities
from behavegpt.data.synthetic.world import World
from behavegpt.data.windows import Windows

NO_HABITS = ("event_weight", "place_weight", "transition_weight", "period_weight")
SMALL = GeneratorConfig(num_users=40, num_train_events=90 * 170, num_val_windows=50, num_test_windows=7)


@pytest.fixture(scope="module")
def small() -> Generated:
    return generate(SMALL)


@pytest.fixture(scope="module")
def large() -> Generated:
    """Return the demo study's log: big enough to count rare values in."""
    return generate(demo())


def brute_force(world: World, windows: Windows, row: int, position: int) -> list[float]:
    """Return p* of the behaviour at `position`, written out once more without arrays."""
    now = position - 1
    weekend = int(windows.weekday[row, now]) in (6, 7)
    moment = int(windows.slot[row, now]) - 1 + (48 if weekend else 0)
    current = int(windows.behavior[row, now])
    previous = int(windows.behavior[row, now - 1]) if now > 0 else world.num_behaviors
    favourites = [
        (0.27, world.event_habit[int(windows.event[row, now])]),
        (0.30, world.place_habit[int(windows.location[row, now])]),
        (0.05, world.transition_habit[current][previous]),
        (0.07, world.period_habit[int(windows.event[row, now])][(int(windows.slot[row, now]) - 1) // 12]),
    ]
    return [
        0.31 * float(world.rhythm[moment][b]) + sum(weight for weight, habit in favourites if int(habit) == b)
        for b in range(world.num_behaviors)
    ]


def test_true_probabilities_are_distributions_and_equal_a_loop_over_the_formula(small: Generated) -> None:
    windows = small.values["val"].take(np.array([0, 3, 49]))
    p = true_probabilities(small.world, windows)
    assert p.shape == (3, 90, 39)
    np.testing.assert_allclose(p.sum(axis=2), 1, atol=1e-12)
    for row in range(3):
        for position in range(1, 91):
            np.testing.assert_allclose(p[row, position - 1], brute_force(small.world, windows, row, position))


def test_drawn_behaviours_follow_the_true_probabilities(large: Generated) -> None:
    """Pool the (target, behaviour) pairs by the p* they were promised: the hits per pool must match the promise."""
    windows = large.values["val"]
    p = true_probabilities(large.world, windows).reshape(-1, 39)
    hit = np.zeros_like(p)
    hit[np.arange(len(p)), windows.behavior[:, 1:].ravel()] = 1
    edges = np.quantile(p, np.linspace(0, 1, 41)[1:-1])
    pool = np.searchsorted(edges, p)
    promised = np.bincount(pool.ravel(), p.ravel())
    variance = np.bincount(pool.ravel(), (p * (1 - p)).ravel())
    z = (np.bincount(pool.ravel(), hit.ravel()) - promised) / np.sqrt(variance)
    assert np.abs(z).max() < 4
    assert (z**2).sum() < chi2.ppf(0.999, len(z))


def test_each_behaviour_is_drawn_as_often_as_promised(large: Generated) -> None:
    windows = large.values["train"].take(np.arange(2000))
    p = true_probabilities(large.world, windows).reshape(-1, 39)
    drawn = np.bincount(windows.behavior[:, 1:].ravel(), minlength=39)
    z = (drawn - p.sum(axis=0)) / np.sqrt((p * (1 - p)).sum(axis=0))
    assert np.abs(z).max() < 4


def test_each_source_is_drawn_with_its_own_weight(large: Generated) -> None:
    """Where no other source shares a habit's favourite, its weight can be read off alone."""
    world, windows = large.world, large.values["train"]
    event, part_of_day = windows.event[:, 1:90], (windows.slot[:, 1:90] - 1) // 12
    habits = np.stack(
        [
            world.event_habit[event],
            world.place_habit[windows.location[:, 1:90]],
            world.transition_habit[windows.behavior[:, 1:90], windows.behavior[:, :89]],
            world.period_habit[event, part_of_day],
        ]
    )
    rhythm = 0.31 * world.rhythm[_moment(windows)[:, 1:90]]
    following = windows.behavior[:, 2:]
    for habit, weight in zip(habits, (0.27, 0.30, 0.05, 0.07), strict=True):
        alone = (habits == habit).sum(axis=0) == 1
        expected = weight + np.take_along_axis(rhythm, habit[:, :, None], axis=2)[:, :, 0][alone]
        noise = np.sqrt((expected * (1 - expected)).sum())
        assert abs((following == habit)[alone].sum() - expected.sum()) < 4 * noise


def test_memory_restarts_at_each_window_though_windows_share_an_event(large: Generated) -> None:
    """A window's second event follows its first one's habit after no event, not after one of the window before."""
    world, windows = large.world, large.values["train"]
    windows = windows.take(windows.number > 0)
    event, behavior = windows.event[:, 0], windows.behavior[:, 0]
    habit = world.transition_habit[behavior, 39]
    others = [world.event_habit[event], world.place_habit[windows.location[:, 0]]]
    others.append(world.period_habit[event, (windows.slot[:, 0] - 1) // 12])
    alone = (np.stack(others) != habit).all(axis=0)
    expected = (0.05 + 0.31 * world.rhythm[_moment(windows)[:, 0], habit])[alone]
    assert abs((windows.behavior[:, 1] == habit)[alone].sum() - expected.sum()) < 4 * np.sqrt(expected.sum())
    assert 0.05 * alone.sum() > 8 * np.sqrt(expected.sum())  # were the habit not followed, the line above would fail


def _moment(windows: Windows) -> np.ndarray:
    return windows.slot.astype(int) - 1 + 48 * (windows.weekday >= 6)


@pytest.mark.parametrize("domain", [phone, app, mobility])
def test_every_domain_has_an_exact_floor(domain: Callable[[], GeneratorConfig]) -> None:
    config = replace(domain(), num_users=300, num_train_events=9_000, num_val_windows=200, num_test_windows=1)
    log = generate(config)
    windows = log.values["val"].take(np.array([0, 199]))
    p = true_probabilities(log.world, windows)
    by_hand = []
    for row, position in np.ndindex(2, 90):
        expected = np.array(brute_force(log.world, windows, row, position + 1))
        np.testing.assert_allclose(p[row, position], expected, rtol=1e-12)
        by_hand.append(-(expected[expected > 0] * np.log(expected[expected > 0])).sum())
    every = np.arange(config.num_behaviors)
    assert floor_of(log.world, windows, every).entropy_nats == pytest.approx(np.mean(by_hand), rel=1e-10)
    folded = np.where(every < 5, every + 2, 1)  # 0 to 4 are known; the rest is one class, other
    classes = np.stack([*p[:, :, :5].reshape(-1, 5).T, p[:, :, 5:].sum(axis=2).ravel()])
    expected = -(classes * np.log(classes)).sum(axis=0).mean()
    assert floor_of(log.world, windows, folded).entropy_nats == pytest.approx(expected, rel=1e-10)
    assert abs(log.floor.sampled_nats - log.floor.entropy_nats) < 4 * log.floor.sampled_stderr


@pytest.mark.parametrize("world_seed", [0, 1, 2, 3])
def test_floor_is_the_entropy_and_agrees_with_the_drawn_behaviours(world_seed: int) -> None:
    config = replace(demo(), num_train_events=90_000, num_val_windows=200, world_seed=world_seed)
    log = generate(config)
    floor = log.floor
    assert floor.num_targets == 200 * 90
    assert abs(floor.sampled_nats - floor.entropy_nats) < 4 * floor.sampled_stderr
    part = log.values["val"].take(np.arange(5))
    by_hand = [
        -sum(q * np.log(q) for q in brute_force(log.world, part, r, t) if q > 0) for r in range(5) for t in range(1, 91)
    ]
    ids = np.arange(39)
    assert floor_of(log.world, part, ids).entropy_nats == pytest.approx(np.mean(by_hand), rel=1e-9)
    assert 0 < floor.entropy_nats < np.log(39)


def test_floor_counts_behaviours_with_one_id_as_one_class(small: Generated) -> None:
    everything_is_other = np.ones(39, dtype=int)
    floor = floor_of(small.world, small.values["val"], everything_is_other)
    assert floor.entropy_nats == pytest.approx(0, abs=1e-12)
    assert floor.sampled_nats == pytest.approx(0, abs=1e-12)


def test_floor_of_a_world_without_habits_is_the_entropy_of_its_rhythm() -> None:
    pure = replace(SMALL, rhythm_weight=1.0, **dict.fromkeys(NO_HABITS, 0.0))
    log = generate(pure)
    table = log.world.rhythm
    per_moment = -(table * np.log(table)).sum(axis=1)
    moment = _moment(log.values["val"])[:, :90]
    assert log.floor.entropy_nats == pytest.approx(per_moment[moment].mean(), rel=1e-12)
