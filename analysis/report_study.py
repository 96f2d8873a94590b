"""How a study came to its losses, in its report: a `Study` and its law's table in, sections of text and tables out."""

from collections import Counter
from typing import Any

import numpy as np

from analysis.report_facts import Grid, Section, count, facts_grid, flops, number, own_rows, plain
from analysis.study import Study
from analysis.table import Table
from analysis.text import figures, human

_LABELS = {"wsd": "decay branches off one trunk a size and seed", "wsd_independent": "as branches, a run each"}
_LABELS |= {"cosine": "a half cosine to a tenth of the peak, a run each"}

_TOLD_BY_TRUNKS = ("name", "sizes", "num_events")


def study_section(study: Study, drawn: set[str]) -> Section | None:
    """Return the plan: the grid, its trunks, what it costs, and what its planner noted."""
    plan = study.plan
    if not plan and "learning" not in drawn:
        return None
    facts = [("study", plan.get("study")), ("preset", plan.get("preset"))]
    facts += [(k, v) for k, v in (plan.get("config") or {}).items() if k not in _TOLD_BY_TRUNKS and v not in ([], None)]
    rows = [
        (
            plain(trunk.get("trunk_id")),
            plain(trunk.get("width")),
            plain(trunk.get("depth")),
            plain(trunk.get("num_heads")),
            count(trunk.get("num_params")),
            count(trunk.get("num_params_total")),
            plain(trunk.get("seed")),
            number(trunk.get("learning_rate"), 3),
            ", ".join(count(events) for events in trunk["num_events"]),
            flops(trunk.get("flops")),
        )
        for trunk in plan.get("trunks") or ()
    ]
    columns = ("trunk", "width", "depth", "heads", "N", "all parameters", "seed", "peak rate", "branches at D", "FLOPs")
    text = ("Each trunk trains at its peak rate; a branch leaves it for each D. N leaves embeddings out.",)
    ratio = plan.get("cost_ratio")
    if ratio is not None:
        text += (f"The plan trains {ratio:.2f} of the events that a run of its own for every cell would train.",)
    notes = tuple(note.removeprefix("note: ") for note in plan.get("notes") or ())
    notes += tuple(f"{trunk}: {sentence}" for trunk, sentence in study.notes)
    grids = tuple(grid for grid in (facts_grid(facts), Grid(columns=columns, rows=tuple(rows))) if grid.rows)
    return Section(title="The study", text=text, notes=notes, grids=grids, figures=("learning",))


def recipe_section(study: Study, table: Table) -> Section | None:
    """Return the rules that training followed, and the sweep that checked the learning rate."""
    rows = [row for row in own_rows(table) if row["status"] == "completed"]
    facts: list[tuple[str, Any]] = [("peak learning rate", _rate_rule(rows))] if rows else []
    recipe = study.plan.get("recipe") or {}
    if rows:
        schedules = sorted({str(row["schedule"]) for row in rows})
        facts += [("schedule", ", ".join(f"{name}: {_LABELS.get(name, name)}" for name in schedules))]
        facts += [("targets in the last batch", _last_batches(rows))]
    facts += [(str(name).replace("_", " "), _rule(value)) for name, value in recipe.items()]
    facts = [(name, value) for name, value in facts if value]
    sweep = study.calibration
    if not facts and sweep is None:
        return None
    grids, text = [facts_grid(facts)] if facts else [], ()
    if sweep is not None:
        factors = sorted({factor for one in sweep.widths for factor in one.losses})
        text = (
            f"Rates around the rule's were tried at D = {human(sweep.num_events)} ({sweep.path}); below,"
            f" the mean losses by rate. The rule that fits the best rates is {figures(sweep.rate_x_width, 3)} /"
            f" width, within a factor of {figures(sweep.scatter, 3)}; an exponent left free comes to"
            f" {figures(sweep.exponent, 3)}, the rule's is 1. Noise between its seeds:"
            f" {figures(sweep.seed_sd, 2)} nats.",
        )
        grids.append(
            Grid(
                columns=(
                    "width",
                    *(f"rate x {factor:g}" for factor in factors),
                    "best rate",
                    "best rate x width",
                    "regret, nats",
                ),
                rows=tuple(
                    (
                        str(one.width),
                        *(figures(one.losses.get(factor)) for factor in factors),
                        figures(one.best_rate, 3) + ("" if one.bracketed else " or beyond"),
                        figures(one.best_rate * one.width, 3),
                        figures(one.regret, 2),
                    )
                    for one in sweep.widths
                ),
            )
        )
        text += ("Regret: what the rule's own rate loses to the best of those tried.",)
    return Section(title="The recipe", text=text, grids=tuple(grids))


def _rule(value: Any) -> Any:
    """Return a rule of the recipe; a ramp of (events seen, value) as words."""
    if isinstance(value, list) and value and all(isinstance(step, list) and len(step) == 2 for step in value):
        return ", ".join(f"{plain(level)} from {count(events)} events on" for events, level in value)
    return value


def _rate_rule(rows: list[dict[str, Any]]) -> str:
    """Return the rule that the peak rates follow, where one is seen."""
    known = [row for row in rows if row["learning_rate"] and row["width"]]
    if not known:
        return ""
    products, rates = ({figures(value, 3) for value in values} for values in zip(*map(_rate, known), strict=True))
    if len(rates) == 1:
        return f"{rates.pop()} for every width"
    return f"{products.pop()} / width" if len(products) == 1 else "no rule of the width; see the trunks"


