"""A user's random numbers depend on the user alone; classes are drawn as their probabilities say."""

import numpy as np
import pytest

from behavegpt.errors import InputError
from behavegpt.tasks.generation.sampling import Sampling, draw_classes, uniforms

USERS = np.array([3, 2**63 + 5, 17, 0], np.uint64)


def test_a_users_numbers_do_not_depend_on_the_others_nor_on_how_many_are_asked_for():
    together = uniforms(7, USERS, 50)
    assert together.shape == (4, 50, 6)
    for row, user in enumerate(USERS):
        assert np.array_equal(uniforms(7, np.array([user]), 50)[0], together[row])
    assert np.array_equal(uniforms(7, USERS[::-1], 50), together[::-1])
    assert np.array_equal(uniforms(7, USERS, 20), together[:, :20])
    assert not np.isin(uniforms(8, USERS, 50), together).any()
    assert len(np.unique(together)) == together.size
    assert abs(together.mean() - 0.5) < 0.03  # 1,200 numbers: three standard errors are 0.025


PROBABILITIES = np.array([0.2, 0.5, 0.3])


@pytest.mark.parametrize(
    ("u", "drawn"), [(0.0, 1), (0.49, 1), (0.51, 2), (0.79, 2), (0.81, 0), (np.nextafter(1, 0), 0)]
)
def test_the_class_in_whose_interval_the_number_falls(u, drawn):
    classes, probability = draw_classes(np.log(PROBABILITIES)[None] + 5, np.array([u]), Sampling())
    assert classes.tolist() == [drawn]
    assert probability == pytest.approx(PROBABILITIES[drawn])


@pytest.mark.parametrize(("u", "drawn"), [(0.62, 1), (0.63, 2), (0.999, 2)])
def test_top_p_keeps_the_least_classes_that_reach_it(u, drawn):
    """0.5 is below 0.6, so 0.3 is kept as well; of 0.8 the first has 0.625."""
    classes, probability = draw_classes(np.log(PROBABILITIES)[None], np.array([u]), Sampling(top_p=0.6))
    assert classes.tolist() == [drawn]
    assert probability == pytest.approx(PROBABILITIES[drawn] / 0.8)


def test_a_top_p_that_the_first_class_reaches_draws_no_other():
    classes, probability = draw_classes(np.log(PROBABILITIES)[None], np.array([0.999]), Sampling(top_p=0.49))
    assert (classes.tolist(), probability.tolist()) == ([1], [1.0])


def test_half_the_temperature_squares_the_probabilities():
    """Squares are 4, 25 and 9 of 38."""
    for u, drawn in ((24.9 / 38, 1), (25.1 / 38, 2), (33.9 / 38, 2), (34.1 / 38, 0)):
        classes, _ = draw_classes(np.log(PROBABILITIES)[None], np.array([u]), Sampling(temperature=0.5))
        assert classes.tolist() == [drawn]


def test_frequencies_are_the_probabilities():
    u = (np.arange(1000) + 0.5) / 1000
    classes, _ = draw_classes(np.tile(np.log(PROBABILITIES), (1000, 1)), u, Sampling())
    assert np.bincount(classes).tolist() == [200, 500, 300]


def test_settings_that_mean_nothing_are_named_all_at_once():
    with pytest.raises(InputError) as caught:
        Sampling(temperature=0, top_p=1.5, seed=-1)
    assert [problem.split(" is ")[0] for problem in caught.value.problems] == ["temperature", "top_p", "seed"]
