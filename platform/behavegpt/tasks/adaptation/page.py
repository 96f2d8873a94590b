"""Write a cross-domain comparison: cross-domain.json, .md and .html.

In: a `CrossDomain`. Out: its page, and its numbers as plain JSON values.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from behavegpt.config import plain
from behavegpt.data.card.sections import Section
from behavegpt.data.card.text import human
from behavegpt.tasks.ablation.compare import Difference
from behavegpt.tasks.adaptation.cross_domain import CrossDomain, against, scratch_of
from behavegpt.tasks.adaptation.drawing import CAPTIONS, draw
from behavegpt.tasks.adaptation.text import pairs_of_sources, pairs_of_ways
from behavegpt.tasks.adaptation.transfer import Source
from behavegpt.tasks.figures import METRICS
from behavegpt.tasks.next_behavior import Comparison
from behavegpt.tasks.page import Page, write_page
from behavegpt.tasks.report import to_json as comparison_json


def write_cross_domain(out: Path, found: CrossDomain, parts: Sequence[Section]) -> Path:
    """Write the three files into `out` and return the path of the HTML.

    Args:
        parts: The words, from `text.sections`.
    """
    target = found.sizes[-1]
    page = Page(
        stem="cross-domain",
        name=f"Adapted to {target.dataset}",
        model=f"width {found.model.width}, {found.model.depth} blocks",
        fingerprint=target.fingerprint,
        tiles=[
            (str(len(target.rows)), "ways and sources"),
            (str(len(found.seeds)), "seeds"),
            (", ".join(human(size) for size in found.num_events), "training targets"),
            (human(target.num_targets), f"{target.split} targets"),
            (human(target.num_users), "users"),
        ],
        sections=parts,
        drawings=draw(found),
        captions=CAPTIONS,
    )
    return write_page(out, page, to_json(found))


def to_json(found: CrossDomain) -> dict[str, Any]:
    """Return cross-domain.json: everything but the draws."""
    return plain(
        {
            "model": found.model,
            "sources": [_source_json(source) for source in found.sources],
            "seeds": found.seeds,
            "ways": [
                {
                    "name": name,
                    "way": line.way.name,
                    "source": line.source,
                    "takes": line.way.takes,
                    "trains": line.way.trains,
                    "num_trained": line.num_trained,
                }
                for name, line in found.lines.items()
            ],
            "left_out": found.left_out,
            "sizes": [_size_json(found, size, one) for size, one in zip(found.num_events, found.sizes, strict=True)],
        }
    )


def _source_json(source: Source) -> dict[str, Any]:
    one = source.models[0]
    return {
        "name": source.name,
        "model": one.config,
        "dataset": one.fingerprint,
        "num_events": one.num_events,
        "seeds": [found.seed for found in source.models],
        "paths": [found.path for found in source.models],
    }


def _size_json(found: CrossDomain, size: int, comparison: Comparison) -> dict[str, Any]:
    scratch = scratch_of(comparison)
    others = [row for row in comparison.rows if scratch is not None and row is not scratch]
    return {
        "num_events": size,
        "comparison": comparison_json(comparison),
        "against_scratch": {
            row.row.name: {m: _difference_json(against(row, scratch, m)) for m in METRICS}
            for row in others
            if scratch is not None
        },
        "paper_way_against": {
            mine.row.name: {
                other.row.name: {m: _difference_json(against(mine, other, m)) for m in METRICS}
                for one, other in pairs_of_ways(found, comparison)
                if one is mine
            }
            for mine, _ in pairs_of_ways(found, comparison)
        },
        "against_first_source": {
            row.row.name: {m: _difference_json(against(row, base, m)) for m in METRICS}
            for row, base in pairs_of_sources(found, comparison)
        },
    }


def _difference_json(gap: Difference) -> dict[str, Any]:
    seeds = [gap.seeds.low, gap.seeds.high] if gap.seeds else None
    return {"mean": gap.mean, "seeds": seeds, "users": [gap.users.low, gap.users.high], "verdict": gap.verdict}
