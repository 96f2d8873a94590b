"""The ingest job: its output, its exit codes, and what a user who gets something wrong is told."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from behavegpt.data.manifest import read_manifest
from behavegpt.data.vocab import read_vocabulary

JOB = Path(__file__).parents[2] / "jobs" / "ingest.py"
MAPPING = ("--user", "user", "--timestamp", "time", "--event", "event", "--min-users", "1")


def run(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(JOB), *map(str, args)]
    env = {**os.environ, "COLUMNS": "300", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)


def write_log(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(["user,time,event", *rows]) + "\n")
    return path


@pytest.fixture
def rows() -> list[str]:
    return [f"canary-{i % 3},2012-06-{1 + i // 24:02d}T{i % 24:02d}:06Z,e{i % 7}" for i in range(240)]


@pytest.fixture
def log(tmp_path: Path, rows: list[str]) -> Path:
    return write_log(tmp_path / "log.csv", [*rows, rows[0], ",2012-06-01T00:00Z,e1"])


def test_card_is_printed_and_ends_with_the_directory(log: Path, tmp_path: Path) -> None:
    done = run("--input", log, *MAPPING, "--out", tmp_path / "sets" / "toy")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "dataset toy"
    assert lines[-1] == f"wrote {tmp_path / 'sets' / 'toy' / 'card.html'}"
    assert [line.split() for line in lines if "rows read" in line] == [["rows", "read", "242"]]
    assert [line.split()[0] for line in lines if "duplicates" in line or "without a user" in line] == ["1", "1"]
    assert "canary" not in done.stdout
    assert (tmp_path / "sets" / "toy" / "manifest.json").is_file()
    assert (tmp_path / "sets" / "user.key").stat().st_mode & 0o777 == 0o600


def test_several_inputs_and_every_option_reach_the_dataset(rows: list[str], tmp_path: Path) -> None:
    paths = [write_log(tmp_path / f"{i}.csv", rows[i::2]) for i in range(2)]
    options = ("--split", 0.6, 0.1, 0.3, "--split-by", "days", "--hold-out-behaviors", "e1", "e2", "--seed", 5)
    options += ("--min-users", 2, "--key-file", tmp_path / "k", "--max-dropped", 0.5, "--memory-gb", 0.5)
    options += ("--num-workers", 1, "--latest", "2012-06-10", "--timezone", "Asia/Tokyo")
    done = run("--input", *paths, *MAPPING[:-2], *options, "--out", tmp_path / "toy")
    assert (done.returncode, done.stderr) == (0, "")
    manifest = read_manifest(tmp_path / "toy")
    assert manifest.source["hold_out_behaviors"] == ["e1", "e2"]
    assert manifest.source["split"] == [0.6, 0.1, 0.3]
    chosen = [manifest.source[name] for name in ("split_by", "seed", "min_users", "max_dropped", "timezone")]
    assert chosen == ["days", 5, 2, 0.5, "Asia/Tokyo"]
    assert manifest.counts["rows_read"] == 240
    assert manifest.counts["time_out_of_range"] == 24  # 10 June
    assert manifest.counts["held_out_behavior"] == sum(i % 7 in (1, 2) for i in range(216))
    assert (tmp_path / "k").is_file()
    assert not (tmp_path / "user.key").exists()


def test_a_repeated_list_flag_appends_and_a_repeated_path_is_refused(rows: list[str], tmp_path: Path) -> None:
    one, two = (write_log(tmp_path / f"{i}.csv", rows[i::2]) for i in range(2))
    out = ("--out", tmp_path / "toy")
    assert run("--input", one, *MAPPING, f"--input={two}", *out, *out).returncode == 2
    done = run("--input", one, *MAPPING, f"--input={two}", "--input", two, *out)
    assert (done.returncode, done.stderr) == (0, "")
    manifest = read_manifest(tmp_path / "toy")
    assert (manifest.counts["rows_read"], manifest.source["num_files"]) == (240, 2)


def test_flags_of_the_text_and_of_calendar_times_reach_the_log(tmp_path: Path) -> None:
    lines = [f'u{i % 3}\t{i // 48}\t{i // 48 % 7 + 1}\t{i % 48 + 1}\t"caf\xe9{i % 5}' for i in range(480)]
    (tmp_path / "log.csv").write_text("\n".join(["who\tdate\twday\thalf\twhat", *lines]) + "\n", encoding="latin-1")
    columns = ("--user", "who", "--event", "what", "--weekday", "wday", "--slot", "half", "--day", "date")
    text = ("--delimiter", r"\t", "--no-quoted", "--encoding", "latin-1", "--first-date", "2024-01-01")
    zones = ("--timezones", "other*", "UTC", "--timezones", "log.*", "Asia/Tokyo")
    done = run("--input", tmp_path / "log.csv", *columns, *text, *zones, "--min-users", 1, "--out", tmp_path / "toy")
    assert (done.returncode, done.stderr) == (0, "")
    manifest = read_manifest(tmp_path / "toy")
    # 1 January 2024 was a Monday, and its midnight in Tokyo nine hours before that of UTC.
    assert manifest.source["first_event"] == "2023-12-31T15:00:00Z"
    assert manifest.counts["events_kept"] == 480
    assert '"caf\xe90' in read_vocabulary(tmp_path / "toy" / "vocab" / "event.parquet").values


def test_times_in_the_future_are_refused_with_the_allowed_dates(tmp_path: Path) -> None:
    path = write_log(tmp_path / "log.csv", [f"u{i % 2},209{i % 9}-01-01T00:00Z,e" for i in range(40)])
    out = ("--out", tmp_path / "toy")
    done = run("--input", path, *MAPPING, *out)
    tomorrow = (datetime.now(UTC).date() + timedelta(days=1)).isoformat()
    assert done.returncode == 2
    assert f"has a time outside 1971-01-01 to {tomorrow} (--latest)" in done.stderr
    done = run("--input", path, *MAPPING, *out, "--latest", "2110-01-01")
    assert done.stderr == "error: --latest 2110-01-01: must be a date from 1971-01-02 to 2100-01-01\n"


def test_preset_needs_no_mapping_and_a_second_table_gives_behaviours(tmp_path: Path) -> None:
    lines = [f"user{i % 3}\t2016051{i // 24}{i % 24:02d}0000\t{i % 5}\t{i % 7}\t{i}" for i in range(200)]
    (tmp_path / "App_usage_trace.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "App2Category.txt").write_text("".join(f"{app}\t{app % 2}\n" for app in range(7)))
    table = ("--behavior-table", tmp_path / "App2Category.txt")
    preset = ("--preset", "tsinghua-app-usage", "--input", tmp_path / "App_usage_trace.txt", *table)
    done = run(*preset, "--min-users", 1, "--out", tmp_path / "toy")
    assert (done.returncode, done.stderr) == (0, "")
    manifest = read_manifest(tmp_path / "toy")
    assert (manifest.counts["rows_read"], manifest.counts["users"]) == (200, 3)
    assert sorted(read_vocabulary(tmp_path / "toy" / "vocab" / "behavior.parquet").values) == ["0", "1"]
    assert manifest.source["timezone"] == "Asia/Shanghai"


def test_table_of_behaviours_without_a_preset(log: Path, tmp_path: Path) -> None:
    (tmp_path / "kinds.csv").write_text("name,kind\n" + "".join(f"e{i},k{i % 2}\n" for i in range(7)))
    table = ("--behavior-table", tmp_path / "kinds.csv", "--table-columns", "name", "kind")
    done = run("--input", log, *MAPPING, *table, "--out", tmp_path / "toy")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(read_vocabulary(tmp_path / "toy" / "vocab" / "behavior.parquet").values) == ["k0", "k1"]


def test_wrong_input_exits_2_with_every_problem_and_leaves_nothing(log: Path, tmp_path: Path) -> None:
    mapping = ("--user", "usr", "--timestamp", "time", "--event", "event")
    done = run(
        "--input", log, *mapping, "--timezone", "UTCC", "--split", 70, 15, 15, "--out", tmp_path / "sets" / "toy"
    )
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error"] * 3
    for hint in ("Did you mean 'user'?", "Did you mean 'UTC'?", "Did you mean 0.7 0.15 0.15?"):
        assert sum(hint in line for line in lines) == 1
    assert list(tmp_path.iterdir()) == [log]


def test_wrong_unit_exits_2_and_names_the_unit_that_fits(tmp_path: Path) -> None:
    path = write_log(tmp_path / "log.csv", [f"u{i % 2},{1_339_437_960_000 + i * 10**6},e" for i in range(40)])
    done = run("--input", path, *MAPPING, "--time-unit", "s", "--out", tmp_path / "toy")
    assert done.returncode == 2
    assert "--time-unit ms" in done.stderr
    assert not (tmp_path / "toy").exists()
    assert run("--input", path, *MAPPING, "--out", tmp_path / "toy").returncode == 0


def test_unknown_flag_missing_flag_and_wrong_date_exit_2(log: Path, tmp_path: Path) -> None:
    done = run("--input", log, *MAPPING, "--out", tmp_path / "toy", "--behaviour", "event")
    assert done.returncode == 2
    assert "--behavior" in done.stdout + done.stderr
    done = run("--input", log, "--event", "event", "--out", tmp_path / "toy")
    assert done.returncode == 2
    assert [line.split(":")[1].strip() for line in done.stderr.splitlines()] == ["--user", "--timestamp"]
    done = run("--input", log, *MAPPING, "--out", tmp_path / "toy", "--latest", "soon")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        2,
        "error: --latest soon: is no date; allowed is one such as 2030-01-01",
    )
    assert list(tmp_path.iterdir()) == [log]


def test_help_explains_every_flag() -> None:
    done = run("--help")
    assert done.returncode == 0
    for words in (
        "IANA name",
        "How times are written",
        "map no column that identifies people",
        "whole histories",
        "--no-quoted",
    ):
        assert words in done.stdout


def test_ingest_needs_neither_torch_nor_ray() -> None:
    code = f"import sys, runpy; runpy.run_path({str(JOB)!r}); print({{'torch', 'ray'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"
