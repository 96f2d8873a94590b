"""Windows: every predictable event is a target once, in one split, and no split sees what comes after it."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from behavegpt.data.ingest.cut import gather_windows, make_grid, place_windows
from behavegpt.data.windows import Windows, target_mask

Target = tuple[int, int, int]
"""User, time and behaviour."""
History = list[tuple[int, int]]
"""Time and behaviour (0 is unknown) of a user's events."""


def cut(histories: list[History], cutoffs: tuple[int, int]) -> tuple[list[Windows], list[int]]:
    """Return the windows; event ids are 1, 2, ... in the order of the rows, users are 100, 101, ..."""
    time, behavior = (np.array(column) for column in zip(*(e for history in histories for e in history), strict=True))
    number = np.arange(1, len(time) + 1)
    columns = {
        "weekday": number % 7 + 1,
        "slot": number % 48 + 1,
        "location": number % 5,
        "event": number,
        "behavior": behavior,
        "timestamp": time,
    }
    split = np.array([0 if t < cutoffs[0] else 1 if t < cutoffs[1] else 2 for t in time.tolist()])
    num_events = np.array([len(history) for history in histories])
    placed, without = place_windows(num_events, split, behavior > 0)
    users = np.arange(100, 100 + len(histories))
    return [gather_windows(columns, users, part) for part in placed], without


def targets_of(windows: Windows) -> list[Target]:
    rows, positions = np.nonzero(target_mask(windows.behavior, windows.first_target))
    at = (rows, positions)
    columns = (windows.user[rows].tolist(), windows.timestamp[at].tolist(), windows.behavior[at].tolist())
    return list(zip(*columns, strict=True))


def brute_force(histories: list[History], cutoffs: tuple[int, int]) -> list[list[Target]]:
    splits: list[list[Target]] = [[], [], []]
    for user, history in enumerate(histories, start=100):
        for time, behavior in history[1:]:
            if behavior != 0:
                splits[0 if time < cutoffs[0] else 1 if time < cutoffs[1] else 2].append((user, time, behavior))
    return splits


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[History], tuple[int, int]]:
    """Draw histories of up to 300 events, with ties in time and events without a behaviour, and two cutoffs."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    lengths = draw(st.lists(st.sampled_from([1, 2, 3, 89, 90, 91, 92, 180, 181, 182, 300]), min_size=1, max_size=5))
    span = draw(st.sampled_from([3, 50, 10_000]))
    known = draw(st.sampled_from([0.1, 0.9, 1.0]))
    histories = [
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
    val, test = sorted(rng.integers(0, span + 1, 2).tolist())
    return histories, (val, test)


@settings(deadline=None)  # the machine may be busy
@given(logs())
def test_targets_of_each_split_are_those_of_a_plain_loop(log: tuple[list[History], tuple[int, int]]) -> None:
    windows, _ = cut(*log)
    for part, expected in zip(windows, brute_force(*log), strict=True):
        assert Counter(targets_of(part)) == Counter(expected)


@settings(deadline=None)  # the machine may be busy
@given(logs())
def test_no_window_looks_past_its_split_and_each_is_a_run_of_one_users_events(
    log: tuple[list[History], tuple[int, int]],
) -> None:
    histories, cutoffs = log
    windows, _ = cut(histories, cutoffs)
    user_of = np.repeat(np.arange(100, 100 + len(histories)), [len(history) for history in histories])
    first_of = np.repeat(np.cumsum([0, *map(len, histories)])[:-1], [len(history) for history in histories])
    time_of = np.array([time for history in histories for time, _ in history])
    for part, end in zip(windows, (*cutoffs, 10**9), strict=True):
        assert len(set(zip(part.user.tolist(), part.number.tolist(), strict=True))) == len(part)
        for row in range(len(part)):
            length = int(part.length[row])
            number = part.event[row, :length]
            assert (part.timestamp[row, :length] < end).all()
            assert 1 <= part.first_target[row] < length
            assert (np.diff(number) == 1).all()
            assert (user_of[number - 1] == part.user[row]).all()
            assert number[0] - 1 == first_of[number[0] - 1] + 90 * part.number[row]
            assert (part.timestamp[row, :length] == time_of[number - 1]).all()
            assert (part.slot[row, :length] == number % 48 + 1).all()
            for column in ("weekday", "slot", "location", "event", "behavior", "timestamp"):
                assert not getattr(part, column)[row, length:].any()


def test_windows_start_ninety_events_apart_and_share_one() -> None:
    grid = make_grid(np.array([2, 91, 92, 181, 182]))
    #       2 events, 91, 92 = 91 + 1 new, 181 = 91 + 90 new, 182 = 91 + 90 + 1 new
    assert grid.start.tolist() == [0, 2, 93, 183, 185, 275, 366, 456, 546]
    assert grid.length.tolist() == [2, 91, 91, 2, 91, 91, 91, 91, 2]
    assert grid.user.tolist() == [0, 1, 2, 2, 3, 3, 4, 4, 4]
    assert grid.number.tolist() == [0, 0, 0, 1, 0, 1, 0, 1, 2]


def test_window_that_straddles_both_cutoffs_serves_all_splits() -> None:
    (train, val, test), _ = cut([[(time, 1) for time in (10, 20, 30, 40, 50, 60, 70)]], (30, 60))
    assert (train.length.tolist(), train.first_target.tolist()) == ([2], [1])  # scores 20
    assert (val.length.tolist(), val.first_target.tolist()) == ([5], [2])  # scores 30, 40, 50 after 10, 20
    assert (test.length.tolist(), test.first_target.tolist()) == ([7], [5])  # scores 60, 70


def test_windows_without_a_behaviour_to_predict_are_left_out_and_counted() -> None:
    histories = [[(1, 5), (2, 0), (3, 0), (50, 7)], [(1, 0), (2, 6), (60, 0), (70, 0)]]
    windows, without = cut(histories, (40, 65))
    assert [targets_of(part) for part in windows] == [[(101, 2, 6)], [(100, 50, 7)], []]
    assert without == [1, 1, 1]  # train: user 0, whose first event is never a target
