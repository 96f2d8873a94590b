"""A study that chooses its own cells, without a cluster: a sweep that writes them from a known law, and advisers that
are scripted, or the real one."""

import json
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from analysis.advisor import Advisor
from behavegpt.errors import DirectoryBusyError, InputError
from behavegpt.lease import lease
from behavegpt.study.aim import Aim
from behavegpt.study.auto import run_auto, spent
from behavegpt.study.candidates import Offer, done, offers, price_of, widened
from behavegpt.study.config import of_widths
from behavegpt.study.run import Study, run_study


@dataclass(frozen=True)
class Script:
    """Advice that takes the offers in their order, with a width that a fixed factor shrinks for each cell there."""

    law: str
    width: float
    picks: tuple[int, ...]
    costs: tuple[float, ...]
    widths: tuple[float, ...]

    def table(self, number: int) -> tuple[str, ...]:
        return tuple(f"pick {at}" for at in self.picks[:number])


@dataclass(frozen=True)
class Scripted:
    """Begins with the first four offers; after n cells the interval is 0.9**n wide, and each cell is worth a tenth."""

    study_dir: Path
    shrinks: float = 0.9

    def first(self, offers: Sequence[Offer], price: Callable[[Sequence[int]], float]) -> tuple[int, ...]:
        assert price(range(4)) > 0
        return (0, 1, 2, 3)

    def next(
        self, offers: Sequence[Offer], price: Callable[[Sequence[int]], float], number: int, may_cost: float
    ) -> Script:
        width = self.shrinks ** pq.read_table(self.study_dir / "results.parquet").num_rows
        picks: list[int] = []
        for at in range(len(offers)):
            picks += [at] if len(picks) < number and price([*picks, at]) <= may_cost else []
        costs = tuple(price(picks[: at + 1]) - price(picks[:at]) for at in range(len(picks)))
        widths = tuple(width * self.shrinks ** (at + 1) for at in range(len(picks)))
        return Script("a law", width, tuple(picks), costs, widths)


def scripted(study: Study, **changes) -> Callable[..., Scripted]:
    return lambda variant, target: Scripted(study.study_dir, **changes)


def real(study: Study) -> Callable[..., Advisor]:
    return lambda variant, target: Advisor(
        table=study.study_dir / "results.parquet", variant=variant.name, target_flops=target
    )


def test_the_first_cells_then_rounds_until_the_width_is_reached(make_study, cluster, capsys):
    study = make_study()
    # 0.9 ** 7 = 0.478: four cells, then three. The next round is what is expected to reach it, and a cell per group.
    reason = run_auto(study, Aim(auto=True, auto_width=0.5), scripted(study))
    assert reason == "the interval is 43.05% of the loss wide, no more than the wanted 50.00%"
    assert [len(one) for one in cluster.rounds] == [4, 2, 2]
    # 1,000 events are too few for any of these models to be on offer.
    assert cluster.rounds[0] == {(24, 0, 2_000), (24, 0, 4_000), (24, 0, 8_000), (16, 0, 2_000)}
    printed = capsys.readouterr().out.splitlines()
    heads = [line.split(",")[0] for line in printed if line.startswith("auto: ")]
    assert heads == ["auto: a first law needs 4 cells", *(f"auto: {n} cells" for n in (4, 6, 8))]
    assert sum("pick" in line for line in printed) == 4
    assert not (study.study_dir / "lock").exists()


def test_the_budget_counts_what_the_cells_took_and_is_kept(make_study, cluster):
    study = make_study()
    grid, price = offers(study.plan), price_of(study, anew=True)
    budget = price(grid[:4]) * 1.7
    reason = run_auto(study, Aim(auto=True, auto_flops=budget), scripted(study))
    assert "costs more than what is left of" in reason
    rows = pq.read_table(study.study_dir / "results.parquet").to_pylist()
    assert 0 < spent(rows) <= budget
    wide = widened(study)
    left = [offer for offer in offers(wide.plan) if offer not in done(wide)]
    assert left and all(price_of(wide)([offer]) > budget - spent(rows) for offer in left)


def test_without_a_budget_it_spends_no_more_than_the_whole_grid_costs(make_study, cluster):
    study = make_study()
    assert "what the whole grid costs" in run_auto(study, Aim(auto=True, auto_width=1e-9), scripted(study))
    rows = pq.read_table(study.study_dir / "results.parquet").to_pylist()
    cost = price_of(study, anew=True)(offers(study.plan))
    assert 0.8 * cost < spent(rows) <= cost


def test_first_cells_beyond_the_budget_are_refused_before_anything_is_written(make_study, cluster):
    study = make_study()
    with pytest.raises(InputError, match=r"--auto-flops is 10; the 4 cells of a first law cost"):
        run_auto(study, Aim(auto=True, auto_flops=10), scripted(study))
    assert not study.study_dir.exists()


