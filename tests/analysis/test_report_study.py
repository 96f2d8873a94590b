"""What a report says about a study beside its law: progress, failures, checks, noise; and nothing of what is absent."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis import fit_law, read_table, report_study, write_report
from analysis.report_study import BOUND
from behavegpt.schema import RESULT_SCHEMA
from behavegpt.study import branch_check


def write(path: Path, value: Any) -> None:
    """Write a JSON file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def text_of(page: str) -> str:
    """Return a page's words, without figures and tags, one space between them."""
    page = re.sub(r"<(style|svg).*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


def section(page: str, title: str) -> str:
    """Return the words of one section."""
    [found] = re.findall(rf"<section>\s*<h2>{re.escape(title)}</h2>(.*?)</section>", page, flags=re.DOTALL)
    return text_of(found)


def report(study: Path, **options: Any) -> str:
    """Return the page of a study's report, without intervals."""
    return report_study(study, form="separable", num_draws=0, **options)[1].read_text()


def test_all_that_a_running_study_knows_is_in_its_report(study_dir: Path):
    plan = json.loads((study_dir / "plan.json").read_text())
    late = {"trunk_id": "late", "variant": "erm", "num_params": 237_000, "seed": 1, "num_events": [800_000]}
    later = late | {"trunk_id": "later", "num_events": [50_000]}
    plan |= {"trunks": [late, later], "cost_ratio": 0.4951, "notes": ["note: D = 25,000 bends the law"]}
    plan["recipe"] = {"warmup_steps": 100, "batch_ramp": [[0, 1], [8000, 2]]}
    write(study_dir / "plan.json", plan)
    (study_dir / "curves").mkdir()
    (study_dir / "curves" / "late.jsonl").write_text(
        '{"phase": "trunk", "num_events": 200000, "loss": 3.0, "time": 60}'
    )
    mark = {"marked_at": "2026-01-02", "dataset_fingerprint": "abc123", "reason": "users were forgotten"}
    write(study_dir / "stale.json", mark)
    cells = [("cell07", 2.5, 2.5, 2.52), ("cell20", 2.25, 2.2501, None)]
    keys = ("cell_id", "branch", "independent", "cosine")
    size = {"num_params": 16_000, "num_events": 50_000}
    write(study_dir / "branch_check" / "comparison.json", [dict(zip(keys, c, strict=True)) | size for c in cells])
    width = {
        "width": 16,
        "losses": {"0.5": 2.1234, "1.0": 2.0},
        "best_rate": 0.0125,
        "bracketed": False,
        "regret": 0.01,
    }
    numbers = {"num_events": 50_000, "rate_x_width": 0.203, "scatter": 1.09, "exponent": 0.97, "seed_sd": 0.0092}
    write(study_dir / "calibration.json", {"widths": [width], **numbers})

    page = report(study_dir, refresh_s=20)
    assert '<meta http-equiv="refresh" content="20">' in page
    assert "running: 36 of 41 cells, 3 without a loss" in page
    top = text_of(page.split("<section>")[0])
    assert "Stale since 2026-01-02: users were forgotten (dataset abc123)" in top
    assert "cell20 gave 2.250000, a run of its own 2.250100" in top
    assert "cell07" not in top
    lost = section(page, "Cells without a loss")
    assert "late-d800000 running 237k 800k 1 25% of D 1970-01-01 00:01:00" in lost
    assert "later-d50000 not begun 237k 50k 1 - -" in lost
    assert "crashed crashed" in lost
    assert "worker died" in lost
    assert "diverged diverged" in lost
    assert "skipped skipped" in lost
    checked = section(page, "Are branches as good as runs of their own?")
    assert "1 of 2 do not agree within 1e-05" in checked
    assert "cell07 16k 50k 2.5000 2.5000 0 2.5200 +0.0200" in checked
    assert "cell20 16k 50k 2.2500 2.2501 1.0e-04 - -" in checked
    recipe = section(page, "The recipe")
    assert "0.203 / width, within a factor of 1.09" in recipe
    assert "16 2.123 2.000 0.0125 or beyond 0.200 0.010" in recipe
    assert "1 from 0 events on, 2 from 8k events on" in recipe
    study = section(page, "The study")
    assert "trains 0.50 of the events" in study
    assert "D = 25,000 bends the law" in study


def test_the_final_report_of_a_study_without_extras(study_dir: Path):
    (study_dir / "plan.json").unlink()
    page = report(study_dir)
    assert "refresh" not in page
    assert "running:" not in page
    titles = re.findall("<h2>(.*?)</h2>", page)
    assert {"The study", "The dataset", "Are branches as good as runs of their own?"}.isdisjoint(titles)
    assert titles[-3:] == ["Cells without a loss", "Cells", "Provenance"]


def test_branches_that_agree_say_so(study_dir: Path):
    cells = [{"cell_id": "a", "num_params": 1e4, "num_events": 1e5, "branch": 2.0, "independent": 2.000001}]
    write(study_dir / "branch_check" / "comparison.json", [cells[0] | {"cosine": 2.01}])
    page = report(study_dir)
    words = section(page, "Are branches as good as runs of their own?")
    assert "All of them (1) agree within 1e-05; the largest difference is 1.0e-06. Cosine runs end +0.0100" in words
    assert "in doubt" not in page


def test_the_bound_is_the_platforms():
    assert BOUND == branch_check.BOUND


def with_seeds(study: Path, noise: Callable[[int], float]) -> list[dict[str, Any]]:
    """Train every cell of a study a second time: a pair of losses `noise(D)` times 2^(1/2) apart, a known sd of D."""
    path = study / "results.parquet"
    rows = [row for row in pq.read_table(path).to_pylist() if row["status"] == "completed"]
    twins = []
    for sign, seed in ((1, 0), (-1, 1)):
        for row in rows:
            half = sign * noise(row["num_events"]) / 2**0.5
            names = {name: f"{row[name]}-s{seed}" for name in ("cell_id", "trunk_id")}
            twins.append(
                row | names | {"seed": seed, "loss": row["loss"] + half, "loss_seed_sd": noise(row["num_events"])}
            )
    pq.write_table(pa.Table.from_pylist(twins, schema=RESULT_SCHEMA), path)
    return twins


def test_noise_between_seeds_that_falls_with_d_weighs_the_cells(study_dir: Path):
    with_seeds(study_dir, lambda num_events: 0.01 * (25_000 / num_events) ** 0.5)
    table = read_table(study_dir / "results.parquet")
    # The noise is exactly D^-1/2, so the weights are D^1/2 over their mean.
    root = table.points.num_events**0.5
    np.testing.assert_allclose(table.points.weight, root / root.mean(), rtol=1e-9)
    law = fit_law(table, form="separable", num_draws=0)
    words = section(write_report(law, table, study_dir / "out").read_text(), "Noise between runs")
    assert "25k 0.010 6" in words
    assert "400k 0.0025 6" in words
    assert "weigh by one over it, as a power of D" in words


def test_noise_between_seeds_without_a_trend_weighs_nothing(study_dir: Path):
    # log2 of these is -1, 1, -1, 1, -1, 1, whose slope against log2 D (-2.5 .. 2.5) is 3 / 17.5, or 0.17. With six
    # degrees of freedom the variance of log s is trigamma(3) / 4 = 0.0987, and a slope's standard error by log2 D
    # (0.0987 / 17.5)^(1/2) / log(2) = 0.108: 1.6 standard errors are no trend.
    loud = {25_000, 100_000, 400_000}
    with_seeds(study_dir, lambda num_events: 0.001 if num_events in loud else 0.004)
    table = read_table(study_dir / "results.parquet")
    assert (table.points.weight == 1).all()
    law = fit_law(table, form="separable", num_draws=0)
    words = section(write_report(law, table, study_dir / "out").read_text(), "Noise between runs")
    assert "weigh the same: it has no clear trend with D" in words


def test_one_seed_tells_no_noise_whatever_the_validation_error(study_dir: Path):
    path = study_dir / "results.parquet"
    rows = pq.read_table(path).to_pylist()
    for at, row in enumerate(rows):
        row["loss_stderr"] = 1e-6 * (1 + at)
    pq.write_table(pa.Table.from_pylist(rows, schema=RESULT_SCHEMA), path)
    table = read_table(path)
    assert np.isnan(table.noise).all()
    assert (table.points.weight == 1).all()
    law = fit_law(table, form="separable", num_draws=0)
    # Residuals of 0.002 are thousands of these standard errors; as noise between cells they would be a misfit.
    assert not any("Lack of fit:" in warning for warning in law.warnings)
    assert "cannot be tested against noise" in section(
        write_report(law, table, study_dir / "out").read_text(), "Noise between runs"
    )


def test_anyones_standard_errors_still_weigh(tmp_path: Path):
    (tmp_path / "t.csv").write_text("N,D,loss,loss_stderr\n1,1,3,0.1\n2,2,2,0.2\n4,4,1,0.4\n")
    table = read_table(tmp_path / "t.csv", params_column="N", events_column="D", loss_column="loss")
    # 1 / stderr is 10, 5, 2.5 with mean 35/6.
    np.testing.assert_allclose(table.points.weight, np.array([10, 5, 2.5]) * 6 / 35)
    assert table.stated_noise is not None


def test_a_report_of_one_variant_leaves_the_others_out(study_dir: Path):
    path = study_dir / "results.parquet"
    rows = pq.read_table(path).to_pylist()
    rows += [row | {"variant": "cvar-0.5", "cell_id": f"other-{row['cell_id']}"} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows, schema=RESULT_SCHEMA), path)
    page = report(study_dir, variant="erm")
    assert "other-" not in page
    assert "The cells of cvar-0.5 are not in this law" in page
    assert ", erm</h1>" in page
