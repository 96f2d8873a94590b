"""Which cells could come next, and what they cost: FLOPs from the formula of a window, worked by hand."""

import pytest

from behavegpt.errors import InputError
from behavegpt.study.candidates import Offer, candidates, done, offers, part, price_of, widened
from behavegpt.study.config import of_widths
from behavegpt.study.grid import Cost
from behavegpt.study.run import open_study
from behavegpt.train.config import ExecutionConfig


def window(width: int) -> float:
    """Training FLOPs of a window in two blocks with 40 classes: three forward passes."""
    return 3 * (90 * 2 * (2 * 12 * width**2 + width**2 + width * 40) + 2 * 4 * 90**2 * width)


def params(width: int) -> int:
    return 2 * (12 * width**2 + 13 * width) + 2 * width + width**2 + width + 40 * width + 40


def test_every_cell_of_the_plan_is_on_offer(make_config, tiny, tmp_path):
    study = open_study(make_config(), tiny, tmp_path / "study")
    wide, narrow = (job.trunk_id for job in study.plan.jobs)
    assert offers(study.plan) == (
        Offer(params(16), 2_000, wide),
        Offer(params(16), 4_000, wide),
        Offer(params(12), 2_000, narrow),
        Offer(params(12), 4_000, narrow),
    )
    assert done(study) == ()


def test_the_price_of_a_set_pays_a_shared_trunk_once_and_no_checkpoint(make_config, tiny, tmp_path):
    study = open_study(make_config(), tiny, tmp_path / "study")
    small, large, other, _ = offers(study.plan)
    price = price_of(study)
    # 23 windows hold 2,000 targets, 45 hold 4,000. The trunk goes to 3,150 events, 35 windows; the branches leave it at
    # 1,530 and 3,150 events and take 6 and 10 windows.
    assert price([small]) == 23 * window(16)
    assert price([large]) == 45 * window(16)
    assert price([small, large]) == price([large, small]) == 51 * window(16)
    assert price([large, other]) == 45 * window(16) + 23 * window(12)
    assert price([]) == 0
    (study.plan.jobs[0].checkpoint_dir / "step-00000017").mkdir(parents=True)
    assert price_of(study)([large]) == (45 - 17) * window(16)
    assert price_of(study, anew=True)([large]) == 45 * window(16)


def test_the_price_does_not_depend_on_how_often_a_trunk_and_a_branch_are_saved(make_config, tiny, tmp_path):
    often = make_config(execution=ExecutionConfig(engine="torch", checkpoint_steps=3))
    study = open_study(often, tiny, tmp_path / "study")
    small, large, *_ = offers(study.plan)
    assert price_of(study)([small, large]) == 51 * window(16)
    assert study.plan.costs[0] == Cost(events=4_470, windows=51, steps=51)
    # A killed branch left a checkpoint: 42 of its 45 steps, the first 35 of them on the trunk, are there.
    (study.plan.jobs[0].checkpoint_dir / "branch-4000-step-00000042").mkdir(parents=True)
    assert price_of(study)([large]) == 3 * window(16)
    assert price_of(study)([small]) == 23 * window(16)


def test_a_part_of_a_plan_has_the_chosen_cells_alone(make_config, tiny, tmp_path):
    study = open_study(make_config(), tiny, tmp_path / "study")
    small, _, _, last = offers(study.plan)
    some = part(study, [last, small])
    assert offers(some) == (small, last)
    assert [job.trunk_id for job in some.jobs] == [job.trunk_id for job in study.plan.jobs]
    assert {job.later for job in some.jobs} == {(2_000, 4_000)}
    # What the plan of a part says of its cost is the part's own: 2,000 targets are 23 windows, 4,000 are 45.
    assert [cost.windows for cost in some.costs] == [23, 45]
    assert part(study, []).jobs == ()


def test_on_offer_are_the_sizes_between_and_one_more_seed(make_config, tiny, tmp_path):
    study = open_study(make_config(sizes=of_widths(12, 16, 24, 40), seeds=(0, 3)), tiny, tmp_path / "study")
    wide = widened(study)
    # The middle of 12 and 16 is 13.9, of 16 and 24 19.6, of 24 and 40 31.0: in fours 12, 20 and 32.
    assert wide.config.sizes == of_widths(12, 16, 24, 40, 20, 32)
    assert wide.config.seeds == (0, 3, 4)
    assert set(offers(study.plan)) < set(offers(wide.plan))
    assert len(offers(wide.plan)) == 6 * 3 * 2
    # Nothing lies between models of two depths.
    deep = (*of_widths(12), *of_widths(48, depth=3))
    two = open_study(make_config(sizes=deep), tiny, tmp_path / "two")
    assert widened(two).config.sizes == deep


def test_finished_cells_are_known(finished):
    assert done(finished) == offers(finished.plan)
    job = finished.plan.jobs[1]
    (job.cell_dir / f"{job.cells[0].cell_id}.json").unlink()
    assert set(offers(finished.plan)) - set(done(finished)) == {Offer(params(12), 2_000, job.trunk_id)}
    assert candidates(finished) is finished


def test_a_complete_grid_grows_by_two_widths_and_by_the_data_that_there_is(finished):
    # The dataset has 9,000 targets: 8,000 fits, 16,000 does not. After 16 the ladder has 24 and 32.
    grown = candidates(finished)
    assert {(o.num_params, o.num_events) for o in offers(grown.missing())} == {
        *((params(width), size) for width in (24, 32) for size in (2_000, 4_000, 8_000)),
        *((params(width), 8_000) for width in (12, 16)),
    }
    assert finished.config.sizes == of_widths(12, 16)


def test_multiples_of_n_grow_as_long_as_the_dataset_holds_them(make_config, tiny, tmp_path, write_cell):
    # At width 12: N = 4,468, and twice that is 8,936. Width 16 has 7,544: one times that alone fits.
    config = make_config(sizes=of_widths(12), num_events=(), events_per_param=(0.5, 1.0))
    study = open_study(config, tiny, tmp_path / "study")
    for cell in study.plan.jobs[0].cells:
        write_cell(study.plan.jobs[0], cell)
    assert {(o.num_params, o.num_events) for o in offers(candidates(study).missing())} == {
        (params(16), 3_772),
        (params(16), 7_544),
    }


def test_a_complete_grid_that_cannot_grow_is_said_to_be_so(make_config, tiny, tmp_path, write_cell):
    config = make_config(sizes=of_widths(1024), num_events=(5_000,))
    study = open_study(config, tiny, tmp_path / "study")
    write_cell(study.plan.jobs[0], study.plan.jobs[0].cells[0])
    with pytest.raises(InputError, match="no width beyond 1024"):
        candidates(study)
