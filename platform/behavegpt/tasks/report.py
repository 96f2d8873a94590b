"""What a reader gets of a comparison: the lines of the terminal, and evaluate.json; report_page.py lays out the page.

In: a `Comparison`. Out: text and plain JSON values. Nothing is computed here but differences of rows and means over
groups of classes.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from behavegpt.config import plain
from behavegpt.tasks.figures import FIRST_BEHAVIOR, METRICS, NUM_DRAWS
from behavegpt.tasks.metrics import classes
from behavegpt.tasks.metrics.calibration import NUM_BINS
from behavegpt.tasks.next_behavior import LEVEL, Comparison, Estimate, Row, RowFigures, difference

COLUMNS = {
    "prec_m": "Prec_m",
    "rec_m": "Rec_m",
    "prec_w": "Prec_w",
    "rec_w": "Rec_w",
    "ndcg@3": "N@3",
    "ndcg@5": "N@5",
    "hr@3": "HR@3",
    "hr@5": "HR@5",
    "ece": "ECE",
    "nats": "nats",
}
"""Of the table: those of the paper's Table 2 for all of its datasets, then calibration and cross-entropy."""
COMPARED = ("prec_m", "rec_m", "prec_w", "rec_w", "ndcg@3", "ndcg@5", "hr@3")
"""The paper's columns, on each of which the model is set against the best of the others."""
NUM_GROUPS = 5
"""Equal parts of the behaviours, head to tail, whose recall the terminal shows."""


def lines(comparison: Comparison) -> Iterator[str]:
    """Yield the tables: figures, the model against the best other row, recall from head to tail."""
    what, behaviors = comparison_words(comparison)
    yield f"{comparison.dataset} {comparison.split}: {what}"
    yield f"  {behaviors}"
    yield ""
    yield from _table(comparison.rows)
    yield f"  +- half the {LEVEL:.0%} interval over users, and over seeds where a row has several runs"
    yield "  N: parameters but for lookup tables and positions; D: training targets"
    if len(comparison.rows) > 1:
        yield from _verdicts(comparison.rows)
    yield ""
    yield from _groups(comparison)