def _rate(row: dict[str, Any]) -> tuple[float, float]:
    return row["learning_rate"] * row["width"], row["learning_rate"]


def _last_batches(rows: list[dict[str, Any]]) -> str:
    """Return the batch that the cells end with, by the largest D that ends with it."""
    largest: dict[int, int] = {}
    for row in rows:
        if row["batch_events"]:
            largest[row["batch_events"]] = max(row["num_events"], largest.get(row["batch_events"], 0))
    return ", ".join(f"{size:,} up to D = {human(events)}" for size, events in sorted(largest.items()))


def branch_section(study: Study) -> Section | None:
    """Return the sampled branches beside runs of their own and cosine runs."""
    runs = study.branch_check
    if not runs:
        return None
    rows = tuple(
        (
            one.cell_id,
            human(one.num_params),
            human(one.num_events),
            *(figures(loss, 5) for loss in (one.branch, one.independent)),
            _difference(one.branch, one.independent),
            figures(one.cosine, 5),
            "-" if one.cosine is None or one.branch is None else f"{one.cosine - one.branch:+.4f}",
        )
        for one in runs
    )
    columns = ("cell", "N", "D", "branch", "own run", "|difference|", "cosine", "cosine - branch")
    text = (
        "A sample of the cells, trained again without a trunk: by the branch's own schedule, which must give its loss,"
        " and by cosine, which shows what the schedule is worth. All losses in nats.",
        branch_verdict(study),
    )
    return Section(
        title="Are branches as good as runs of their own?", text=text, grids=(Grid(columns=columns, rows=rows),)
    )


BOUND = 1e-5
"""Nats within which a branch must agree with a run of its own; the platform's own bound."""


def branch_verdict(study: Study) -> str:
    """Return whether every sampled branch agrees with its own run."""
    wrong = branch_alarms(study)
    if wrong:
        return f"{len(wrong)} of {len(study.branch_check)} do not agree within {BOUND:g}."
    worst = max(abs((one.branch or 0) - (one.independent or 0)) for one in study.branch_check)
    gaps = [one.cosine - one.branch for one in study.branch_check if one.cosine is not None and one.branch is not None]
    cosine = f" Cosine runs end {np.mean(gaps):+.4f} from the branches on average." if gaps else ""
    largest = f"the largest difference is {_difference(worst, 0.0)}"
    return f"All of them ({len(study.branch_check)}) agree within {BOUND:g}; {largest}.{cosine}"


def branch_alarms(study: Study) -> tuple[str, ...]:
    """Return a sentence for each sampled branch that is not what a run of its own gives."""
    return tuple(
        f"The branch of cell {one.cell_id} gave {figures(one.branch, 7)}, a run of its own"
        f" {figures(one.independent, 7)}; they may differ by {BOUND:g}, so the losses of all branches are in doubt."
        for one in study.branch_check
        if one.branch is None or one.independent is None or not abs(one.branch - one.independent) <= BOUND
    )


def alarms(study: Study | None) -> tuple[str, ...]:
    """Return what a reader must know before any number: a stale dataset, branches that are not what they claim."""
    if study is None:
        return ()
    mark = study.stale
    stale = ()
    if mark is not None:
        stale = (
            f"Stale since {mark.marked_at}: {mark.reason} (dataset {mark.dataset_fingerprint[:12]}). The study takes no"
            " new cells.",
        )
    return stale + branch_alarms(study)


def _difference(one: float | None, other: float | None) -> str:
    if one is None or other is None:
        return "-"
    return f"{abs(one - other):.1e}" if one != other else "0"


def noise_section(table: Table) -> Section | None:
    """Return the noise between seeds, and what was done with it."""
    if not table.is_study:
        return None
    rows = [row for row in own_rows(table) if row["status"] == "completed"]
    runs = Counter((row["num_params"], row["num_events"]) for row in rows)
    known = sorted({(row["num_events"], row["loss_seed_sd"]) for row in rows if row.get("loss_seed_sd") is not None})
    if not known:
        text = (
            "Every size has one seed at each D, so the noise between runs is unknown: all cells weigh the same in the"
            " fit, and its misfit cannot be tested against noise. The standard error of a cell is that of its"
            " validation windows; all cells share them, so it shifts L0 and is no noise between cells.",
        )
        return Section(title="Noise between runs", text=text)
    repeated = {D: sum(runs[size, D] > 1 for size in {row["num_params"] for row in rows}) for D, _ in known}
    grid = Grid(
        columns=("D", "standard deviation, nats", "sizes with several seeds"),
        rows=tuple((human(D), figures(sd, 2), str(repeated[D])) for D, sd in known),
    )
    used = (
        "weigh by one over it, as a power of D" if _weighed(table) else "weigh the same: it has no clear trend with D"
    )
    text = (
        f"What another seed changes in the loss, pooled over the sizes that have several. In the fit the cells {used};"
        " a misfit far above it is among the warnings. The standard error of a cell is that of its validation windows;"
        " all cells share them, so it shifts L0 and is no noise between cells.",
    )
    return Section(title="Noise between runs", text=text, grids=(grid,))


def _weighed(table: Table) -> bool:
    return bool(np.ptp(np.broadcast_to(table.points.weight, table.points.loss.shape)) > 0)
