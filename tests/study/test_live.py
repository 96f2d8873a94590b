"""The law of a running study without a cluster: when it is refitted, and that nothing of it can harm the sweep."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from behavegpt.study import live
from behavegpt.study.live import live_law
from behavegpt.study.run import Study

FITTER = """
import json, os, sys, time
log, takes, behaviour = sys.argv[1], float(sys.argv[2]), sys.argv[3]
print("ready", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    entry = request | {"begin": time.monotonic(), "nice": os.getpriority(os.PRIO_PROCESS, 0),
                       "threads": os.environ["OMP_NUM_THREADS"], "pid": os.getpid()}
    with open(log, "a") as file:
        print(json.dumps(entry), file=file, flush=True)
    if behaviour == "dies":
        sys.exit("no analysis here")
    time.sleep(takes)
    told = {"line": "law of 4 cells", "values": {"alpha": [0.5, 0.4, 0.6]}, "cells": 4, "fit_s": takes, "report_s": 5.0}
    print(json.dumps({"error": "ValueError: odd cells"} if behaviour == "errs" else told), flush=True)
"""


@pytest.fixture
def follow(finished, tmp_path, monkeypatch) -> Callable[..., tuple[object, Callable[[], list[dict]]]]:
    """Return a maker of a live law with a scripted fitter, and of what the fitter was asked so far."""
    script, log = tmp_path / "fitter.py", tmp_path / "requests.jsonl"
    script.write_text(FITTER)
    monkeypatch.setattr(live, "FITS_SHARE", 100.0)

    def asked() -> list[dict]:
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def make(takes: float = 0.0, behaviour: str = "answers"):
        return live_law(finished, [sys.executable, str(script), str(log), str(takes), behaviour], 1e9), asked

    return make


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def one_cell_more(study: Study) -> Callable[[], None]:
    """Return what gives a cell back that was taken away, so that there is always news."""
    paths = sorted((study.study_dir / "cells").glob("*.json"))
    texts = {path: path.read_text() for path in paths}
    for path in paths:
        path.unlink()

    def add() -> None:
        path, text = texts.popitem()
        path.write_text(text)

    return add


def test_a_cell_is_followed_by_a_law_in_a_process_of_the_lowest_priority(finished, follow, capsys):
    watch, asked = follow()
    with watch as on_cell:
        time.sleep(0.1)
        assert asked() == []  # nothing is started before a cell has finished
        on_cell()
        wait_for(lambda: "  law of 4 cells\n" in capsys.readouterr().out)
    [request] = asked()
    assert Path(request["table"]) == finished.study_dir / "results.parquet"
    assert Path(request["table"]).exists()
    assert (request["variant"], request["target_flops"]) == ("erm", 1e9)
    assert Path(request["out"]) == finished.study_dir / "report"
    assert (request["nice"], request["threads"]) == (19, "1")


def test_cells_that_finish_during_a_refit_share_the_next_one(finished, follow, capsys):
    add = one_cell_more(finished)
    watch, asked = follow(takes=0.4)
    with watch as on_cell:
        add()
        on_cell()
        wait_for(lambda: len(asked()) == 1)
        for _ in range(3):
            add()
            on_cell()
        wait_for(lambda: len(asked()) == 2)
        time.sleep(0.6)
    assert len(asked()) == 2
    assert capsys.readouterr().out == 2 * "  law of 4 cells\n"


def test_what_a_refit_took_is_followed_by_a_rest(finished, follow, monkeypatch):
    add = one_cell_more(finished)
    # 0.1 CPU-seconds at a tenth of a core: the next one comes a second later.
    monkeypatch.setattr(live, "FITS_SHARE", 0.1)
    watch, asked = follow(takes=0.1)
    with watch as on_cell:
        add()
        on_cell()
        wait_for(lambda: len(asked()) == 1)
        add()
        on_cell()
        wait_for(lambda: len(asked()) == 2)
    first, second = asked()
    assert second["begin"] - first["begin"] >= 1.1
    # A report of five seconds takes its own rest: two and a half minutes at the usual share.
    assert first["out"] is not None and second["out"] is None


def test_without_news_nothing_is_fitted_again(finished, follow):
    watch, asked = follow()
    with watch as on_cell:
        on_cell()
        wait_for(lambda: len(asked()) == 1)
        time.sleep(0.3)
        on_cell()
        time.sleep(0.3)
    assert len(asked()) == 1


@pytest.mark.parametrize(
    ("behaviour", "line"),
    [
        ("errs", "  no law: ValueError: odd cells"),
        ("dies", "  the law is not refitted: RuntimeError: no analysis here"),
    ],
)
def test_what_goes_wrong_is_printed_and_the_sweep_goes_on(follow, capsys, behaviour, line):
    watch, asked = follow(behaviour=behaviour)
    with watch as on_cell:
        on_cell()
        wait_for(lambda: bool(asked()))
        time.sleep(0.5)
        on_cell()
    assert capsys.readouterr().out.splitlines()[0] == line


def test_a_fitter_that_cannot_start_is_said_to_be_so(finished, capsys):
    with live_law(finished, ["/nonexistent/python"], 1e9) as on_cell:
        on_cell()
        time.sleep(0.5)
    assert "the law is not refitted: FileNotFoundError" in capsys.readouterr().out


def test_the_end_does_not_wait_for_a_fit(finished, follow, capsys):
    watch, asked = follow(takes=60.0)
    with watch as on_cell:
        on_cell()
        wait_for(lambda: bool(asked()))
        begin = time.monotonic()
    assert time.monotonic() - begin < 3
    [request] = asked()
    assert not Path(f"/proc/{request['pid']}").exists()
    assert capsys.readouterr().out == ""
    assert os.getpriority(os.PRIO_PROCESS, 0) < 19
