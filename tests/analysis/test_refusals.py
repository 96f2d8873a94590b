"""Each refusal of cells, with the number that it must name; a form is only asked for the axes that it needs."""

from collections.abc import Callable

import numpy as np
import pytest

from analysis.forms import Coupled, Points, Separable, SingleAxis
from analysis.refusals import refuse_cells

FORM = Separable()


def only(sentences: tuple[str, ...], *words: str) -> None:
    """Check that there is one sentence and that it has all the words."""
    assert len(sentences) == 1, sentences
    for word in words:
        assert word in sentences[0], sentences[0]


def test_a_full_grid_is_not_refused(grid: Callable[..., Points]):
    assert refuse_cells(FORM, grid()) == ()


@pytest.mark.parametrize("axis", [0, 1])
def test_two_levels(axis: int, grid: Callable[..., Points]):
    points = grid()
    rows = np.isin(points[axis], np.unique(points[axis])[:2])
    only(refuse_cells(FORM, points.take(rows)), ("N,", "D,")[axis], "2 distinct levels", "at least 3")


def test_five_cells(grid: Callable[..., Points]):
    only(refuse_cells(FORM, grid().take(np.array([0, 7, 14, 21, 28]))), "Only 5 completed cells", "at least 6")


def test_no_cells():
    reasons = refuse_cells(FORM, Points(*np.zeros((3, 0))))
    assert "Only 0 completed cells" in reasons[0]
    assert len(reasons) == 3


def test_events_proportional_to_parameters(grid: Callable[..., Points]):
    points = grid()
    only(
        refuse_cells(FORM, points._replace(num_events=20 * points.num_params)),
        "correlation 1.00000",
        "vary D at fixed N",
    )


def test_constant_loss(grid: Callable[..., Points]):
    only(refuse_cells(FORM, grid()._replace(loss=np.full(36, 1.5))), "same loss, 1.5")


def test_more_parameters_need_more_cells(grid: Callable[..., Points]):
    six = grid().take(np.array([0, 7, 14, 21, 28, 35]))
    only(refuse_cells(Coupled(), six._replace(num_events=six.num_events[::-1])), "at least 7 cells")


def test_one_axis_alone_needs_only_its_own_levels(grid: Callable[..., Points]):
    one_size = grid().take(np.arange(6))
    assert refuse_cells(SingleAxis("events"), one_size) == ()
    only(refuse_cells(SingleAxis("params"), one_size), "N,", "1 distinct levels")
