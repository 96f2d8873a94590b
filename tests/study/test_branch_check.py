"""The sample of cells that is trained again without a trunk, and what is said of it."""

import math

import pytest

from behavegpt.errors import InputError
from behavegpt.study import branch_check
from behavegpt.study.branch_check import Comparison, check_study, comparison_lines, disagreements, sample
from behavegpt.study.config import of_widths
from behavegpt.study.run import open_study


@pytest.fixture
def study(make_config, tiny, tmp_path):
    """Return three sizes by four data sizes, two seeds."""
    config = make_config(sizes=of_widths(8, 12, 16), num_events=(2_000, 4_000, 6_000, 8_000), seeds=(3, 4))
    return open_study(config, tiny, tmp_path / "study")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        # Of twelve cells in the order of size and D, the middles of equal stretches.
        (1, [(12, 6_000)]),
        (2, [(16, 8_000), (8, 4_000)]),
        (4, [(16, 4_000), (12, 2_000), (12, 8_000), (8, 6_000)]),
        (12, [(w, d) for w in (16, 12, 8) for d in (2_000, 4_000, 6_000, 8_000)]),
    ],
)
def test_the_sample_is_spread_over_the_grid(study, number, expected):
    chosen = sample(study, number)
    assert [(job.model.width, cell.num_events) for job, cell in chosen] == expected
    assert {job.train.seed for job, _ in chosen} == {3}


@pytest.mark.parametrize("number", [-1, 13])
def test_a_sample_that_does_not_exist_is_refused(study, number):
    with pytest.raises(InputError, match=f"check_branches is {number}; the study has 12 branches"):
        sample(study, number)


def test_a_study_without_trunks_has_nothing_to_check(make_config, tiny, tmp_path):
    with pytest.raises(InputError, match="the study has 0 branches"):
        sample(open_study(make_config(schedule="cosine"), tiny, tmp_path / "study"), 2)


def test_the_check_trains_each_sampled_cell_twice_and_no_other(study):
    check = check_study(study, 4)
    cells = [(job.train.schedule, job.model.width, *(c.num_events for c in job.cells)) for job in check.plan.jobs]
    wanted = [(16, 4_000), (12, 2_000), (12, 8_000), (8, 6_000)]
    assert sorted(cells) == sorted((s, *cell) for s in ("wsd_independent", "cosine") for cell in wanted)
    # Runs of their own cost their D.
    assert sum(cost.events for cost in check.plan.costs) == 2 * (4_000 + 2_000 + 8_000 + 6_000)
    assert check.study_dir == study.study_dir / "branch_check"
    own = {job.model: job for job in study.plan.jobs if job.train.seed == 3}
    for job in check.plan.jobs:
        assert job.train.learning_rate == own[job.model].train.learning_rate
        assert job.train.seed == 3
        assert job.model == own[job.model].model


def test_a_trained_check_is_compared_cell_by_cell(study, write_cell, monkeypatch):
    check = check_study(study, 2)
    for job in study.plan.jobs:
        for cell in job.cells:
            write_cell(job, cell, loss=2.0)
    off = {"wsd_independent": 2.0 + 4e-6, "cosine": 2.1}
    for job in check.plan.jobs:
        write_cell(job, job.cells[0], loss=off[job.train.schedule])
    comparisons = branch_check.compare(study, 2)
    assert [(one.branch, one.independent, one.cosine) for one in comparisons] == [(2.0, 2.000004, 2.1)] * 2
    assert disagreements(comparisons) == []
    _, first, _ = comparison_lines(comparisons)
    assert first.split()[2:] == ["2.0000", "2.0000", "4.0e-06", "2.1000", "+0.1000"]


@pytest.mark.parametrize(
    ("branch", "independent", "wrong"),
    [
        (2.0, 2.0, False),
        (2.0, 2.0 + 9e-6, False),
        (2.0, 2.0 + 1.1e-5, True),
        (2.0, None, True),
        (None, 2.0, True),
        (2.0, math.nan, True),
    ],
)
def test_a_branch_that_differs_is_named(branch, independent, wrong):
    one = Comparison(cell_id="w16-d5", num_params=9, num_events=5, branch=branch, independent=independent, cosine=None)
    assert [sentence.startswith("cell w16-d5: ") for sentence in disagreements([one])] == ([True] if wrong else [])
    assert len(comparison_lines([one])) == 2
