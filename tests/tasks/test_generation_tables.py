"""The clock and the pairs, on counts that are worked by hand."""

from fractions import Fraction

import numpy as np
import pytest

from behavegpt.tasks.generation.tables import WEEK, Clock, PairCounts, count_steps, half_hour


def test_half_hours_of_the_week():
    assert half_hour(np.array([1, 1, 2, 7]), np.array([1, 48, 1, 48])).tolist() == [0, 47, 48, 335]


def test_steps_are_counted_round_the_week():
    counts = count_steps(np.array([0, 0, 335]), np.array([1, 1, 3]))
    assert counts.sum() == 3
    assert (counts[0, 1], counts[335, 4]) == (2, 1)


def test_the_clock_backs_off_from_the_half_hour_to_the_slot_to_all():
    """Two steps of 1 from Monday 00:00, one of 4 from Sunday 23:30; PRIOR is 10."""
    counts = count_steps(np.array([0, 0, 335]), np.array([1, 1, 3]))
    p = np.diff(Clock.fit(counts).up_to, axis=1, prepend=0)
    of_all = (2 + Fraction(1, WEEK)) / 4
    of_slot = (2 + 10 * of_all) / 12
    assert p[0, 1] == pytest.approx(float((2 + 10 * of_slot) / 12))
    assert p[48, 1] == pytest.approx(float(of_slot))  # Tuesday 00:00 was never seen, 00:00 was
    assert p[10, 1] == pytest.approx(float(of_all))
    assert p.sum(axis=1) == pytest.approx(np.ones(WEEK))


def test_the_next_event_is_where_the_number_falls():
    counts = np.zeros((WEEK, WEEK))
    counts[:, 0], counts[:, 2] = 3e9, 1e9
    clock = Clock.fit(counts)
    weekday, slot = clock.advance(np.array([7, 7, 1]), np.array([47, 47, 1]), np.array([0.74, 0.76, 0.76]))
    assert (weekday.tolist(), slot.tolist()) == ([7, 1, 1], [47, 1, 3])


def test_pairs_are_drawn_by_their_frequency():
    given, value = np.array([2, 2, 2, 2, 5, 5]), np.array([7, 300, 7, 7, 9, 4])
    counts = PairCounts()
    for rows in (slice(0, 3), slice(3, 6)):
        counts.add(given[rows], value[rows])
    pairs = counts.table()
    drawn = pairs.draw(np.full(4, 2), np.array([0.0, 0.74, 0.76, 0.999]))
    assert drawn.tolist() == [7, 7, 300, 300]
    assert pairs.draw(np.full(2, 5), np.array([0.49, 0.51])).tolist() == [4, 9]
    assert pairs.seen(np.array([0, 2, 3, 5, 99])).tolist() == [False, True, False, True, False]


def test_an_event_does_not_explain_itself():
    counts = PairCounts()
    counts.add(np.array([2, 2, 2, 2, 5]), np.array([7, 7, 7, 300, 9]))
    pairs = counts.table()
    shares = pairs.share_without_one(np.array([2, 2, 5]), np.array([7, 300, 9]))
    assert shares.tolist() == pytest.approx([2 / 3, 0, 0])
