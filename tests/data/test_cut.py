"""Windows: every predictable event is a target once, in one split, and no split sees what comes after it."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from behavegpt.data.cut import EventColumns, cut_windows, find_split, make_grid, split_cutoffs
from behavegpt.data.windows import Windows, target_mask

Target = tuple[int, int, int]
"""User, time and behaviour."""


def make_events(histories: list[list[tuple[int, int]]]) -> EventColumns:
    """Return events from (time, behaviour) by user; event ids are 1, 2, ... in the order of the rows."""
    rows = [(user, *event) for user, history in enumerate(histories) for event in history]
    user, time, behavior = (np.array(column) for column in zip(*rows, strict=True))
    number = np.arange(1, len(rows) + 1)
    return EventColumns(
        weekday=number % 7 + 1,
        slot=number % 48 + 1,
        location=number % 5,
        event=number,
        behavior=behavior,
        timestamp=time,
        user=user,
    )


def targets_of(windows: Windows) -> list[Target]:
    rows, positions = np.nonzero(target_mask(windows.behavior, windows.first_target))
    at = (rows, positions)
    columns = (windows.user[rows].tolist(), windows.timestamp[at].tolist(), windows.behavior[at].tolist())
    return list(zip(*columns, strict=True))


def brute_force(histories: list[list[tuple[int, int]]], cutoffs: tuple[int, int]) -> list[list[Target]]:
    splits: list[list[Target]] = [[], [], []]
    for user, history in enumerate(histories):
        for time, behavior in history[1:]:
            if behavior != 0:
                splits[0 if time < cutoffs[0] else 1 if time < cutoffs[1] else 2].append((user, time, behavior))
    return splits


@st.composite
def logs(draw: st.DrawFn) -> list[list[tuple[int, int]]]:
    """Draw histories of up to 300 events, with ties in time and events without a behaviour."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    lengths = draw(st.lists(st.sampled_from([2, 3, 89, 90, 91, 92, 180, 181, 182, 300]), min_size=1, max_size=5))
    span = draw(st.sampled_from([3, 50, 10_000]))
    known = draw(st.sampled_from([0.1, 0.9, 1.0]))
    return [
        [
            (int(time), int(behavior))
            for time, behavior in zip(
                np.sort(rng.integers(span, size=length)),
                rng.integers(1, 9, size=length) * (rng.random(length) < known),
                strict=True,
            )
        ]
        for length in lengths
    ]


@settings(deadline=None)  # the machine may be busy
@given(logs())
def test_targets_of_each_split_are_those_of_a_plain_loop(histories: list[list[tuple[int, int]]]) -> None:
    events = make_events(histories)
    cutoffs = split_cutoffs(events.timestamp, (0.7, 0.15, 0.15))
    windows, _ = cut_windows(events, cutoffs)
    for name, expected in zip(("train", "val", "test"), brute_force(histories, cutoffs), strict=True):
        assert Counter(targets_of(windows[name])) == Counter(expected)


@settings(deadline=None)  # the machine may be busy
@given(logs())
def test_no_window_looks_past_its_split_and_each_is_a_run_of_one_users_events(
    histories: list[list[tuple[int, int]]],
) -> None:
    events = make_events(histories)
    cutoffs = split_cutoffs(events.timestamp, (0.7, 0.15, 0.15))
    windows, _ = cut_windows(events, cutoffs)
    ids = np.concatenate([part.window_id for part in windows.values()])
    assert len(np.unique(ids)) == len(ids)
    for part, ends in zip(windows.values(), (*cutoffs, 10**9), strict=True):
        for row in range(len(part)):
            length = int(part.length[row])
            assert (part.timestamp[row, :length] < ends).all()
            assert 1 <= part.first_target[row] < length
            number = part.event[row, :length]
            assert (np.diff(number) == 1).all()
            assert (events.user[number - 1] == part.user[row]).all()
            for column in ("weekday", "slot", "location", "behavior", "timestamp"):
                values = getattr(part, column)[row]
                assert (values[:length] == getattr(events, column)[number - 1]).all()
                assert not values[length:].any()


def test_windows_start_ninety_events_apart_and_share_one() -> None:
    user = np.repeat([0, 1, 2, 3, 4], [2, 91, 92, 181, 182])
    grid = make_grid(user)
    #       2 events, 91, 92 = 91 + 1 new, 181 = 91 + 90 new, 182 = 91 + 90 + 1 new
    assert grid.start.tolist() == [0, 2, 93, 183, 185, 275, 366, 456, 546]
    assert grid.length.tolist() == [2, 91, 91, 2, 91, 91, 91, 91, 2]


def test_window_that_straddles_both_cutoffs_serves_all_splits() -> None:
    times = [10, 20, 30, 40, 50, 60, 70]
    windows, _ = cut_windows(make_events([[(time, 1) for time in times]]), (30, 60))
    train, val, test = windows.values()
    assert (train.length.tolist(), train.first_target.tolist()) == ([2], [1])  # scores 20
    assert (val.length.tolist(), val.first_target.tolist()) == ([5], [2])  # scores 30, 40, 50 after 10, 20
    assert (test.length.tolist(), test.first_target.tolist()) == ([7], [5])  # scores 60, 70


def test_windows_without_a_behaviour_to_predict_are_left_out_and_counted() -> None:
    histories = [[(1, 5), (2, 0), (3, 0), (50, 7)], [(1, 0), (2, 6), (60, 0), (70, 0)]]
    windows, counts = cut_windows(make_events(histories), (40, 65))
    assert [targets_of(part) for part in windows.values()] == [[(1, 2, 6)], [(0, 50, 7)], []]
    assert counts == {
        "windows_without_behavior_train": 1,  # user 0: its first event is never a target
        "windows_without_behavior_val": 1,
        "windows_without_behavior_test": 1,
    }


def test_cutoffs_are_shares_of_the_events_and_ties_go_to_the_later_side() -> None:
    #                    70 % of 10 events is event 7, at time 5; 85 % is event 8 (8.5 rounds to even), at time 8
    times = np.array([9, 0, 1, 2, 3, 4, 5, 5, 5, 8])
    assert split_cutoffs(times, (0.7, 0.15, 0.15)) == (5, 8)
    assert find_split(np.array([4, 5, 7, 8, 9]), (5, 8)).tolist() == [0, 1, 1, 2, 2]
