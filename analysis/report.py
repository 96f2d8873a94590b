"""Write a report: a law and its table in; fit.json, figures, report.md and at last report.html out, each in one move.

report.html is one inert file: inline style and figures, no script, nothing loaded, every value escaped. It is written
last, so that a report that is there is whole.
"""

import html
import json
import os
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.curves import read_curves
from analysis.figures import draw, to_svg
from analysis.law import FormChoice, Law, fit_law
from analysis.law_json import law_to_json
from analysis.refit import Method
from analysis.report_law import sections
from analysis.report_text import headline
from analysis.table import Table, read_table
from behavegpt import __version__
from behavegpt.errors import InputError

_CAPTIONS = {
    "loss_by_events": "Loss against events for each number of parameters; lines: the law, bands: its interval.",
    "loss_by_params": "Loss against parameters for each number of training events.",
    "loss_by_compute": "Loss against training compute, and the frontier: what the law promises the best split.",
    "valleys": "Losses at equal compute, read between the cells; solid: the law, dashed: a parabola.",
    "residuals": "What the law leaves over. A pattern, not a cloud, means that the form is wrong.",
    "ladder": "Each form fitted to the cells below a rung and scored on those above it.",
    "parameters": "Both methods: calibrated interval of the chosen one (above), 1.96 standard errors of the other.",
    "optimum": "The cells, and the split of a budget that the law finds best. Beyond the cells it is extrapolation.",
    "learning": "Training loss of each trunk, and of the decay branches whose ends are the cells.",
}


def report_study(
    study_dir: Path,
    out: Path | None = None,
    *,
    method: Method = "curve_fit",
    form: FormChoice = "auto",
    variant: str | None = None,
    num_draws: int = 1000,
    seed: int = 0,
) -> tuple[Law, Path]:
    """Fit the law of a study and write its report.

    Args:
        study_dir: A study directory with results.parquet, and plan.json unless it is gone.
        out: Where the report goes; `study_dir`/report by default.
        method: Whose law is the headline.
        form: The form of the law, or auto: chosen by held-out error.
        variant: The variant to fit, needed when the study has several.
        num_draws: Bootstrap draws.
        seed: Of the bootstrap.

    Returns:
        The law, refused or not, and the path of report.html.
    """
    table = read_table(study_dir / "results.parquet", variant=variant)
    law = fit_law(table, method=method, form=form, num_draws=num_draws, seed=seed)
    return law, write_report(law, table, out or study_dir / "report")


def write_report(law: Law, table: Table, out: Path) -> Path:
    """Write fit.json, the figures, report.md and report.html into `out`, and return the path of report.html.

    A plan.json beside the table tells the report about the study; without one, those sections are left out.

    Raises:
        InputError: `out` cannot be a directory, or plan.json is not readable.
    """
    plan = read_plan(table)
    check_out(out)
    floor = ((plan.get("dataset") or {}).get("floor") or {}).get("entropy_nats")
    curves = read_curves(table.path.parent, table.rows) if table.is_study else ()
    drawings = {name: to_svg(figure) for name, figure in draw(law, table, floor, curves).items()}
    facts = {
        "version": __version__,
        "headline": headline(law, table),
        "sections": sections(law, table, plan, floor, set(drawings)),
        "figures": [{"name": name, "caption": _CAPTIONS[name], "svg": Markup(svg)} for name, svg in drawings.items()],
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write(out / "fit.json", json.dumps(law_to_json(law), indent=2, allow_nan=False) + "\n")
        for name, svg in drawings.items():
            _write(out / f"{name}.svg", svg)
        _write(out / "report.md", render("report.md.j2", facts))
        _write(out / "report.html", render("report.html.j2", facts))
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written: {error.strerror}.") from error
    return out / "report.html"


def check_out(out: Path) -> None:
    """Raise when `out` is, or lies below, something that is not a directory."""
    for path in (out, *out.parents):
        if path.exists():
            if not path.is_dir():
                raise InputError(f"--out {out}: {path} is a file; the report needs a directory.")
            return


def read_plan(table: Table) -> dict[str, Any]:
    """Return the plan.json beside a study's table, empty when there is none."""
    path = table.path.parent / "plan.json"
    if not table.is_study or not path.is_file():
        return {}
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(plan, dict):
        raise InputError(f"{path}: holds {type(plan).__name__}, not an object.")
    return plan


def render(template: str, facts: dict[str, Any]) -> str:
    """Return a template of this package filled with facts, every value escaped for HTML and, in .md, for Markdown."""
    finalize = _escape_markdown if template.endswith(".md.j2") else None
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(facts)


def _escape_markdown(value: Any) -> Any:
    """Return a value that stays text in a Markdown table: no markup, link, column or line of its own."""
    if isinstance(value, Markup):
        return value
    text = html.escape(re.sub(r"\s+", " ", str(value)), quote=False)
    return Markup(re.sub(r"([\\`*_\[\]|~$])", r"\\\1", text))


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all: a temporary file beside it, then one rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
