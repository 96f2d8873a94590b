"""Write a dataset's card: card.json, card.md and card.html, each in one move, into its directory.

They are derived from the other files and can be made again at any time; no later stage reads them. card.html is one
inert file: inline style and figures, no script, nothing loaded, every value escaped. It is written last.
"""

import html
import json
import re
from pathlib import Path
from typing import Any

from behavegpt.data.card.facts import Facts, read_facts
from behavegpt.errors import InputError
from behavegpt.files import replace_file


def write_card(directory: Path) -> Path:
    """Write the card of the dataset in `directory` and return the path of card.html.

    Raises:
        InputError: There is no dataset there, a file of it is damaged, or the directory cannot be written to.
    """
    facts = read_facts(directory)
    files = {
        "card.json": json.dumps(facts, ensure_ascii=False, allow_nan=False) + "\n",
        "card.md": render("card.md.j2", facts, {}),
    }
    # Matplotlib takes a third of a second to import, which a job that only prints lines should not pay.
    from behavegpt.data.card.figures import draw

    files["card.html"] = render("card.html.j2", facts, draw(facts))
    try:
        for name, text in files.items():
            replace_file(directory / name, text)
    except OSError as error:
        raise InputError(f"{directory}: the card cannot be written ({error.strerror})") from error
    return directory / "card.html"


def render(template: str, facts: Facts, drawings: dict[str, str]) -> str:
    """Return a template of this package filled in, every value escaped for HTML and, in .md, for Markdown.

    Args:
        drawings: This package's own SVG by figure; a figure that is not here is left out.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from behavegpt.data.card.sections import FIGURE_CAPTIONS, sections, tiles

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        finalize=escape_markdown if template.endswith(".md.j2") else None,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        name=facts["name"],
        version=facts["behavegpt"],
        fingerprint=facts["fingerprint"],
        tiles=tiles(facts),
        sections=sections(facts),
        drawings={name: Markup(svg) for name, svg in drawings.items()},
        captions=FIGURE_CAPTIONS,
    )


def escape_markdown(value: Any) -> Any:
    """Return a value that stays text in a Markdown table: no markup, link, column or line of its own."""
    from markupsafe import Markup

    if isinstance(value, Markup):
        return value
    text = html.escape(re.sub(r"\s+", " ", str(value)), quote=False)
    return Markup(re.sub(r"([\\`*_\[\]|~$])", r"\\\1", text))
