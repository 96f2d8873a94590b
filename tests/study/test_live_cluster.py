"""The law of a running study on a real Ray cluster: refitted while cells are trained, on the terminal, on the
dashboard's metrics port and in a report that refreshes itself."""

import math
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from behavegpt.data.synthetic.generator import GeneratorConfig, write_generated
from behavegpt.study import live
from behavegpt.study.config import StudyConfig, of_widths
from behavegpt.study.run import open_study, run_study

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(280)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "small"
    config = GeneratorConfig(num_users=100, num_train_events=90 * 700, num_val_windows=40, num_test_windows=5)
    write_generated(out, config, "small")
    return out


def scrape() -> dict[str, list[tuple[str, float]]]:
    """Return the values, with their labels, of each metric on the node's metrics port."""
    import ray

    address = f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found: dict[str, list[tuple[str, float]]] = {}
    for line in lines:
        if read := re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line):
            found.setdefault(read[1], []).append((read[2], float(read[3])))
    return found


def of_study(name: str, study: str) -> list[tuple[str, float]]:
    return [(labels, value) for labels, value in scrape().get(name, []) if f'study="{study}"' in labels]


def wait_for_metric(name: str, study: str) -> list[tuple[str, float]]:
    deadline = time.monotonic() + 60
    while not (values := of_study(name, study)):
        assert time.monotonic() < deadline, f"{name} is not on the metrics port"
        time.sleep(1)
    return values


def test_the_law_of_a_running_study_is_printed_shown_as_metrics_and_reported(
    ray_cluster, dataset, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(live, "FITS_SHARE", 10.0)
    monkeypatch.setattr(live, "REPORTS_SHARE", 10.0)
    config = StudyConfig(name="live", sizes=of_widths(8, 12, 16), num_events=(5_000, 10_000, 20_000, 60_000))
    study = open_study(config, dataset, tmp_path / "study")
    printed: list[str] = []

    @contextmanager
    def patient() -> Iterator[Callable[[], None]]:
        """Training takes seconds here, and the fits run at the lowest priority: wait for one at the end."""
        with live.live_law(study, live.FITTER, 1e13) as on_cell:
            yield on_cell
            deadline = time.monotonic() + 120
            while not re.search(r"law of \d+ cells", "".join(printed)):
                assert time.monotonic() < deadline, "".join(printed)
                time.sleep(0.2)
                printed.append(capsys.readouterr().out)

    assert run_study(study, patient()).num_rows == 12
    printed.append(capsys.readouterr().out)
    counts = [int(number) for number in re.findall(r"^  (?:no )?law of (\d+) cells", "".join(printed), re.MULTILINE)]
    assert counts and counts == sorted(set(counts)) and counts[-1] <= 12
    page = (study.report_dir(config.variants[0]) / "report.html").read_text()
    assert f'http-equiv="refresh" content="{live.REFRESH_S}"' in page
    assert re.search(r"running: ", page)
    [(labels, value)] = wait_for_metric("ray_behavegpt_law_cells", "live")
    assert 'variant="erm"' in labels
    assert value in counts


def test_parameters_and_their_intervals_are_gauges_and_a_new_law_takes_the_place_of_the_old(ray_cluster):
    from behavegpt.study.gauges import LawGauges

    gauges = LawGauges("shown")
    gauges.show("erm", 17, {"alpha": (0.64, 0.55, 0.73), "beta": (0.3, 0.2, 0.4)})
    expected = {"alpha": 0.64, "alpha_low": 0.55, "alpha_high": 0.73, "beta": 0.3, "cells": 17}
    for name, value in expected.items():
        [(_, shown)] = wait_for_metric(f"ray_behavegpt_law_{name}", "shown")
        assert shown == pytest.approx(value)
    gauges.show("erm", 18, {"alpha": (0.65, 0.56, 0.74)})
    deadline = time.monotonic() + 60
    while of_study("ray_behavegpt_law_cells", "shown")[0][1] != 18:
        assert time.monotonic() < deadline
        time.sleep(1)
    # What is not known any more is not shown as if it were.
    assert all(math.isnan(value) for _, value in of_study("ray_behavegpt_law_beta", "shown"))
