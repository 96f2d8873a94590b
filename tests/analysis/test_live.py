"""The law of a running study: its line, its values, and the process that answers a sweep."""

import io
import json
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

from analysis.advisor import Advisor
from analysis.budget import Flops
from analysis.law import fit_law
from analysis.live import answer, law_line, law_values, serve
from analysis.table import read_table


@pytest.fixture
def request_of(study_dir):
    def make(**changes):
        told = {"table": str(study_dir / "results.parquet"), "variant": "erm", "target_flops": 1e14, "out": None}
        return told | {"refresh_s": 20} | changes

    return make


def test_the_line_has_the_exponents_the_floor_and_the_target_with_their_intervals(study_dir):
    law = fit_law(read_table(study_dir / "results.parquet"), budgets=[Flops(1e14)], num_draws=200)
    values, line = law_values(law), law_line(law, 1e14)
    assert line.startswith(f"law of 36 cells ({law.form.name}): alpha 0.")
    assert "loss at 1e14 FLOPs 1." in line and "\n" not in line
    assert {"C_N", "alpha", "C_D", "L0", "loss_at_target"} <= values.keys()
    assert all(low < value < high for value, low, high in values.values())
    # The printed interval is the one that a report quotes.
    assert values["L0"] == (law.fit.parameters["L0"], *law.intervals()["L0"])
    assert f"L0 {values['L0'][0]:.2f} [{values['L0'][1]:.2f}, {values['L0'][2]:.2f}]" in line


def test_without_a_law_the_line_says_why(study_dir, request_of):
    few = study_dir / "few.parquet"
    pq.write_table(pq.read_table(study_dir / "results.parquet").slice(0, 4), few)
    told = answer(request_of(table=str(few)))
    assert told["line"].startswith("no law of 4 cells yet: Only 4 completed cells")
    assert told["values"] == {}
    assert told["cells"] == 4


def test_the_report_of_a_running_study_is_written_where_it_is_asked_for(study_dir, request_of):
    told = answer(request_of(out=str(study_dir / "report")))
    page = (study_dir / "report" / "report.html").read_text()
    assert '<meta http-equiv="refresh" content="20">' in page
    assert "running: " in page
    assert told["report_s"] > 0 and told["fit_s"] > 0


def test_what_goes_wrong_is_an_answer_and_the_next_request_is_answered_too(request_of):
    answers = io.StringIO()
    serve(["{", json.dumps(request_of(table="absent.parquet")), json.dumps(request_of())], answers)
    ready, *lines = answers.getvalue().splitlines()
    assert ready == "ready"
    first, second, third = map(json.loads, lines)
    assert first["error"].startswith("JSONDecodeError")
    assert "absent.parquet" in second["error"]
    assert third["cells"] == 36


def test_the_process_answers_a_line_each_and_ends_with_its_stdin(request_of):
    command = [sys.executable, "-P", "-m", "analysis.live"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == "ready\n"
        for _ in range(2):
            print(json.dumps(request_of()), file=process.stdin, flush=True)
            assert json.loads(process.stdout.readline())["cells"] == 36
        process.stdin.close()
        begin = time.monotonic()
        assert process.wait(20) == 0
        assert time.monotonic() - begin < 10


class Cell:
    def __init__(self, num_params: float, num_events: float, trunk: str) -> None:
        self.num_params, self.num_events, self.trunk = num_params, num_events, trunk


def test_the_adviser_answers_with_positions_and_prices_by_them(study_dir):
    offers = [Cell(n, d, f"trunk-{n}") for n in (7_500, 107_000, 500_000) for d in (800_000, 1_600_000)]
    asked = []

    def price(chosen):
        asked.extend(chosen)
        return sum(6.4 * offers[at].num_params * offers[at].num_events for at in chosen)

    adviser = Advisor(table=study_dir / "results.parquet", variant="erm", target_flops=1e14)
    advice = adviser.next(offers, price, 3)
    # Two of them are in the table already, D = 800,000 at the first two sizes.
    assert set(advice.picks) <= {1, 3, 4, 5} and len(advice.picks) == len(advice.widths) == 3
    assert set(asked) <= {1, 3, 4, 5}
    first = advice.picks[0]
    assert advice.costs[0] == pytest.approx(6.4 * offers[first].num_params * offers[first].num_events)
    assert advice.width > 0 and advice.law.startswith("law of 36 cells")
    assert len(advice.table(1)) == len(advice.table(3)) - 2
    assert advice.table(1)[-1].endswith(offers[first].trunk)


def test_first_cells_are_positions_too(tmp_path):
    offers = [Cell(n, d, f"trunk-{n}") for n in (1e4, 2e4, 4e4, 8e4) for d in (1e5, 2e5, 4e5, 8e5, 1.6e6)]

    def price(chosen):
        return sum(offers[at].num_params * offers[at].num_events for at in chosen)

    first = Advisor(table=tmp_path, variant="erm", target_flops=1e14).first(offers, price)
    assert len(set(first)) == len(first) <= len(offers)
    assert len({offers[at].num_params for at in first}) >= 3 and len({offers[at].num_events for at in first}) >= 3