def comparison_words(comparison: Comparison) -> tuple[str, str]:
    """Return what was asked, and of which behaviours."""
    protocol = "every target" if comparison.protocol == "every" else "the last target of each user"
    return (
        f"{protocol}, {comparison.num_targets:,} of {comparison.num_users:,} users, "
        f"after {comparison.mean_history:.1f} events on average",
        f"{len(comparison.behaviors.values):,} behaviours, all in the macro means, {comparison.absent:,} of them not "
        f"here; {comparison.num_other:,} targets are of none of them; ties count against a system",
    )


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Return evaluate.json: everything but the draws."""
    facts = ("dataset", "fingerprint", "split", "protocol", "num_users", "num_targets", "mean_history")
    return {
        **{name: getattr(comparison, name) for name in facts},
        "num_targets_other": comparison.num_other,
        "num_behaviors": len(comparison.behaviors.values),
        "num_behaviors_absent": comparison.absent,
        "ties": "a class that scores as much as the target ranks before it",
        "intervals": {"level": LEVEL, "draws": NUM_DRAWS, "over": "users, and seeds where a row has several runs"},
        "systems": [_row_json(found) for found in comparison.rows],
        "differences": _differences_json(comparison.rows),
        "classes": _classes_json(comparison),
        "calibration": {found.row.name: _bins_json(found.bins) for found in comparison.rows},
    }


def _table(rows: Sequence[RowFigures]) -> Iterator[str]:
    width = max(len("system"), *(len(found.row.name) for found in rows))
    heads = "".join(f"{title:>17}" for title in COLUMNS.values())
    yield f"  {'system':<{width}}{'N':>10}{'params':>12}{'D':>12}{'runs':>5}{heads}"
    for found in rows:
        cells = "".join(f"{_cell(found.estimates[metric]):>17}" for metric in COLUMNS)
        params, total, events = sizes(found.row)
        yield f"  {found.row.name:<{width}}{params:>10}{total:>12}{events:>12}{len(found.row.runs):>5}{cells}"


def sizes(row: Row) -> tuple[str, str, str]:
    """Return the N, parameters and D of a row, in words."""
    params, total = (f"{size:,}" if size else "-" for size in (row.runs[0].num_params, row.runs[0].num_params_total))
    return params, total, f"{row.num_events:,}" if row.num_events is not None else "all"


def _cell(estimate: Estimate) -> str:
    return f"{estimate.mean:.4f} +-{(estimate.high - estimate.low) / 2:.4f}"


def _verdicts(rows: Sequence[RowFigures]) -> Iterator[str]:
    """Yield a line for each model and column: where it wins, where it loses, and against whom."""
    for model in (found for found in rows if found.row.is_model):
        others = [found for found in rows if not found.row.is_model]
        if not others:
            return
        yield ""
        yield f"  {model.row.name} against the best of the others:"
        width = max(len(found.row.name) for found in others) + 2
        for metric in COMPARED:
            best = max(others, key=lambda found: found.estimates[metric].mean)
            gap = difference(model, best, metric)
            yield (
                f"    {COLUMNS[metric]:<7}{verdict(gap):<21}{best.row.name:<{width}}"
                f"{gap.mean:+.4f} ({gap.low:+.4f} to {gap.high:+.4f})"
            )


def verdict(gap: Estimate) -> str:
    """Return what a difference says of the model."""
    return "beats" if gap.low > 0 else "LOSES to" if gap.high < 0 else "not told apart from"


def _groups(comparison: Comparison) -> Iterator[str]:
    """Yield mean recall and precision of equal groups of behaviours, most frequent in training first."""
    groups = class_groups(comparison)
    width = max(len("system"), *(len(found.row.name) for found in comparison.rows))
    total = sum(comparison.behaviors.counts)
    heads = "".join(f"{_group_title(group, comparison.behaviors.counts, total):>22}" for group in groups)
    yield "  recall and precision, mean over behaviours from head to tail (share of training events):"
    yield f"  {'system':<{width}}{heads}"
    for found in comparison.rows:
        recall, precision = classes.recall(found.counts), classes.precision(found.counts)
        cells = "".join(f"{f'{recall[group].mean():.4f} {precision[group].mean():.4f}':>22}" for group in groups)
        yield f"  {found.row.name:<{width}}{cells}"


def class_groups(comparison: Comparison) -> list[np.ndarray]:
    """Return the behaviours in NUM_GROUPS equal parts, most frequent in training first."""
    parts = np.array_split(np.arange(FIRST_BEHAVIOR, FIRST_BEHAVIOR + len(comparison.behaviors.values)), NUM_GROUPS)
    return [part for part in parts if len(part)]


def group_ranks(group: np.ndarray) -> str:
    """Return the ranks of a part, '1-8'."""
    first, last = group[0] - FIRST_BEHAVIOR + 1, group[-1] - FIRST_BEHAVIOR + 1
    return f"{first}-{last}" if first != last else f"{first}"


def _group_title(group: np.ndarray, counts: Sequence[int], total: int) -> str:
    share = sum(counts[c - FIRST_BEHAVIOR] for c in group) / total
    return f"{group_ranks(group)} ({share:.1%})"


def _row_json(found: RowFigures) -> dict[str, Any]:
    row = found.row
    return {
        "name": row.name,
        "is_model": row.is_model,
        "num_params": row.runs[0].num_params,
        "num_params_total": row.runs[0].num_params_total,
        "num_events": row.num_events,
        "seeds": list(row.seeds),
        "metrics": {name: plain(found.estimates[name]) for name in METRICS},
        "runs": found.runs,
        "mean_over_users": found.per_user,
    }


def _differences_json(rows: Sequence[RowFigures]) -> list[dict[str, Any]]:
    return [
        {
            "model": model.row.name,
            "other": other.row.name,
            "metrics": {name: plain(difference(model, other, name)) for name in METRICS},
        }
        for model in rows
        for other in rows
        if model.row.is_model and other is not model
    ]


def _classes_json(comparison: Comparison) -> list[dict[str, Any]]:
    """Return every behaviour from head to tail, and `other` last."""
    per_row = {
        found.row.name: (classes.precision(found.counts), classes.recall(found.counts), len(found.row.runs), found)
        for found in comparison.rows
    }
    actual = comparison.rows[0].counts.actual / len(comparison.rows[0].row.runs)
    known = zip(comparison.behaviors.values, comparison.behaviors.counts, strict=True)
    listed = [(FIRST_BEHAVIOR + i, value, count) for i, (value, count) in enumerate(known)]
    return [
        {
            "behavior": value,
            "train_events": count,
            "targets": int(actual[c]),
            "systems": {
                name: {"precision": precision[c], "recall": recall[c], "predicted": found.counts.predicted[c] / runs}
                for name, (precision, recall, runs, found) in per_row.items()
            },
        }
        for c, value, count in [*listed, (0, None, 0)]
    ]


def _bins_json(bins: np.ndarray) -> list[dict[str, float | None]]:
    return [
        {
            "from": index / NUM_BINS,
            "to": (index + 1) / NUM_BINS,
            "predictions": float(count),
            "mean_confidence": float(confidence / count) if count else None,
            "share_right": float(right / count) if count else None,
        }
        for index, (count, confidence, right) in enumerate(bins.T)
    ]
