"""The cells that a study could train next, and what any set of them costs on top of what is there.

In: a study. Out: its missing cells, those between them, those of the next larger grid; a price for each set; the plan
of a set alone.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from behavegpt.errors import InputError
from behavegpt.model.sizing import count_params, flops_per_window
from behavegpt.study.axes import LADDER
from behavegpt.study.config import Size, StudyConfig
from behavegpt.study.grid import Cost, Plan, cost, cost_left, plan_study, resolve
from behavegpt.study.run import Study
from behavegpt.train.config import TrunkJob
from behavegpt.train.record import finished

STEPS_AHEAD = 2
"""Steps that each axis of a complete grid may grow at once: farther cells can be asked for when these are there."""


LEAST_SIZES = 3
"""Data sizes of a model that stay on offer: so many levels has a law at least."""


class Offer(NamedTuple):
    """A cell that could be trained."""

    num_params: int
    num_events: int
    trunk: str
    """Its trunk_id: cells of one trunk share what it costs."""


Price = Callable[[Sequence[Offer]], float]
"""Training FLOPs of a set of cells together."""


def offers(plan: Plan) -> tuple[Offer, ...]:
    """Return the cells of a plan."""
    return tuple(
        Offer(count_params(job.model).non_embedding, cell.num_events, job.trunk_id)
        for job in plan.jobs
        for cell in job.cells
    )


def part(study: Study, chosen: Collection[Offer]) -> Plan:
    """Return the part of a study's plan that holds the chosen cells, with what it costs from nothing.

    Its trunks are also saved where the branches of the plan's other cells leave them.
    """
    _, steps, _ = resolve(study.config, study.manifest, study.dataset)
    wanted = {(offer.trunk, offer.num_events) for offer in chosen}
    jobs = tuple(
        replace(job, cells=cells, later=tuple(cell.num_events for cell in job.cells))
        for job in study.plan.jobs
        if (cells := tuple(cell for cell in job.cells if (job.trunk_id, cell.num_events) in wanted))
    )
    return Plan(jobs, tuple(cost(job, steps, set()) for job in jobs), study.plan.notes)


def widened(study: Study) -> Study:
    """Return the study whose cells are on offer: of the grid, of models between its own, of one more seed of each.

    The grid is the range in which cells are chosen. Its own cells can hardly tell for less what all of them tell; a
    trunk of its own at another N, or from another seed, tells more for its cost than the dearest of them. A model's
    smaller cells with fewer events than parameters are not on offer: they are cheap for their N, so that they would be
    chosen first, and they are far from the splits that a law is asked for, where it fits worst.
    """
    config = study.config
    sizes = sorted(config.sizes, key=lambda size: (size.depth, size.width))
    between = [middle for pair in pairwise(sizes) if (middle := _between(*pair)) is not None]
    wide = replace(config, sizes=(*config.sizes, *between), seeds=(*config.seeds, max(config.seeds) + 1))
    plan = plan_study(wide, study.manifest, study.dataset, study.study_dir)
    return replace(study, config=wide, plan=replace(plan, jobs=tuple(_without_the_starved(job) for job in plan.jobs)))


def _without_the_starved(job: TrunkJob) -> TrunkJob:
    """Return the job with its data sizes of one event a parameter or more, or with the larger half, three at least."""
    kept = max(LEAST_SIZES, math.ceil(len(job.cells) / 2))
    least = min(count_params(job.model).non_embedding, job.cells[-kept:][0].num_events)
    return replace(job, cells=tuple(cell for cell in job.cells if cell.num_events >= least))


def _between(small: Size, large: Size) -> Size | None:
    """Return the model of the geometric middle of two widths of one depth, if a width lies between."""
    width = 4 * round(math.sqrt(small.width * large.width) / 4)
    alike = small.depth == large.depth and small.num_heads is None and large.num_heads is None
    return replace(small, width=width) if alike and small.width < width < large.width else None


def done(study: Study) -> tuple[Offer, ...]:
    """Return the cells of the plan that have their final file."""
    there = {cell.cell_id for job in study.plan.jobs for cell in job.cells if finished(job, cell)}
    jobs = [replace(job, cells=tuple(c for c in job.cells if c.cell_id in there)) for job in study.plan.jobs]
    return offers(replace(study.plan, jobs=tuple(job for job in jobs if job.cells)))


def price_of(study: Study, *, anew: bool = False) -> Price:
    """Return the price of sets of the plan's cells, exact: shared trunks are paid once.

    Args:
        study: Whose plan holds the cells that will be asked for.
        anew: Price them as if nothing were there; otherwise what leads to a checkpoint that exists is free.
    """
    _, steps, _ = resolve(study.config, study.manifest, study.dataset)
    jobs = {job.trunk_id: job for job in study.plan.jobs}
    known: dict[tuple[str, tuple[int, ...]], float] = {}

    def of_trunk(name: str, sizes: tuple[int, ...]) -> float:
        if (name, sizes) not in known:
            job = jobs[name]
            part = replace(job, cells=tuple(cell for cell in job.cells if cell.num_events in sizes))
            known[name, sizes] = flops_of(part, cost(part, steps, set()) if anew else cost_left(part, steps))
        return known[name, sizes]

    def price(chosen: Sequence[Offer]) -> float:
        trunks: dict[str, set[int]] = {}
        for offer in chosen:
            trunks.setdefault(offer.trunk, set()).add(offer.num_events)
        return sum(of_trunk(name, tuple(sorted(sizes))) for name, sizes in trunks.items())

    return price


def flops_of(job: TrunkJob, cost: Cost) -> float:
    """Return the training FLOPs of a trunk with its branches."""
    return float(flops_per_window(job.model).training * cost.windows)


def candidates(study: Study) -> Study:
    """Return the study whose missing cells are worth a look: as it is, or the next larger one where it is complete.

    Raises:
        InputError: The grid is complete and cannot grow: the dataset holds no more data, the ladder no larger model.
    """
    if study.missing().jobs:
        return study
    plan, config = study.plan, study.config
    for grow in STEPS_AHEAD * (_wider, _longer):
        try:
            plan = plan_study(grow(config), study.manifest, study.dataset, study.study_dir)
        except InputError:
            continue  # beyond the dataset: this axis ends here
        config = grow(config)
    grown = replace(study, config=config, plan=plan)
    if not grown.missing().jobs:
        raise InputError(
            f"{study.study_dir}: its grid is complete, {study.dataset} holds no data for a larger D, and there is no "
            f"width beyond {max(size.width for size in config.sizes)} in {LADDER}; ask for a grid of your own"
        )
    return grown


def _wider(config: StudyConfig) -> StudyConfig:
    """Return the study with one model more, as deep as its widest; the study itself at the ladder's end."""
    widest = max(config.sizes, key=lambda size: (size.width, size.depth))
    width = next((width for width in LADDER if width > widest.width), None)
    if width is None:
        return config
    return replace(config, sizes=(*config.sizes, replace(widest, width=width, num_heads=None)))


def _longer(config: StudyConfig) -> StudyConfig:
    """Return the study with one data size more: twice the largest number, multiple of N, or budget."""
    [name] = [n for n in ("num_events", "events_per_param", "flop_budgets") if getattr(config, n)]
    values = getattr(config, name)
    return replace(config, **{name: (*values, 2 * max(values))})
