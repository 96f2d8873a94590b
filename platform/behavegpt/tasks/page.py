"""Lay out a task's report: sections, figures and plain JSON values in; three files out, each in one move.

The HTML is one inert file: inline style and figures, no script, nothing loaded, every value escaped. It is written
last.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import behavegpt
from behavegpt.data.card import page as card
from behavegpt.data.card.sections import Section
from behavegpt.files import replace_file

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What a report shows beside its numbers for programs."""

    stem: str
    """Of its three files."""
    name: str
    model: str
    """What was trained, for the head of the page."""
    fingerprint: str
    """Of the dataset."""
    tiles: Sequence[tuple[str, str]]
    """Numbers with their labels."""
    sections: Sequence[Section]
    drawings: Mapping[str, str]
    """SVG by the names that the sections use; of this package's own making."""
    captions: Mapping[str, str]


def write_page(out: Path, page: Page, content: Any) -> Path:
    """Write the three files into `out` and return the path of the HTML.

    Args:
        content: Plain JSON values: the same numbers for programs. What is no finite number is written as null.
    """
    text = json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    replace_file(out / f"{page.stem}.json", text)
    replace_file(out / f"{page.stem}.md", _render("page.md.j2", page))
    replace_file(out / f"{page.stem}.html", _render("page.html.j2", page))
    return out / f"{page.stem}.html"


def _finite(value: Any) -> Any:
    """Return JSON values with null for each number that JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _render(template: str, page: Page) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=card.escape_markdown if template.endswith(".md.j2") else None,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        stem=page.stem,
        name=page.name,
        model=page.model,
        fingerprint=page.fingerprint[:16],
        version=behavegpt.__version__,
        style=Markup(_card_style()),
        tiles=page.tiles,
        sections=page.sections,
        drawings={name: Markup(svg) for name, svg in page.drawings.items()},
        captions=page.captions,
    )


def _card_style() -> str:
    """Return the style of the dataset card's page, which this one shares."""
    text = (Path(card.__file__).parent / "templates" / "card.html.j2").read_text(encoding="utf-8")
    [style] = re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL)
    return style
