"""The report: inert whatever the study is called, whole or absent, and the same in HTML, Markdown and JSON."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from analysis import fit_law, read_table, report_study, summarize, write_report
from analysis.text import figures, human, scientific, span
from behavegpt.errors import InputError

FIGURES = ("loss_by_events", "loss_by_params", "loss_by_compute", "valleys", "residuals")
FIGURES += ("ladder", "parameters", "optimum", "learning")


class Tags(HTMLParser):
    """Collects the elements and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


@pytest.fixture(scope="module")
def report(make_study: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a written report, which no test changes."""
    study = make_study(tmp_path_factory.mktemp("report") / "study")
    (study / "curves").mkdir()
    lines = [
        {"phase": "trunk", "cell_events": None, "num_events": 1000, "loss": 4.0},
        {"phase": "trunk", "cell_events": None, "num_events": 9000, "loss": 3.0},
        {"phase": "branch", "cell_events": 20000, "num_events": 10000, "loss": 2.9},
        {"phase": "branch", "cell_events": 20000, "num_events": 20000, "loss": 2.5},
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    (study / "curves" / "trunk-7500.jsonl").write_text(text + '\n{"phase": "trunk", "num_ev')
    return report_study(study, form="separable", num_draws=100)[1].parent


def test_every_file_is_there_and_no_temporary(report: Path):
    pictures = {f"{name}.svg" for name in FIGURES}
    assert {path.name for path in report.iterdir()} == {"fit.json", "report.md", "report.html"} | pictures


def test_the_page_loads_and_runs_nothing(report: Path):
    page = (report / "report.html").read_text()
    tags = Tags(page)
    assert not {"script", "img", "image", "iframe", "link", "object", "embed", "foreignobject"} & set(tags.names)
    assert tags.names.count("svg") == len(FIGURES)
    for name, value in tags.attributes:
        assert not name.startswith("on"), name
        if name in ("href", "src", "xlink:href"):
            assert value.startswith("#"), value
        assert "url(" not in value or "url(#" in value, value
    addresses = set(re.findall(r'[\w:]+="https?://[^"]*"', page))
    assert {address.split("=")[0] for address in addresses} <= {"xmlns", "xmlns:xlink"}
    assert "default-src 'none'" in page
    assert "@import" not in page
    assert len(page) < 2_000_000


def test_hostile_text_stays_text(report: Path):
    page, twin = (report / "report.html").read_text(), (report / "report.md").read_text()
    for text in (page, twin):
        assert "<script" not in text
        assert "&lt;script&gt;" in text
        assert "7*7" in text.replace("\\", "")
    assert "{{ 7*7 }}" in page
    assert "\\[x\\](javascript" in twin
    assert "\\| {{" in twin


def test_both_texts_and_the_json_agree(report: Path):
    fit = json.loads((report / "fit.json").read_text())
    page, twin = (report / "report.html").read_text(), (report / "report.md").read_text()
    for name, value in fit["parameters"].items():
        assert figures(value) in page, name
        assert figures(value) in twin, name
    assert "true floor of the generator" in page
    assert "1.4835" in page
    assert "2,000,000" in page
    for cell in ("diverged", "crashed", "skipped", "cell35"):
        assert f">{cell}<" in page
    assert all(f"]({path.name})" in twin for path in report.glob("*.svg"))


def test_tables_in_markdown_have_equal_columns(report: Path):
    blocks = re.findall(r"(?:^\|.*\n)+", (report / "report.md").read_text(), flags=re.MULTILINE)
    assert len(blocks) >= 8
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block


def test_without_a_plan_its_sections_are_left_out(study_dir: Path):
    (study_dir / "plan.json").unlink()
    page = report_study(study_dir, form="separable", num_draws=0)[1].read_text()
    for title in ("The study", "The dataset", "The floor"):
        assert f"<h2>{title}</h2>" not in page
    assert "<h2>Cells</h2>" in page


@pytest.mark.parametrize("text", ["{", "[1]", "\x00"])
def test_a_broken_plan_is_an_error_before_anything_is_written(study_dir: Path, text: str):
    (study_dir / "plan.json").write_text(text)
    with pytest.raises(InputError, match=r"plan\.json"):
        report_study(study_dir, form="separable", num_draws=0)
    assert not (study_dir / "report").exists()


def test_a_refused_law_has_a_report_that_says_why(tmp_path: Path):
    (tmp_path / "t.csv").write_text("N,D,loss\n" + "".join(f"{n},{20 * n},{5 / n + 1}\n" for n in range(1, 9)))
    table = read_table(tmp_path / "t.csv", params_column="N", events_column="D", loss_column="loss")
    law = fit_law(table)
    page = write_report(law, table, tmp_path / "out").read_text()
    assert "Refused" in page
    assert "correlation 1.00000" in page
    assert json.loads((tmp_path / "out" / "fit.json").read_text())["refused"] is True


def test_a_budget_without_a_best_split_is_said_in_words(tmp_path: Path):
    # Events cost so much more loss than parameters that the best N of any budget lies below every model's.
    grid = [(n, d) for n in (1e5, 3e5, 1e6, 3e6, 1e7) for d in (1e6, 2e6, 4e6, 8e6, 16e6, 32e6)]
    noise = np.random.default_rng(0).normal(0, 1e-6, len(grid))
    rows = [f"{n},{d},{1.5 + 0.2 * n**-0.3 + 30 * d**-0.3 + e}\n" for (n, d), e in zip(grid, noise, strict=True)]
    (tmp_path / "t.csv").write_text("N,D,loss\n" + "".join(rows))
    table = read_table(tmp_path / "t.csv", params_column="N", events_column="D", loss_column="loss")
    law = fit_law(table, form="separable", num_draws=50)
    assert not law.refused and not any(best.exists for best in law.optima)
    write_report(law, table, tmp_path / "out")
    told = (tmp_path / "out" / "report.md").read_text()
    assert "No budget that was asked about has a best split within reach of the cells" in told
    assert told.count("| no optimum within reach |") == len(law.optima)
    assert "loss at N" not in told
    for text in (told, summarize(law)):
        assert not re.search(r"\bnan\b|-%", text)
    assert summarize(law).count("none within reach of the cells; the loss falls to one end") == len(law.optima)


def test_every_forms_floor_stands_beside_its_error_and_where_the_cells_end(report: Path):
    told = (report / "report.md").read_text()
    # The grid's largest model on its most events, to three figures; its noise is 0.002.
    assert re.search(r"if this form holds beyond the cells: the lowest of them is at 1\.5[0-9]+\.", told)
    floors = dict(re.findall(r"^\| (coupled|separable|tied) \| ([\d.]+) \|", told, flags=re.MULTILINE))
    assert {"separable", "coupled"} <= set(floors)
    # The grid's own law is separable, with the floor 1.49.
    assert float(floors["separable"]) == pytest.approx(1.49, abs=0.03)


def test_a_refresh_takes_at_least_a_second(study_dir: Path):
    with pytest.raises(InputError, match="refresh_s is 0"):
        report_study(study_dir, form="separable", num_draws=0, refresh_s=0)
    assert not (study_dir / "report").exists()


def test_out_below_a_file_is_an_error(study_dir: Path):
    with pytest.raises(InputError, match="is a file"):
        report_study(study_dir, study_dir / "plan.json" / "deeper", num_draws=0)


def test_many_levels_are_drawn_without_a_legend_of_hundreds(tmp_path: Path):
    cells = [(100 * n, 1000 * d, 5 / n**0.5 + 3 / d**0.5 + 1) for n in range(1, 21) for d in (1, 3, 9)]
    (tmp_path / "t.csv").write_text("N,D,loss\n" + "".join(f"{n},{d},{loss}\n" for n, d, loss in cells))
    table = read_table(tmp_path / "t.csv", params_column="N", events_column="D", loss_column="loss")
    page = write_report(fit_law(table, num_draws=100), table, tmp_path / "out").read_text()
    assert "image" not in Tags(page).names


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (human(7527), "7.53k"),
        (human(999_999), "1M"),
        (human(2.2e12), "2.2T"),
        (human(12), "12"),
        (figures(1.48111), "1.481"),
        (figures(0.000123456), "0.0001235"),
        (figures(1234567.0), "1.235e+06"),
        (figures(1055.6), "1056"),
        (figures(0.0), "0.000"),
        (figures(None), "-"),
        (figures(float("nan")), "-"),
        (scientific(2.43e12), "2.4e12"),
        (scientific(1e18), "1e18"),
        (scientific(250.0), "2.5e2"),
        (span((0.3108, 0.4331)), "0.311 to 0.433"),
        (span(None), "-"),
    ],
)
def test_numbers_as_people_read_them(written: str, expected: str):
    assert written == expected
