"""Write an ablation: ablation.json, ablation.md and ablation.html.

In: an `Ablation`. Out: its page, and its numbers as plain JSON values.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from behavegpt.config import plain
from behavegpt.data.card.sections import Section
from behavegpt.data.card.text import human
from behavegpt.tasks.ablation.compare import (
    Ablation,
    Difference,
    LossFigures,
    difference,
    groups,
    mean_recall,
    over_seeds,
    over_the_cheap_rival,
)
from behavegpt.tasks.ablation.drawing import CAPTIONS, draw
from behavegpt.tasks.ablation.runs import ALONG, PATH
from behavegpt.tasks.ablation.text import STAGES
from behavegpt.tasks.figures import FIRST_BEHAVIOR, METRICS, NUM_DRAWS
from behavegpt.tasks.next_behavior import LEVEL
from behavegpt.tasks.page import Page, write_page


def write_ablation(out: Path, ablation: Ablation, parts: Sequence[Section], model: str) -> Path:
    """Write the three files into `out` and return the path of ablation.html.

    Args:
        parts: The words, from `text.sections`.
        model: What was trained, for the head of the page.
    """
    page = Page(
        stem="ablation",
        name=f"Losses on {ablation.dataset}",
        model=model,
        fingerprint=ablation.fingerprint,
        tiles=[
            (str(len(ablation.losses)), "losses"),
            (str(len(ablation.seeds)), "seeds"),
            (human(ablation.num_targets), f"{ablation.split} targets"),
            (human(ablation.num_users), "users"),
            (f"{len(ablation.behaviors.values):,}", "behaviours"),
        ],
        sections=parts,
        drawings=draw(ablation),
        captions=CAPTIONS,
    )
    return write_page(out, page, to_json(ablation))


def to_json(ablation: Ablation) -> dict[str, Any]:
    """Return ablation.json: everything but the draws."""
    erm = ablation.losses[0]
    facts = ("dataset", "fingerprint", "split", "seeds", "num_users", "num_targets")
    return plain(
        {
            **{name: getattr(ablation, name) for name in facts},
            "intervals": {"level": LEVEL, "draws": NUM_DRAWS},
            "losses": [_loss_json(loss) for loss in ablation.losses],
            "differences": [
                {
                    "loss": loss.name,
                    **{
                        stage: {m: _difference_json(difference(loss, erm, m, stage)) for m in METRICS}
                        for stage in STAGES
                    },
                    "macro_recall_over_corrected_erm": _numbers(over_the_cheap_rival(loss, erm)),
                }
                for loss in ablation.losses[1:]
            ],
            "groups": [_group_json(ablation, part) for part in groups(ablation)],
            "rarest": _group_json(ablation, ablation.rarest),
            "classes": _classes_json(ablation),
        }
    )


def _loss_json(loss: LossFigures) -> dict[str, Any]:
    return {
        "name": loss.name,
        **{stage: {m: _over_runs(getattr(loss, stage).runs[m]) for m in METRICS} for stage in STAGES},
        "along": [
            {**correction._asdict(), **{m: _over_runs(loss.along[:, i, k]) for k, m in enumerate(ALONG)}}
            for i, correction in enumerate(PATH)
        ],
    }


def _difference_json(gap: Difference) -> dict[str, Any]:
    seeds = [gap.seeds.low, gap.seeds.high] if gap.seeds else None
    return {"mean": gap.mean, "seeds": seeds, "users": [gap.users.low, gap.users.high], "verdict": gap.verdict}


def _group_json(ablation: Ablation, part: np.ndarray) -> dict[str, Any]:
    return {
        "ranks": [int(c) - FIRST_BEHAVIOR + 1 for c in part],
        "train_targets": int(ablation.train_targets[part].sum()),
        "targets": int(ablation.targets[part].sum()),
        "recall": {
            loss.name: {stage: _over_runs(mean_recall(getattr(loss, stage), part)) for stage in STAGES}
            for loss in ablation.losses
        },
    }


def _classes_json(ablation: Ablation) -> list[dict[str, Any]]:
    """Return every behaviour from head to tail, and `other` last."""
    known = [(FIRST_BEHAVIOR + i, value) for i, value in enumerate(ablation.behaviors.values)]
    return [
        {
            "behavior": value,
            "train_targets": int(ablation.train_targets[c]),
            "targets": int(ablation.targets[c]),
            "recall": {
                loss.name: {stage: _numbers(getattr(loss, stage).recall[:, c]) for stage in STAGES}
                for loss in ablation.losses
            },
        }
        for c, value in [*known, (0, None)]
    ]


def _over_runs(values: np.ndarray) -> dict[str, Any]:
    """Return a figure of every run, their mean, and the interval over seeds."""
    runs = _numbers(values)
    seeds = None if None in runs else over_seeds(values)
    mean = None if None in runs else float(values.mean())
    return {"mean": mean, "seeds": [seeds.low, seeds.high] if seeds else None, "runs": runs}


def _numbers(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
