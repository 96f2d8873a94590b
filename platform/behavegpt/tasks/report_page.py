"""Write a comparison of systems: evaluate.json, evaluate.md and evaluate.html.

In: a `Comparison`. Out: its page. The words and numbers are those of the terminal, from report.py.
"""

from pathlib import Path

from behavegpt.data.card.sections import Grid, Section
from behavegpt.data.card.text import human, percent, shown
from behavegpt.tasks.figures import FIRST_BEHAVIOR
from behavegpt.tasks.metrics import classes
from behavegpt.tasks.next_behavior import LEVEL, Comparison, difference
from behavegpt.tasks.page import Page, write_page
from behavegpt.tasks.report import COLUMNS, class_groups, comparison_words, group_ranks, sizes, to_json, verdict
from behavegpt.tasks.report_drawing import CAPTIONS, draw

STEM = "evaluate"
MAX_CLASSES = 60
"""Behaviours in the page's table, from the head; evaluate.json has them all."""


def write_comparison(out: Path, comparison: Comparison) -> Path:
    """Write the three files into `out` and return the path of evaluate.html."""
    page = Page(
        stem=STEM,
        name=f"Next behaviour on {comparison.dataset}",
        model=comparison_words(comparison)[0],
        fingerprint=comparison.fingerprint,
        tiles=[
            (str(len(comparison.rows)), "systems"),
            (human(comparison.num_targets), f"{comparison.split} targets"),
            (human(comparison.num_users), "users"),
            (f"{len(comparison.behaviors.values):,}", "behaviours"),
        ],
        sections=[_figures(comparison), *_verdicts(comparison), _tail(comparison), _calibration()],
        drawings=draw(comparison),
        captions=CAPTIONS,
    )
    return write_page(out, page, to_json(comparison))


def _figures(comparison: Comparison) -> Section:
    rows = []
    for found in comparison.rows:
        cells = [f"{e.mean:.4f} ±{(e.high - e.low) / 2:.4f}" for e in (found.estimates[m] for m in COLUMNS)]
        rows.append((found.row.name, *sizes(found.row), str(len(found.row.runs)), *cells))
    return Section(
        title="Systems",
        text=(
            *comparison_words(comparison)[1:],
            f"± is half the {LEVEL:.0%} interval over users, and over seeds where a system has several runs. N counts "
            "parameters but for lookup tables and positions, D training targets.",
        ),
        grids=(Grid(columns=("system", "N", "parameters", "D", "runs", *COLUMNS.values()), rows=rows),),
        figures=("figures",),
    )


def _verdicts(comparison: Comparison) -> list[Section]:
    """Set each model against every other system, in the figures that rank, weigh and balance."""
    rows = []
    for model in (found for found in comparison.rows if found.row.is_model):
        for other in (found for found in comparison.rows if found is not model):
            for metric in ("ndcg@3", "rec_w", "rec_m"):
                gap = difference(model, other, metric)
                numbers = (f"{value:+.4f}" for value in (gap.mean, gap.low, gap.high))
                rows.append((model.row.name, COLUMNS[metric], f"{verdict(gap)} {other.row.name}", *numbers))
    if not rows:
        return []
    return [
        Section(
            title="The model against each system",
            text=("Differences of the same users: an interval on one side of 0 tells the two apart.",),
            grids=(Grid(columns=("model", "figure", "verdict", "difference", "from", "to"), rows=rows),),
        )
    ]


def _tail(comparison: Comparison) -> Section:
    recalls = {found.row.name: classes.recall(found.counts) for found in comparison.rows}
    total = sum(comparison.behaviors.counts)
    groups = [
        (group_ranks(group), percent(sum(comparison.behaviors.counts[c - FIRST_BEHAVIOR] for c in group), total))
        for group in class_groups(comparison)
    ]
    by_group = [
        (ranks, share, *(f"{recall[group].mean():.4f}" for recall in recalls.values()))
        for (ranks, share), group in zip(groups, class_groups(comparison), strict=True)
    ]
    listed = list(zip(comparison.behaviors.values, comparison.behaviors.counts, strict=True))
    more = len(listed) - MAX_CLASSES
    cut = (f"The table ends at rank {MAX_CLASSES}; {STEM}.json has {more:,} behaviours more.",) if more > 0 else ()
    by_class = [
        (shown(value), percent(count, total), *(f"{recall[FIRST_BEHAVIOR + i]:.4f}" for recall in recalls.values()))
        for i, (value, count) in enumerate(listed[:MAX_CLASSES])
    ]
    return Section(
        title="From head to tail",
        text=("Recall, mean over runs; the second column is the share of the training split.", *cut),
        figures=("groups",),
        grids=(
            Grid(columns=("ranks", "share", *recalls), rows=by_group),
            Grid(columns=("behaviour", "share", *recalls), rows=by_class),
        ),
    )


def _calibration() -> Section:
    return Section(title="Calibration", figures=("calibration",))
