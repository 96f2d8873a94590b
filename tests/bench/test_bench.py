"""The benchmark's own parts: equal work on both sides, honest memory, a readable table, and the job from end to end."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from behavegpt.bench.alone import run_alone
from behavegpt.bench.figures import Figure, to_lines
from behavegpt.bench.generate import draw_columns
from behavegpt.bench.ingest import Limits, compare_counts, config_of, ingest_log
from behavegpt.bench.polars_script import transform

JOB = Path(__file__).parents[2] / "jobs" / "benchmark.py"
THIS = Path(__file__)


def write_dirty_log(path: Path, num_rows: int = 3000) -> dict[str, int]:
    """Write a shuffled log with every blemish that both sides handle, and return what must be counted.

    Users u0 .. u29 have many events; every 10th event has no behaviour; places p0 .. p4 are common, p5 .. are each
    one user's own.
    """
    rng = random.Random(0)
    rows = set()
    while len(rows) < num_rows:
        user, day, second = rng.randrange(30), rng.randrange(1, 29), rng.randrange(86_400)
        time = f"2024-02-{day:02d}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}Z"
        behavior = "" if rng.random() < 0.1 else f"b{rng.randrange(4)}"
        place = f"p{rng.randrange(5)}" if rng.random() < 0.9 else f"p{5 + user}"
        rows.add((f"u{user}", time, f"e{rng.randrange(9)}", behavior, place))
    clean = sorted(rows)
    lines = clean + clean[:40] + [(f"single{i}", "2024-02-03T04:05:06Z", "e1", "b1", "p1") for i in range(7)]
    lines += [("", "2024-02-03T04:05:06Z", "e1", "b1", "p1"), ("u1", "", "e1", "b1", "p1")] * 4
    rng.shuffle(lines)
    path.write_text("\n".join(["user,timestamp,event,behavior,location", *map(",".join, lines)]) + "\n")
    counts = {"rows_read": len(lines), "duplicates": 40, "events_kept": len(clean), "users": 30}
    return counts | {"values_event": 9, "values_behavior": 4, "values_location": 5}


def test_script_and_ingest_count_the_same_on_a_dirty_log(tmp_path: Path) -> None:
    expected = write_dirty_log(tmp_path / "log.csv")
    limits = Limits(num_workers=2, memory_gb=0.1, min_users=5)
    ours = ingest_log(tmp_path / "log.csv", tmp_path / "ours", limits)
    theirs = transform(tmp_path / "log.csv", tmp_path / "polars", split=(0.7, 0.15, 0.15), min_users=5)
    assert compare_counts(ours, theirs) == []
    assert {name: theirs[name] for name in expected} == expected
    assert min(ours["windows_train"], ours["windows_val"], ours["windows_test"]) > 0


def test_differences_are_named() -> None:
    assert compare_counts({"users": 1, "rows": 2}, {"users": 3, "rows": 2, "more": 4}) == [
        "users 1 and 3",
        "more None and 4",
    ]


@pytest.mark.parametrize("num_rows", [10_000, 123_456, 20_000_000])
def test_generated_log_has_about_as_many_rows_as_asked(num_rows: int) -> None:
    config = config_of(num_rows)
    targets = config.num_train_windows + config.num_val_windows + config.num_test_windows
    assert targets * 90 == pytest.approx(num_rows, abs=90)


def touch(num_bytes: int) -> int:
    """Fill an array; run in another process by its name here."""
    return int(np.ones(num_bytes, np.uint8).sum())


def test_memory_of_a_run_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(THIS.parent)
    size = 200 << 20
    ballast = np.ones(3 * size, np.uint8)
    small, large = (run_alone(f"{THIS.stem}:touch", num_bytes=n) for n in (1, size))
    assert (small.value, large.value, len(ballast)) == (1, size, 3 * size)
    assert large.peak_bytes - small.peak_bytes == pytest.approx(size, rel=0.05)
    assert small.wall_s > 0


def test_bare_draws_use_every_event() -> None:
    """Entries of the table are 0 .. 9 at random, so the sum over 4 columns is near 4 x events x their mean."""
    mean = np.random.default_rng(0).integers(10, size=10).mean()
    assert draw_columns(250_001, 10) == pytest.approx(4 * 250_001 * mean, rel=0.01)


def test_table() -> None:
    figures = [
        Figure(name="fast", ours="3 M/s", other="polars 4 M/s", value=0.75, wanted=">= 0.5"),
        Figure(name="heavy", ours="", value=7.0, wanted="<= 6"),
        Figure(name="other", ours="1 s", value=1.23456),
    ]
    assert to_lines(figures) == [
        "       ours   compared with  value  wanted",
        "fast   3 M/s  polars 4 M/s   0.75   >= 0.5  yes",
        "heavy                        7      <= 6    NO",
        "other  1 s                   1.23",
    ]


def test_wrong_flags_are_named_together(tmp_path: Path) -> None:
    flags = ["--rows", "3", "--repeats", "0", "--work", str(tmp_path / "none"), "--parts", "stream"]
    done = subprocess.run(
        [sys.executable, JOB, "data", *flags], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert [line.split(":")[1].strip().split(" ")[0] for line in done.stderr.splitlines()] == [
        "--rows",
        "--repeats",
        "--work",
        "--parts",
    ]


def test_study_without_its_logs_is_refused_at_once(tmp_path: Path) -> None:
    flags = ["--dataset", str(tmp_path / "none"), "--work", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, JOB, "study", *flags], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path / 'none'}: not a dataset")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.ray
def test_small_benchmark_from_end_to_end(ray_cluster: str, tmp_path: Path) -> None:
    sizes = ["--rows", "100000", "--memory-rows", "50000", "100000", "--stream-windows", "5000"]
    flags = [*sizes, "--generator-events", "50000", "--repeats", "1", "--work", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, JOB, "data", *flags], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if not line.startswith("measured")]
    assert [line.split()[0].strip(",") for line in table] == [
        "ours",
        "ingest",
        "its",
        "stream",
        "generator",
        "peak",
        "peak",
        "large",
    ]
    assert list(tmp_path.iterdir()) == [], "scratch is removed"
