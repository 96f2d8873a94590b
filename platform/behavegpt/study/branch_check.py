"""Are the losses of branches those of runs of their own? A sample of a study's cells, trained again without a trunk.

In: a finished study. Out: branch_check/ in its directory, a study of its own (journal, curves, results.parquet), whose
cells are runs to one D each, by the branch's own schedule and by cosine, with the branch's seed and data; and
comparison.json. The first must give the branch's loss, the second shows what the choice of schedule is worth.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from behavegpt.config import plain
from behavegpt.errors import InputError
from behavegpt.files import replace_file
from behavegpt.study.config import StudyConfig, Variant
from behavegpt.study.grid import plan_study
from behavegpt.study.journal import read_cells
from behavegpt.study.run import Study, open_study, run_study
from behavegpt.train.config import Cell, TrunkJob

DIRECTORY = "branch_check"
BOUND = 1e-5
"""Nats within which a branch must agree with a run of its own, in fp32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One cell, trained in three ways; None is a loss that did not come about."""

    cell_id: str
    num_params: int
    num_events: int
    branch: float | None
    independent: float | None
    cosine: float | None

    @property
    def difference(self) -> float | None:
        """Of the branch to the independent run."""
        return None if self.branch is None or self.independent is None else abs(self.branch - self.independent)


def sample(study: Study, number: int) -> list[tuple[TrunkJob, Cell]]:
    """Return so many cells spread evenly over the grid, in the order of size and then of D, first seed and variant.

    Raises:
        InputError: The study has fewer, or none that share trunks.
    """
    first = study.config.variants[0].name
    cells = [
        (job, cell)
        for job in study.plan.jobs
        if job.variant == first and job.train.seed == study.config.seeds[0] and job.train.schedule == "wsd"
        for cell in job.cells
    ]
    if not 1 <= number <= len(cells):
        raise InputError(f"check_branches is {number}; the study has {len(cells)} branches of one seed and variant")
    return [cells[int((k + 0.5) * len(cells) / number)] for k in range(number)]


def check_study(study: Study, number: int) -> Study:
    """Return the study that trains the sample again: two runs per cell, and nothing shared.

    Raises:
        InputError: As for `sample`.
    """
    cells = sample(study, number)
    wanted = {(job.model, cell.num_events) for job, cell in cells}
    variants = [replace(study.config.variants[0], schedule=schedule) for schedule in ("wsd_independent", "cosine")]
    config = _restricted(study.config, sorted({events for _, events in wanted}), variants)
    opened = open_study(config, study.dataset, study.study_dir / DIRECTORY)
    plan = plan_study(config, study.manifest, study.dataset, opened.study_dir)
    chosen = [
        (job, cost)
        for job, cost in zip(plan.jobs, plan.costs, strict=True)
        if (job.model, job.cells[0].num_events) in wanted
    ]
    return replace(opened, plan=replace(plan, jobs=tuple(j for j, _ in chosen), costs=tuple(c for _, c in chosen)))


def _restricted(config: StudyConfig, num_events: Sequence[int], variants: Sequence[Variant]) -> StudyConfig:
    return replace(
        config,
        name=f"{config.name}-branch-check",
        num_events=tuple(num_events),
        events_per_param=(),
        flop_budgets=(),
        seeds=config.seeds[:1],
        variants=tuple(variants),
    )


def compare(study: Study, number: int) -> list[Comparison]:
    """Train what is missing of the check and return the comparisons, a line per sampled cell."""
    check = check_study(study, number)
    rows = run_study(check).to_pylist()
    own = {row["cell_id"]: row for row in read_cells(study.study_dir)}
    losses = {(row["width"], row["depth"], row["num_events"], row["schedule"]): row["loss"] for row in rows}
    return [
        Comparison(
            cell_id=cell.cell_id,
            num_params=own[cell.cell_id]["num_params"],
            num_events=cell.num_events,
            branch=own[cell.cell_id]["loss"],
            independent=losses.get((job.model.width, job.model.depth, cell.num_events, "wsd_independent")),
            cosine=losses.get((job.model.width, job.model.depth, cell.num_events, "cosine")),
        )
        for job, cell in sample(study, number)
    ]


def comparison_lines(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the comparison as aligned text, with the verdict."""
    heads = (
        ("N", 13),
        ("D", 13),
        ("branch", 9),
        ("own run", 9),
        ("|difference|", 12),
        ("cosine", 9),
        ("cosine - branch", 15),
    )
    lines = ["  " + " ".join(f"{head:>{width}}" for head, width in heads)]
    for one in comparisons:
        cosine = None if one.cosine is None or one.branch is None else one.cosine - one.branch
        lines.append(
            f"  {one.num_params:>13,} {one.num_events:>13,} {_loss(one.branch)} {_loss(one.independent)} "
            f"{'-' if one.difference is None else f'{one.difference:.1e}':>12} {_loss(one.cosine)} "
            f"{'-' if cosine is None else f'{cosine:+.4f}':>15}"
        )
    return lines


def run_check(study: Study, number: int) -> list[str]:
    """Train the check, print and keep the comparison; return a sentence for each cell that disagrees."""
    comparisons = compare(study, number)
    replace_file(study.study_dir / DIRECTORY / "comparison.json", json.dumps(plain(comparisons), indent=1))
    print("branches against runs of their own", *comparison_lines(comparisons), sep="\n", flush=True)
    return disagreements(comparisons)


def disagreements(comparisons: Sequence[Comparison]) -> list[str]:
    """Return a sentence for each cell whose branch is not what a run of its own gives."""
    return [
        f"cell {one.cell_id}: the branch gave {one.branch}, a run of its own {one.independent}."
        for one in comparisons
        if one.difference is None or not one.difference <= BOUND
    ]


def _loss(value: float | None) -> str:
    return f"{'-' if value is None else f'{value:.4f}':>9}"
