"""A study that chooses its own cells: the first law's, then round by round those that tell most per FLOP.

In: a study, whose grid is the range that cells may be chosen in; an adviser, which knows the law; what is wanted. Out:
cells like any others, a plan.json that names them, and why no more of them were trained. What comes next depends on the
cells that are there and on nothing else, so a rerun goes on where a killed run stopped, and a later run of the whole
grid trains what is left of it.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from behavegpt.errors import InputError
from behavegpt.lease import lease
from behavegpt.study.aim import Aim
from behavegpt.study.candidates import Offer, candidates, done, offers, part, price_of, widened
from behavegpt.study.config import Variant
from behavegpt.study.grid import Plan
from behavegpt.study.journal import read_cells
from behavegpt.study.run import Study, Watch, rebuild_results, training

ROUND, LEAST_ROUND = 0.25, 0.05
"""A round may cost this much of what has been spent, or of the whole grid: starting its worker groups costs some ten
CPU-seconds each, so there are at most twenty rounds, and few of them early on, when they are cheap."""
MOST = 24
"""Cells of a round."""
TOO_LITTLE = 0.1
"""Without a wanted width: what is left to spend is not worth it when it is expected to narrow the interval by less."""
DEFAULT_NUMBER = 5
ALL_TRAINED = "every cell on offer is trained, or has failed"


class Advice(Protocol):
    """What the cells that exist say of the ones to train next."""

    @property
    def law(self) -> str:
        """The law as one line, or why there is none."""
        ...

    @property
    def width(self) -> float:
        """Of the target's interval now, over its loss; infinite while there is no law."""
        ...

    @property
    def picks(self) -> Sequence[int]:
        """Positions among the offers, in the order in which they are worth their cost."""
        ...

    @property
    def costs(self) -> Sequence[float]:
        """FLOPs of each pick after those before it."""
        ...

    @property
    def widths(self) -> Sequence[float]:
        """Expected after each pick."""
        ...

    def table(self, number: int) -> Sequence[str]:
        """Return the first picks, and why, as lines for a terminal."""
        ...


class Adviser(Protocol):
    """Knows laws; see analysis/advisor.py."""

    def first(self, offers: Sequence[Offer], price: Callable[[Sequence[int]], float]) -> Sequence[int]:
        """Return the positions of the cells that a first law needs."""
        ...

    def next(
        self, offers: Sequence[Offer], price: Callable[[Sequence[int]], float], number: int, may_cost: float
    ) -> Advice:
        """Return what the cells in results.parquet say of the offers; the picks together cost at most `may_cost`."""
        ...


AdviserOf = Callable[[Variant, float], Adviser]
"""Makes the adviser of a variant's law for a target in FLOPs."""


def suggestions(study: Study, aim: Aim, adviser_of: AdviserOf) -> list[str]:
    """Return --suggest's lines: the law of the cells that are there, and the next ones, in each variant.

    Raises:
        InputError: The grid is complete and cannot grow.
        DirectoryBusyError: Another live run works in the study's directory.
    """
    wider, lines = widened(candidates(study)), []
    asked, beyond = set(offers(study.plan)), False
    with lease(study.study_dir):
        rebuild_results(study.study_dir)
    for variant in study.config.variants:
        jobs = tuple(job for job in wider.missing().jobs if job.variant == variant.name)
        left = offers(Plan(jobs, ()))
        adviser = adviser_of(variant, aim.target(study.plan))
        advice = advise(wider, adviser, left, DEFAULT_NUMBER if aim.number is None else aim.number)
        lines += [f"{variant.name}: {advice.law}", *advice.table(len(advice.picks))]
        beyond |= any(left[at] not in asked for at in advice.picks)
    return [*lines, "Some are not of the grid that was asked for: they need flags that name them."] if beyond else lines


def first_lines(study: Study, aim: Aim, adviser_of: AdviserOf) -> list[str]:
    """Return what --auto --plan adds to a plan: the cells that it begins with."""
    [variant] = study.config.variants
    first = first_offers(study, adviser_of(variant, aim.target(study.plan)))
    price = price_of(study, anew=True)
    share = price(first) / price(offers(study.plan))
    jobs, wide = part(study, first).jobs, widened(study)
    return [
        f"  --auto chooses among {wide.plan.num_cells} cells: widths "
        f"{', '.join(str(width) for width in sorted({size.width for size in wide.config.sizes}))}; seeds "
        f"{', '.join(map(str, wide.config.seeds))}",
        f"  --auto begins with {len(first)} cells, {price(first):.2e} FLOPs, {share:.2f} of the grid's:",
        *(f"    {job.trunk_id:24} D {', '.join(f'{cell.num_events:,}' for cell in job.cells)}" for job in jobs),
    ]


def first_offers(study: Study, adviser: Adviser) -> tuple[Offer, ...]:
    """Return the cells that --auto begins with: the same whatever is there already.

    Raises:
        InputError: The grid cannot give a law.
    """
    on_offer = set(offers(widened(study).plan))
    grid = [offer for offer in offers(study.plan) if offer in on_offer]
    price = price_of(study, anew=True)
    return tuple(grid[at] for at in adviser.first(grid, lambda chosen: price([grid[at] for at in chosen])))


