"""Progress lines of a sweep, from curve lines written by hand as a trunk's worker writes them."""

import json
import time
from pathlib import Path

import pytest

from behavegpt.study import progress
from behavegpt.study.config import of_widths
from behavegpt.study.grid import Cost, Plan, plan_study
from behavegpt.study.progress import show_progress
from behavegpt.train.metrics import write_note

TOTAL = 4_470
"""Events of the trunk with branches at 2,000 and 4,000, worked out in test_grid.py."""


@pytest.fixture
def job(make_config, manifest, tiny, tmp_path):
    [job] = plan_study(make_config(sizes=of_widths(12)), manifest, tiny, tmp_path / "study").jobs
    job.curve_path.parent.mkdir(parents=True)
    return job


@pytest.fixture
def follow(job, monkeypatch):
    """Return a follower of the trunk that prints at every line."""
    monkeypatch.setattr(progress, "LINE_EVERY_S", -1.0)
    return progress._Follower(job, TOTAL)


def step(begin: int, end: int, phase: str = "trunk", cell: int | None = None, rate: float = 100.0) -> str:
    line = {"phase": phase, "cell_events": cell, "step": end // 90, "from_events": begin, "num_events": end}
    return (
        json.dumps(line | {"loss": 3.25, "lr_factor": 1.0, "grad_norm": 1.0, "events_per_s": rate, "time": 0.0}) + "\n"
    )


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def done(printed: str) -> list[int]:
    """Return the events done of each line."""
    return [int(line.split(" / ")[0].split()[-1].replace(",", "")) for line in printed.splitlines()]


def test_a_line_says_trunk_phase_events_rate_loss_and_the_time_left(job, follow, capsys):
    append(job.curve_path, step(0, 1_530, rate=1_234.4))
    follow.poll()
    # 2,940 events are left: 2.4 s at 1,234.4 a second.
    line = f"  {job.trunk_id}  trunk         1,530 / 4,470 events      1,234 ev/s  loss 3.2500  ETA 0:02\n"
    assert capsys.readouterr().out == line


@pytest.mark.parametrize(
    ("left", "eta"), [(0, "0:00"), (29, "0:29"), (45, "0:45"), (90, "1:30"), (119, "1:59"), (3_599, "59:59")]
)
def test_the_time_left_is_minutes_and_seconds(job, follow, capsys, left, eta):
    follow.total = 1_000 + round(left * 10)
    append(job.curve_path, step(0, 1_000, rate=10.0))
    follow.poll()
    assert capsys.readouterr().out.split()[-1] == eta


@pytest.mark.parametrize(("left", "eta"), [(597, "0:59"), (1_197, "1:59"), (1_200, "2:00"), (9, "0:00")])
def test_the_time_left_is_floored_and_no_minute_has_sixty_seconds(job, follow, capsys, left, eta):
    # At 10 events a second: 59.7, 119.7, 120 and 0.9 s.
    follow.total = 1_000 + left
    append(job.curve_path, step(0, 1_000, rate=10.0))
    follow.poll()
    assert capsys.readouterr().out.split()[-1] == eta


def test_no_time_is_left_where_more_was_done_than_planned(job, follow, capsys):
    follow.total = 900
    append(job.curve_path, step(0, 1_000, rate=10.0))
    follow.poll()
    assert capsys.readouterr().out.split()[-1] == "0:00"


def test_trunk_and_branches_add_up_to_the_plan(job, follow, capsys):
    append(job.curve_path, step(0, 900) + step(900, 1_530))
    append(job.curve_path, step(1_530, 1_980, "branch", 2_000) + step(1_980, 2_000, "branch", 2_000))
    append(job.curve_path, step(1_530, 3_150) + step(3_150, 4_000, "branch", 4_000))
    follow.poll()
    assert done(capsys.readouterr().out) == [900, 1_530, 1_980, 2_000, 3_620, 4_470]


def test_cells_and_notes_are_printed_at_once(job, follow, capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY_S", 1e9)
    cell = {"phase": "cell", "cell_events": 2_000, "status": "completed", "loss": 2.98766, "time": 0.0}
    append(job.curve_path, step(0, 90) + json.dumps(cell) + "\n")
    append(job.curve_path, json.dumps(cell | {"cell_events": 4_000, "status": "diverged", "loss": None}) + "\n")
    append(job.curve_path, json.dumps({"phase": "note", "text": "step-7: torn; not used", "time": 0.0}) + "\n")
    follow.poll()
    assert capsys.readouterr().out.splitlines() == [
        f"  {job.trunk_id}  D       2,000  completed  loss 2.9877",
        f"  {job.trunk_id}  D       4,000  diverged  loss -",
        f"  {job.trunk_id}  step-7: torn; not used",
    ]


def test_at_most_one_line_in_a_while(job, capsys):
    follower = progress._Follower(job, TOTAL)
    append(job.curve_path, step(0, 90) + step(90, 180) + step(180, 270))
    follower.poll()
    assert done(capsys.readouterr().out) == [90]
    follower.last_print = time.monotonic() - progress.LINE_EVERY_S - 1
    append(job.curve_path, step(270, 360))
    follower.poll()
    assert done(capsys.readouterr().out) == [360]


def test_half_a_line_waits_for_its_other_half(job, follow, capsys):
    line = step(0, 90)
    for piece in (line[:40], line[40:-1]):
        append(job.curve_path, piece)
        follow.poll()
        assert capsys.readouterr().out == ""
    append(job.curve_path, "\n" + step(90, 180)[:-5])
    follow.poll()
    assert done(capsys.readouterr().out) == [90]


def test_half_a_line_of_a_killed_worker_does_not_end_the_progress(job, follow, capsys):
    append(job.curve_path, step(0, 90) + step(90, 180)[:40])
    follow.poll()
    append(job.curve_path, step(90, 180) + step(180, 270))
    follow.poll()
    # The line that follows on the torn one may be lost with it.
    first, *_, last = done(capsys.readouterr().out)
    assert first == 90
    assert last in (180, 270)


def test_the_next_worker_ends_the_torn_line_so_that_nothing_is_lost(job, follow, capsys):
    append(job.curve_path, step(0, 90) + step(90, 180)[:40])
    follow.poll()
    write_note(job.curve_path, "back again")
    append(job.curve_path, step(90, 180) + step(180, 270))
    follow.poll()
    first, note, *rest = capsys.readouterr().out.splitlines()
    assert note == f"  {job.trunk_id}  back again"
    assert done("\n".join([first, *rest])) == [90, 180, 270]


def test_a_line_that_comes_twice_counts_once(job, follow, capsys):
    append(job.curve_path, step(0, 90) + step(90, 180) + step(90, 180) + step(0, 90) + step(180, 270))
    follow.poll()
    assert done(capsys.readouterr().out) == [90, 180, 180, 180, 270]


def test_nothing_is_printed_twice_nor_from_before_the_sweep(job, monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_EVERY_S", -1.0)
    append(job.curve_path, step(0, 900))
    follower = progress._Follower(job, TOTAL)
    follower.poll()
    append(job.curve_path, step(900, 990))
    follower.poll()
    follower.poll()
    assert done(capsys.readouterr().out) == [90]


def test_a_curve_that_does_not_exist_yet_is_waited_for(job, follow, capsys):
    follow.poll()
    append(job.curve_path, step(0, 90))
    follow.poll()
    assert done(capsys.readouterr().out) == [90]


def test_a_resumed_trunk_repeats_lines_and_its_events_count_once(job, follow, capsys):
    append(job.curve_path, step(0, 500) + step(500, 1_000) + step(1_000, 1_500))
    # The worker died; its successor starts from the checkpoint at 500 events.
    append(job.curve_path, step(500, 1_000) + step(1_000, 1_500) + step(1_500, 1_530))
    follow.poll()
    assert done(capsys.readouterr().out) == [500, 1_000, 1_500, 1_500, 1_500, 1_530]


def test_a_worker_that_died_in_a_branch_repeats_it_and_its_events_count_once(job, follow, capsys):
    append(job.curve_path, step(0, 1_530) + step(1_530, 1_900, "branch", 2_000))
    append(job.curve_path, step(1_400, 1_530) + step(1_530, 2_000, "branch", 2_000))
    follow.poll()
    assert done(capsys.readouterr().out) == [1_530, 1_900, 1_900, 2_000]


def test_the_sweeps_watcher_prints_while_it_runs_and_the_rest_at_the_end(job, monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_EVERY_S", -1.0)
    monkeypatch.setattr(progress, "POLL_S", 0.01)
    plan = Plan((job,), (Cost(events=TOTAL, windows=51, steps=51),))
    with show_progress(plan):
        append(job.curve_path, step(0, 90))
        deadline, seen = time.monotonic() + 10, ""
        while not seen and time.monotonic() < deadline:
            time.sleep(0.005)
            seen = capsys.readouterr().out
        assert done(seen) == [90]
        monkeypatch.setattr(progress, "POLL_S", 1e9)
        time.sleep(0.05)
    with show_progress(plan):
        append(job.curve_path, step(90, 180))
    rest = capsys.readouterr().out
    assert done(rest) == [90]
    assert " / 4,470 events" in rest


def test_silence_is_reported(job, monkeypatch, capsys):
    monkeypatch.setattr(progress, "POLL_S", 0.01)
    monkeypatch.setattr(progress, "SILENCE_S", 0.2)
    plan = Plan((job,), (Cost(events=TOTAL, windows=51, steps=51),))
    with show_progress(plan):
        time.sleep(0.1)
        append(job.curve_path, step(0, 90))
        time.sleep(0.05)
        assert "no trunk has moved" not in capsys.readouterr().out
        time.sleep(0.5)
    assert "no trunk has moved" in capsys.readouterr().out
