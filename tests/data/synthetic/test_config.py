"""What may be asked of the generator, and that what may be asked fits in memory."""

from dataclasses import replace

import pytest

from behavegpt.data.synthetic.chunks import EVENTS_PER_CHUNK, group_chunks, num_events, plan_chunks
from behavegpt.data.synthetic.config import GeneratorConfig
from behavegpt.errors import InputError

SMALL = GeneratorConfig(num_users=40, num_train_events=90 * 170, num_val_windows=50, num_test_windows=7)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_users": 0}, ["num_users is 0", "1 or more"]),
        ({"world_seed": -1}, ["world_seed is -1", "0 or more"]),
        ({"place_weight": 1.5, "rhythm_weight": -0.87}, ["place_weight is 1.5", "rhythm_weight is -0.87", "0 to 1"]),
        ({"place_weight": 0.5}, ["sum to 1.2", "exactly 1"]),
        ({"num_periods": 49}, ["num_periods is 49", "1 to 48"]),
        ({"num_event_types": 38}, ["num_event_types is 38", "num_behaviors (39) or more"]),
        ({"place_exponent": float("nan")}, ["place_exponent is nan", "0 to 10"]),
        ({"events_per_day": 0}, ["events_per_day is 0", "above 0"]),
        (
            {"num_users": 1, "num_train_events": 26 * 365 * 51},
            ["num_train_events 483990 with num_users 1", "18,616 days", "18,250 at most; raise num_users"],
        ),
        (
            {"num_users": 1, "num_train_events": 90 * 11_651, "events_per_day": 1000.0},
            ["num_users 1 is 1,048,590 events a user", "1,048,576 at most"],
        ),
        ({"num_val_windows": 53 * 40}, ["num_val_windows 2120 with num_users 40", "183 days", "180 at most"]),
    ],
)
def test_wrong_configurations_are_refused_by_name(change: dict[str, float], words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        replace(SMALL, **change)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(("num_users", "events"), [(1, 90_000), (1000, 20_000_000), (40_000, 50_000_000), (999, 90)])
def test_chunks_cover_every_user_once_and_tasks_stay_small(num_users: int, events: int) -> None:
    config = replace(SMALL, num_users=num_users, num_train_events=events)
    groups = group_chunks(plan_chunks(config, "train"))
    chunks = [chunk for group in groups for chunk in group]
    users = [u for chunk in chunks for u in range(chunk.first_user, chunk.end_user)]
    assert users == list(range(min(num_users, -(-events // 90))))
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    # A window is never cut off, and each user has one event more than targets.
    assert sum(map(num_events, chunks)) == -(-events // 90) * 90 + len(users)
    assert max(sum(map(num_events, group)) for group in groups) <= EVENTS_PER_CHUNK + 256


def test_a_million_users_take_few_tasks() -> None:
    config = replace(SMALL, num_users=1_000_000, num_train_events=90_000_000)
    assert len(group_chunks(plan_chunks(config, "train"))) < 200