def advise(study: Study, adviser: Adviser, left: Sequence[Offer], number: int, may_cost: float = math.inf) -> Advice:
    """Return the advice on cells of the study's plan, priced on top of the checkpoints that exist now."""
    price = price_of(study)
    return adviser.next(left, lambda chosen: price([left[at] for at in chosen]), number, may_cost)


def spent(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return the training FLOPs of cells by their own records: of the events that each was trained on beyond the last.

    A cell that diverged has no such record, and counts as a run of its own.
    """
    return sum(_share(row) * row["flops"] for row in rows if row["status"] in ("completed", "diverged"))


def _share(row: Mapping[str, Any]) -> float:
    known = row.get("wall_s") and row.get("events_per_s")
    return row["wall_s"] * row["events_per_s"] / row["num_events"] if known else 1.0


def run_auto(study: Study, aim: Aim, adviser_of: AdviserOf, watch: Watch | None = None) -> str:
    """Train cells of the study's range until the aim is reached, and return why it stopped.

    Args:
        study: The requested grid, of one variant.
        aim: What is wanted.
        adviser_of: Makes the adviser.
        watch: As for `run_study`.

    Raises:
        InputError: The grid gives no law, or the first cells alone cost more than may be spent.
        DirectoryBusyError, KeyboardInterrupt: As for `run_study`.
    """
    [variant] = study.config.variants
    adviser = adviser_of(variant, aim.target(study.plan))
    first, wide, price = first_offers(study, adviser), widened(study), price_of(study, anew=True)
    cost, grid_cost = price(first), price(offers(study.plan))
    if aim.auto_flops is not None and cost > aim.auto_flops:
        raise InputError(f"--auto-flops is {aim.auto_flops:.3g}; the {len(first)} cells of a first law cost {cost:.3g}")
    with training(wide, watch) as sweep:
        chosen, asked = set(first) - set(done(wide)), set(done(wide))
        print(f"auto: a first law needs {len(first)} cells, {cost:.2e} FLOPs; {len(chosen)} are missing", flush=True)
        while not isinstance(chosen, str):
            asked.update(chosen)
            sweep.train(part(wide, asked), wide.missing(part(wide, chosen)))
            chosen = _next_round(wide, adviser, aim, asked, grid_cost, sweep.num_groups)
        return chosen


def _next_round(
    study: Study, adviser: Adviser, aim: Aim, asked: Collection[Offer], grid_cost: float, num_groups: int
) -> tuple[Offer, ...] | str:
    """Return the cells to train next, or why there are none; print which and why.

    Args:
        study: With all the cells on offer.
        asked: Those that are there, or have failed in this run.
        grid_cost: FLOPs of the whole grid that was requested.
        num_groups: Worker groups that train side by side.
    """
    names = {job.trunk_id for job in study.plan.jobs}
    used = spent([row for row in read_cells(study.study_dir) if row["trunk_id"] in names])
    left = [offer for offer in offers(study.plan) if offer not in asked]
    may_cost = (grid_cost if aim.auto_flops is None else aim.auto_flops) - used
    # What all that may be spent would tell matters only where no width is wanted.
    advice = advise(study, adviser, left, len(left) if aim.auto_width is None else MOST, may_cost)
    there = len(done(study))
    print(f"auto: {there} cells, {used:.2e} FLOPs, {used / grid_cost:.2f} of the grid's; {advice.law}", flush=True)
    if reason := _reason_to_stop(advice, aim, left, used, used + may_cost):
        return reason
    number = cells_of_round(advice, max(ROUND * used, LEAST_ROUND * grid_cost), num_groups, may_cost, aim.auto_width)
    print(*(f"  {line}" for line in advice.table(number)), sep="\n", flush=True)
    return tuple(left[at] for at in advice.picks[:number])


def _reason_to_stop(advice: Advice, aim: Aim, left: Sequence[Offer], used: float, purse: float) -> str:
    """Return why no more cells are trained, if they are not; `purse` is what all may cost."""
    if aim.auto_width is not None and advice.width <= aim.auto_width:
        return f"the interval is {advice.width:.2%} of the loss wide, no more than the wanted {aim.auto_width:.2%}"
    if not left:
        return ALL_TRAINED
    if not advice.picks:
        whose = "what the whole grid costs" if aim.auto_flops is None else "--auto-flops"
        return f"every cell that is left costs more than what is left of {whose}, {purse:.3g}; {used:.3g} are used"
    promised = advice.widths[-1]
    if aim.auto_width is None and promised > (1 - TOO_LITTLE) * advice.width:
        return (
            f"the interval is {advice.width:.2%} of the loss wide, and the {purse - used:.3g} FLOPs that are left "
            f"are expected to narrow it to {promised:.2%}, by less than {TOO_LITTLE:.0%}"
        )
    return ""


def cells_of_round(advice: Advice, worth: float, least: int, may_cost: float, width: float | None) -> int:
    """Return how many of the picks, in order, make up the next round.

    Args:
        advice: The picks with costs and expected widths.
        worth: FLOPs that a round of more than the least number does not exceed.
        least: As many at least: one for each worker group.
        may_cost: FLOPs that it may not exceed.
        width: What is wanted: no cell is added to those that are expected to reach it.
    """
    number, cost, reached = 0, 0.0, False
    for at, expected in zip(advice.costs, advice.widths, strict=True):
        cost += at
        if cost > may_cost or number == MOST or (number >= least and (cost > worth or reached)):
            break
        number, reached = number + 1, width is not None and expected <= width
    return number
