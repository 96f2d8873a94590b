"""Drawing in rounds gives what a loop over the events gives."""

from dataclasses import replace

import numpy as np
import pytest

from behavegpt.data.synthetic.config import EVENT, PERIOD, PLACE, TRANSITION, GeneratorConfig
from behavegpt.data.synthetic.draw import Stream, calendar, draw_places, draw_stream, moments
from behavegpt.data.synthetic.world import World, make_world

WEIGHTS = ("rhythm_weight", "event_weight", "place_weight", "transition_weight", "period_weight")


def loop(world: World, stream: Stream, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return behaviours and events of the streams, one event after the other, from the numbers that `rng` gives."""
    num_users, length = stream.second.shape
    shape = (length, num_users)
    rng.standard_exponential((num_users, length))
    rng.random((num_users, length))
    rng.random((num_users, length))
    rng.random((num_users, length))
    u, which, variant, start = rng.random(shape), rng.random(shape), rng.random(shape) ** 2, rng.random(num_users)
    moment = moments(*calendar(stream.second))
    behavior, event = np.zeros_like(stream.place), np.zeros_like(stream.place)

    def by_rhythm(moment: int, u: float) -> int:
        return min(int((np.cumsum(world.rhythm[moment]) <= u).sum()), world.num_behaviors - 1)

    for user in range(num_users):
        for t in range(length):
            if t == 0:
                b = by_rhythm(moment[user, 0], start[user])
            else:
                now = t - 1
                source = int((np.cumsum(world.weights) <= which[now, user]).sum())
                last = world.num_behaviors if now % 90 == 0 else behavior[user, now - 1]
                part = moment[user, now] % 48 // 12
                b = {
                    EVENT: world.event_habit[event[user, now]],
                    PLACE: world.place_habit[stream.place[user, now]],
                    TRANSITION: world.transition_habit[behavior[user, now], last],
                    PERIOD: world.period_habit[event[user, now], part],
                }.get(source)
                if b is None:
                    b = by_rhythm(moment[user, now], u[now, user])
            behavior[user, t] = b
            event[user, t] = world.first_event[b] + int(world.num_types[b] * variant[t, user])
    return behavior, event


@pytest.mark.parametrize("weights", [None, (0, 0, 0, 1, 0), (0, 0.4, 0, 0.3, 0.3), (0.1, 0, 0, 0.9, 0)])
@pytest.mark.parametrize(("num_users", "num_windows"), [(3, 3), (1, 2)])
def test_rounds_give_what_a_loop_over_the_events_gives(
    weights: tuple[float, ...] | None, num_users: int, num_windows: int
) -> None:
    config = GeneratorConfig(world_seed=2)
    if weights:
        config = replace(config, **dict(zip(WEIGHTS, weights, strict=True)))
    world = make_world(config)
    anchors = draw_places(world, (num_users, 2), np.random.default_rng(0))
    rng = np.random.default_rng(1)
    rng.random((num_users, 1))
    stream = draw_stream(world, anchors, num_windows, np.random.default_rng(1))
    behavior, event = loop(world, stream, rng)
    np.testing.assert_array_equal(stream.behavior, behavior)
    np.testing.assert_array_equal(stream.event, event)
    assert (np.diff(stream.second, axis=1) > 0).all()
