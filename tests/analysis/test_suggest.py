"""Which cells come next: on studies drawn from a known law, with prices that can be added up by hand."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from analysis import (
    Candidate,
    Choice,
    Flops,
    Law,
    Table,
    design,
    first_cells,
    fit_law,
    read_table,
    suggest,
    suggestion_lines,
    target_width,
)
from analysis.calibration import calibrate
from analysis.forms import Points, Separable
from analysis.ladder import climb
from analysis.replay import candidates_of, replay, take
from behavegpt.errors import InputError

SIZES = (4_500, 7_500, 16_000, 43_000, 107_000, 237_000)
EVENTS = (25_000, 50_000, 100_000, 200_000, 400_000, 600_000, 800_000)
BETWEEN, WITHIN = 0.0028, 0.0022
"""Relative noise of a trunk and of a cell, about those of a small study on generated events."""


def bill(cells: Sequence[Candidate]) -> float:
    """Return 6 N for each event: each trunk up to where its last decay starts, and a fifth of each D for its decay."""
    trunks = {(cell.trunk, cell.num_params) for cell in cells}
    events = {trunk: [cell.num_events for cell in cells if (cell.trunk, cell.num_params) == trunk] for trunk in trunks}
    return sum(6 * trunk[1] * (0.8 * max(sizes) + 0.2 * sum(sizes)) for trunk, sizes in events.items())


def law_of(num_params, num_events):
    return 20 * num_params**-0.6 + 230 * num_events**-0.65 + 1.7


@pytest.fixture
def make_table(study_dir: Path) -> Callable[..., Table]:
    """Return a function that draws a study of 6 sizes, 7 data sizes and some seeds."""
    blank = read_table(study_dir / "results.parquet")

    def make(draw: int, num_seeds: int = 1) -> Table:
        rows, columns = [], []
        for seed in range(num_seeds):
            for N in SIZES:
                noise = np.random.default_rng([draw, N, seed])
                shared = BETWEEN * noise.normal()
                for D in EVENTS:
                    loss = law_of(N, D) * np.exp(shared + WITHIN * noise.normal())
                    rows.append({"cell_id": f"{N}-{D}-{seed}", "trunk_id": f"{N}-{seed}"})
                    columns.append((N, D, loss, seed))
        N, D, loss, seed = np.array(columns, float).T
        count = len(rows)
        table = replace(
            take(blank, [0] * count),
            points=Points(N, D, loss, np.ones(count), np.ones(count)),
            cell_id=tuple(row["cell_id"] for row in rows),
            trunk=np.unique([row["trunk_id"] for row in rows], return_inverse=True)[1],
            seed=seed.astype(int),
            flops=6 * N * D,
        )
        return replace(table, rows=tuple(rows), countings={}, dropped=())

    return make


def fitted(table: Table, budget: Flops, **options) -> Law:
    return fit_law(table, budgets=[budget], num_draws=100, form="separable", flops_per_param_event=6, **options)


TARGET = Flops(10 * 6.0 * SIZES[-1] * EVENTS[-1])


def test_the_width_is_that_of_the_printed_interval(make_table: Callable[..., Table]):
    law = fitted(make_table(0), TARGET)
    low, high = law.optima[0].loss_interval or (0, 0)
    assert target_width(law, TARGET) == (high - low) / law.optima[0].loss > 0


def test_no_width_without_a_law_or_its_ladder(make_table: Callable[..., Table]):
    table = make_table(0)
    two_sizes = take(table, [at for at in range(42) if table.points.num_params[at] < 10_000])
    assert target_width(fitted(two_sizes, TARGET), TARGET) == np.inf
    few = take(table, [0, 1, 2, 7, 8, 9, 14, 15, 16])
    law = fitted(few, TARGET)
    assert law.calibration is None
    assert target_width(law, TARGET) == np.inf


def test_a_law_that_was_not_asked(make_table: Callable[..., Table]):
    law = fitted(make_table(0), TARGET)
    with pytest.raises(InputError, match=r"no answer for 1e12 FLOPs; it was asked for 1.1e13 FLOPs"):
        target_width(law, Flops(1e12))
    without = fit_law(make_table(0), budgets=[TARGET], num_draws=0, form="separable")
    with pytest.raises(InputError, match="no draws"):
        target_width(without, TARGET)


def test_choices_are_new_priced_one_after_the_other_and_promise_more_and_more(make_table: Callable[..., Table]):
    table = make_table(1)
    cells, has = candidates_of(table), [at for at in range(42) if at % 7 < 4]
    part = take(table, has)
    mine = candidates_of(part)

    def price(news: Sequence[Candidate]) -> float:
        return bill([*mine, *news]) - bill(mine)

    law = fitted(part, TARGET)
    choices = suggest(law, part, cells, price, TARGET, number=6)
    chosen = [choice.candidate for choice in choices]
    assert len(set(chosen)) == 6
    assert not set(chosen) & set(mine)
    assert [choice.cost for choice in choices] == pytest.approx(
        [price(chosen[: at + 1]) - price(chosen[:at]) if at else price(chosen[:1]) for at in range(6)]
    )
    widths = [target_width(law, TARGET), *(choice.width for choice in choices)]
    assert widths == sorted(widths, reverse=True)
    assert len(suggest(law, part, cells, price, TARGET, number=100)) == len(cells) - len(mine)


def test_the_free_lunch_is_taken_first(make_table: Callable[..., Table]):
    # Of two cells alike but for their price, the cheaper; and a decay is worth more than a trunk for the same cell.
    table = make_table(1)
    part = take(table, [at for at in range(42) if at < 35])
    twins = [Candidate(num_params=237_000, num_events=400_000, trunk=name) for name in ("dear", "cheap")]

    def price(news: Sequence[Candidate]) -> float:
        return sum({"dear": 2e12, "cheap": 1e12}[cell.trunk] for cell in news)

    first, second = suggest(fitted(part, TARGET), part, twins, price, TARGET, number=2)
    assert (first.candidate.trunk, second.candidate.trunk) == ("cheap", "dear")


def test_a_far_target_wants_larger_models_than_a_near_one(make_table: Callable[..., Table]):
    # At equal prices the cell that tells most of a target far beyond the cells is at the edge of N, not in the middle.
    table = make_table(2)
    part = take(table, [at for at in range(42) if at < 28])
    offers = [Candidate(num_params=N, num_events=400_000, trunk=f"new-{N}") for N in (7_500, 16_000, 43_000, 237_000)]
    (first,) = suggest(fitted(part, TARGET), part, offers, lambda news: float(len(news)), TARGET, number=1)
    assert first.candidate.num_params == 237_000


def test_a_refused_law_asks_for_the_cheapest(make_table: Callable[..., Table]):
    table = make_table(0)
    part = take(table, list(range(14)))
    law = fitted(part, TARGET)
    assert law.refused
    first, second = suggest(law, part, candidates_of(table), bill, TARGET, number=2)
    assert (first.candidate.num_params, first.candidate.num_events) == (16_000, 25_000)
    assert (second.candidate.num_events, second.cost) == (50_000, pytest.approx(6 * 16_000 * (0.8 * 25_000 + 10_000)))
    assert first.width == np.inf


def test_the_first_cells_give_a_calibrated_law_and_none_is_spare(make_table: Callable[..., Table]):
    table = make_table(3)
    cells = candidates_of(table)
    first = first_cells(cells, bill)
    law = fitted(take(table, [cells.index(cell) for cell in first]), TARGET)
    assert law.calibration is not None
    assert len({cell.num_params for cell in first}) >= 3
    assert len({cell.num_events for cell in first}) >= 3
    assert bill(first) < 0.02 * bill(cells)
    for spared in range(len(first)):
        fewer = take(table, [cells.index(cell) for at, cell in enumerate(first) if at != spared])
        steps = climb(Separable(), fewer.points, fewer.trunk, "curve_fit")
        assert calibrate(steps, 0.95, 0) is None


def test_first_cells_of_few_candidates():
    grid = [Candidate(num_params=N, num_events=D, trunk=f"{N}") for N in (1e4, 2e4, 4e4) for D in (1e5, 2e5, 4e5)]
    assert set(first_cells(grid, bill)) == set(grid)
    with pytest.raises(InputError, match=r"D, the number of events, has 2 distinct levels"):
        first_cells([cell for cell in grid if cell.num_events < 4e5], bill)
    with pytest.raises(InputError, match=r"Candidate of trunk x: N = -1, D = 100000.0"):
        first_cells([*grid, Candidate(num_params=-1, num_events=1e5, trunk="x")], bill)


def test_a_price_must_be_positive(make_table: Callable[..., Table]):
    table = make_table(0)
    offers = [Candidate(num_params=500_000, num_events=5e4, trunk="new")]
    with pytest.raises(InputError, match=r"The price of N = 500000, D = 50000 of trunk new is 0 FLOPs"):
        suggest(fitted(table, TARGET), table, offers, lambda news: 0.0, TARGET, number=1)


def test_the_table_of_a_terminal():
    cell = Candidate(num_params=42_800, num_events=400_000, trunk="w40x2-s0")
    choices = [
        Choice(candidate=cell, cost=1.5e11, width=0.025),
        Choice(candidate=replace(cell, num_events=600_000), cost=5e10, width=np.inf),
    ]
    assert suggestion_lines(choices, 0.03, Flops(1e13)) == [
        "Next cells for the loss at 1e13 FLOPs; the law's 95 % interval of it is now 3.00% of the loss wide.",
        "       N         D     FLOPs  all so far  width then  trunk",
        "   42.8k      400k    1.5e11      1.5e11       2.50%  w40x2-s0",
        "   42.8k      600k      5e10        2e11           -  w40x2-s0",
    ]
    assert suggestion_lines([], 0.03, Flops(1e13))[1] == "No cell is left to train."


def cost_to_match(order: str, num_seeds: int) -> float:
    """Return the cost of cells that tell as much of the target as the grid of one seed does, over the grid's.

    Law and noise are known here, so no luck of a draw decides. `order` is best, cheapest or random.
    """
    theta, unit = np.array([20.0, 0.6, 230.0, 0.65, 1.7]), (3e4, 1.7e5)
    grid, offers = (
        [Candidate(num_params=N, num_events=D, trunk=f"{N}-{at}") for at in range(seeds) for N in SIZES for D in EVENTS]
        for seeds in (1, num_seeds)
    )
    flops = np.log(TARGET.flops / 6)
    splits = np.exp(np.linspace(np.log(1e5), np.log(1e6), 1000))
    N = splits[np.argmin(law_of(splits, np.exp(flops) / splits))]
    target = Candidate(num_params=N, num_events=np.exp(flops) / N, trunk="")

    def rows(cells: Sequence[Candidate]) -> np.ndarray:
        sizes = np.array([[cell.num_params, cell.num_events] for cell in cells]).T
        scaled = Points(sizes[0] / unit[0], sizes[1] / unit[1], np.ones(len(cells)))
        form = Separable()
        return 1e5 * design.gradients(form, form.rescale(theta, *unit)[None], scaled)

    def begin(cells: Sequence[Candidate]) -> design.Design:
        parts = design.Components(1e10 * BETWEEN**2, 1e10 * WITHIN**2, slope=0.0, typical=1.0)
        one, names = np.ones(len(cells)), [cell.trunk for cell in cells]
        return design.start(rows(cells), one, names, weight=one, parts=parts, target=rows([target])[:, 0])

    wanted, has = begin(grid).variance()[0], list(first_cells(offers, bill))
    plan, left, dice = begin(has), [cell for cell in offers if cell not in has], np.random.default_rng(0)
    while plan.variance()[0] > wanted and left:
        costs = np.array([bill([*has, cell]) for cell in left]) - bill(has)
        one = np.ones(len(left))
        worth = (1 - plan.ratios(rows(left), one, one, [cell.trunk for cell in left])) / costs
        at = int({"best": np.argmax(worth), "cheapest": np.argmin(costs), "random": dice.integers(len(left))}[order])
        has.append(left.pop(at))
        plan = plan.add(rows(has[-1:])[:, 0], 1.0, 1.0, has[-1].trunk)
    return bill(has) / bill(grid)


def test_what_a_whole_grid_tells_for_half_of_its_cost():
    # The grid's own cells can hardly tell as much as all of them together; with a second seed on offer, half the cost
    # does: the largest model takes half of the grid's, and a law is not told by one model.
    assert cost_to_match("best", 1) > 0.9
    chosen = cost_to_match("best", 2)
    assert chosen <= 0.6
    assert chosen < 0.9 * cost_to_match("cheapest", 2)
    assert chosen < 0.6 * cost_to_match("random", 2)


def at_random(law: Law, table: Table, left: Sequence[Candidate], price: object) -> list[Candidate]:
    return [left[at] for at in np.random.default_rng(len(left)).permutation(len(left))]


@pytest.mark.slow
def test_chosen_cells_reach_the_grids_interval_for_less(
    make_table: Callable[..., Table], monkeypatch: pytest.MonkeyPatch
):
    # The other forms' ladders take three quarters of the time, and change nothing for a form that is asked for.
    monkeypatch.setattr("analysis.law.candidates", lambda points: (Separable(),))
    # Against the 42 cells of one seed, those of two seeds are on offer: the grid's own cells alone cannot tell as much
    # as all of them do, but the largest model takes half of the grid's cost and tells less than half of the law.
    costs = []
    for draw in (0, 1, 2):
        grid, offers = make_table(draw), make_table(draw, num_seeds=2)
        width = target_width(fitted(grid, TARGET), TARGET)
        rounds = replay(offers, bill, TARGET, lambda part: fitted(part, TARGET), width=width, growth=1.0)
        spent = [done.cost for done in rounds]
        assert spent == sorted(spent)
        assert all(set(before.cells) < set(after.cells) for before, after in pairwise(rounds))
        assert all(done.width > width for done in rounds[:-1])
        costs.append(spent[-1] / bill(candidates_of(grid)))
    assert np.median(costs) <= 0.6


def test_a_replay_stops_where_the_interval_is_narrow_enough(make_table: Callable[..., Table]):
    table = make_table(0)
    (first,) = replay(table, bill, TARGET, lambda part: fitted(part, TARGET), width=np.inf)
    assert set(first.cells) == set(first_cells(candidates_of(table), bill))
    assert first.cost == pytest.approx(bill(first.cells))
    seen = []

    def fit(part: Table) -> Law:
        seen.append(len(part.points.loss))
        return fitted(part, TARGET)

    rounds = replay(table, bill, TARGET, fit, width=0.0, order=at_random, growth=100.0)
    assert seen == [13, 42]
    assert rounds[-1].cost == pytest.approx(bill(candidates_of(table)))
