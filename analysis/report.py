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

from analysis.figures import draw, to_svg
from analysis.law import FormChoice, Law, fit_law
from analysis.law_json import law_to_json
from analysis.refit import Method
from analysis.report_law import sections
from analysis.report_study import alarms
from analysis.report_text import headline
from analysis.study import Study, read_study
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
    "learning": "Training loss of each trunk and of the decay branches that end in the cells, averaged over stretches"
    " of a tenth in events; the first steps lie above the frame.",
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
    refresh_s: int | None = None,
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
        refresh_s: As for `write_report`.

    Returns:
        The law, refused or not, and the path of report.html.
    """
    table = read_table(study_dir / "results.parquet", variant=variant)
    law = fit_law(table, method=method, form=form, num_draws=num_draws, seed=seed)
    return law, write_report(law, table, out or study_dir / "report", refresh_s=refresh_s)


def write_report(law: Law, table: Table, out: Path, *, refresh_s: int | None = None) -> Path:
    """Write fit.json, the figures, report.md and report.html into `out`, and return the path of report.html.

    What lies beside a study's table (plan, curves, checks of branches and rates) is told; what does not is left out.

    Args:
        law: The law, refused or not.
        table: Its cells.
        out: The report's directory.
        refresh_s: Of a study that still runs: the page says so, and browsers load it again after so many seconds.

    Raises:
        InputError: `out` cannot be a directory, or a file beside the table is not what a study writes.
    """
    if refresh_s is not None and refresh_s < 1:
        raise InputError(f"refresh_s is {refresh_s}; it must be at least 1 second.")
    study = read_study(table.path.parent, table.rows) if table.is_study else None
    check_out(out)
    floor = study.floor if study else None
    drawings = {name: to_svg(figure) for name, figure in draw(law, table, floor, study.curves if study else ()).items()}
    facts = {
        "version": __version__,
        "refresh_s": refresh_s,
        "banner": "" if refresh_s is None else _banner(study),
        "headline": headline(law, table, alarms(study)),
        "sections": sections(law, table, study, floor, set(drawings)),
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


def _banner(study: Study | None) -> str:
    """Return how far a study that still runs has come."""
    if study is None or not study.num_planned:
        return "running"
    failed = sum(cell.failed for cell in study.cells)
    done = f"running: {sum(cell.completed for cell in study.cells)} of {len(study.cells)} cells"
    return f"{done}, {failed} without a loss" if failed else done


def check_out(out: Path) -> None:
    """Raise when `out` is, or lies below, something that is not a directory."""
    for path in (out, *out.parents):
        if path.exists():
            if not path.is_dir():
                raise InputError(f"--out {out}: {path} is a file; the report needs a directory.")
            return


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