def test_without_an_end_it_stops_where_the_rest_promises_little(make_study, cluster):
    study = make_study()
    # Eleven cells more would narrow it by 1 - 0.99 ** 11 = 10.5 %, ten by 9.6 %; thirty are on offer.
    reason = run_auto(study, Aim(auto=True, auto_flops=1e13), scripted(study, shrinks=0.99))
    assert "by less than 10%" in reason
    assert 20 <= len(done(widened(study))) < 30
    assert 30 - sum(map(len, cluster.rounds[:-1])) > 10


ALL = Aim(auto=True, auto_width=1e-9, auto_flops=1e13)


def test_all_cells_on_offer_and_not_one_twice(make_study, cluster):
    study = make_study()
    assert run_auto(study, ALL, scripted(study)).startswith("every cell on offer")
    # 20 lies between 16 and 24; nothing between the others.
    assert sorted(cluster.cells()) == [
        (w, s, d) for w in (8, 12, 16, 20, 24) for s in (0, 1) for d in (2_000, 4_000, 8_000)
    ]
    assert run_auto(study, ALL, scripted(study)).startswith("every cell on offer")
    assert len(cluster.cells()) == 30


def test_a_cell_that_fails_is_not_asked_for_again_in_the_same_run(make_study, cluster):
    study = make_study()
    cluster.refuses = 12
    assert "or has failed" in run_auto(study, ALL, scripted(study))
    assert {cell[0] for cell in cluster.cells()} == {8, 16, 20, 24}
    assert len(cluster.cells()) == 24
    cluster.refuses = None
    run_auto(study, ALL, scripted(study))
    assert len(cluster.cells()) == 30


@pytest.mark.parametrize("dies_at", [0, 1, 2])
def test_a_killed_run_goes_on_and_a_full_run_completes_the_grid(make_study, cluster, dies_at):
    study, aim = make_study(), Aim(auto=True, auto_width=0.3, auto_flops=1e13)
    wide, first = widened(study), offers(study.plan)[1:4] + offers(study.plan)[5:6]
    cluster.dies_at = dies_at
    with pytest.raises(KeyboardInterrupt):
        run_auto(study, aim, scripted(study))
    there = len(done(wide))
    assert not (study.study_dir / "lock").exists()
    cluster.dies_at = None
    assert "no more than the wanted" in run_auto(study, aim, scripted(study))
    trained = set(done(wide))
    assert there < len(trained) < 30
    # The scripted adviser takes the offers in order, so what is there is their beginning, whenever the run died.
    order = [*first, *(offer for offer in offers(wide.plan) if offer not in first)]
    assert trained == set(order[: len(trained)])
    assert run_study(study).num_rows == len(cluster.cells()) == len(trained | set(offers(study.plan)))
    assert len(cluster.cells()) == len(set(cluster.cells()))


def test_one_lease_holds_the_whole_run(make_study, cluster):
    study = make_study()
    with lease(study.study_dir), pytest.raises(DirectoryBusyError):
        run_auto(study, Aim(auto=True), scripted(study))
    assert cluster.rounds == []


def test_the_watch_is_entered_once_for_all_rounds(make_study, cluster):
    study, entered = make_study(), []

    @contextmanager
    def watch():
        assert (study.study_dir / "lock").exists()
        entered.append("in")
        yield lambda: None
        entered.append("out")

    run_auto(study, Aim(auto=True, auto_width=0.3), scripted(study), watch())
    assert len(cluster.rounds) > 2
    assert entered == ["in", "out"]


WIDE = {"sizes": of_widths(8, 12, 16, 24, 32), "num_events": (1_000, 1_500, 2_000, 3_000, 4_000, 6_000, 8_000)}


@pytest.mark.slow
def test_with_the_real_adviser_a_known_law_is_narrowed_by_a_part_of_the_grid(make_study, cluster, capsys):
    study, aim = make_study(**WIDE), Aim(auto=True, auto_width=0.1, target_flops=1e12)
    reason = run_auto(study, aim, real(study))
    assert "no more than the wanted 10.00%" in reason
    wide = widened(study)
    assert 8 < len(done(wide)) < len(offers(wide.plan))
    assert {seed for _, seed, _ in cluster.cells()} == {0, 1}
    law = real(study)(study.config.variants[0], 1e12).next([], lambda _: 0.0, 0, 0.0)
    assert law.width <= 0.1
    printed = capsys.readouterr().out
    assert "law of " in printed and "loss at 1e12 FLOPs" in printed
    again = make_study("again", **WIDE)
    first, cluster.rounds = cluster.rounds, []
    assert run_auto(again, aim, real(again)) == reason
    assert cluster.rounds == first


def test_the_cells_that_auto_trains_are_those_of_the_plan(make_study, cluster):
    study = make_study()
    run_auto(study, Aim(auto=True, auto_width=0.5), scripted(study))
    plan = json.loads((study.study_dir / "plan.json").read_text())
    planned = {f"{trunk['trunk_id']}-d{size}" for trunk in plan["trunks"] for size in trunk["num_events"]}
    assert planned == {path.stem for path in (study.study_dir / "cells").iterdir()}
    assert len(planned) == 8
