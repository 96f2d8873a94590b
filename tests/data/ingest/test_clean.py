"""Reading and cleaning: every row ends in one count, the rest is in order, and the input's order leaves no trace."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from behavegpt.data.ingest.batches import read_part
from behavegpt.data.ingest.executor import local_executor
from behavegpt.data.ingest.job import Job
from behavegpt.data.ingest.options import IngestOptions
from behavegpt.data.ingest.passes import clean_log, merge_log_values, scatter_log
from behavegpt.data.sources.plan import plan_pieces
from behavegpt.data.sources.spec import Columns, LogSpec
from behavegpt.errors import InputError

KEY = bytes(range(32))
COLUMNS = Columns(user="user", timestamp="time", event="event", behavior="kind", location="place")
DAY = 86_400
Event = tuple[object, ...]
"""Seconds, and the texts of each column."""
ROWS = [
    # user, time, event, kind, place
    ("b", 1000 * DAY, "y", "K", "p"),
    ("a", 1000 * DAY + 2, "x", "", "p"),  # no behaviour: stays
    ("a", 1000 * DAY + 1, "z", "K", ""),  # no place: stays
    ("b", 1000 * DAY, "x", "K", "p"),  # the same instant as the first row: ordered by event
    ("b", 1000 * DAY, "y", "K", "p"),  # a duplicate
    ("b", 1000 * DAY, "y", "K", "q"),  # differs in place: no duplicate
    ("", 1000 * DAY, "", "K", "p"),  # no user, and no event: counts once
    ("c", None, "x", "K", "p"),
    ("c", "noon", "x", "K", "p"),
    ("c", 10, "x", "K", "p"),  # 1970
    ("c", 1000 * DAY, " ", "K", "p"),
    ("c", 1000 * DAY, "x" * 1025, "K", "p"),
    ("c", 1000 * DAY, "x", "K", "p"),  # the only one left of c
    ("d", 1000 * DAY, "x", "Gone", "p"),
]
DROPPED = {
    "rows_read": 14,
    "malformed_rows": 0,
    "missing_user": 1,
    "missing_time": 1,
    "unreadable_time": 1,
    "time_out_of_range": 1,
    "missing_event": 1,
    "id_too_long": 1,
    "held_out_behavior": 1,
    "rows_out_of_order": 1,
}
CLEANED = {
    "duplicates": 1,
    "users_with_one_event": 1,
    "events_kept": 5,
    "users": 2,
    "missing_behavior": 1,
    "gaps_over_30_days": 0,
}


def run(
    directory: Path, *paths: Path, columns: Columns = COLUMNS, **options: object
) -> tuple[dict[int, list[Event]], dict[str, int], dict[str, int]]:
    """Return pseudonym -> its events in order, in words, and the counts of both passes."""
    directory.mkdir()
    chosen = IngestOptions(**{"max_dropped": 1.0, "hold_out_behaviors": ("Gone",), **options})  # type: ignore[arg-type]
    spec = LogSpec(inputs=tuple(map(str, paths)), columns=columns, time_unit="s")
    job = Job(spec=spec, options=chosen, run=local_executor(2), work=directory)
    blocks, num_buckets, dropped = scatter_log(job, plan_pieces(job.spec), KEY)
    texts = {column: [*values.to_pylist(), None] for column, values in merge_log_values(job, blocks).items()}
    cleaned, counts = clean_log(job, blocks, num_buckets)
    assert not job.scattered.exists()
    histories = {}
    for bucket in cleaned:
        rows = read_part(job.cleaned / f"{bucket.index:06d}.rows")
        users = read_part(job.cleaned / f"{bucket.index:06d}.users")
        columns_of = [np.array(texts[c], object)[rows[c]].tolist() for c in texts]
        events = list(zip((rows["seconds"] - 1000 * DAY).tolist(), *columns_of, strict=True))
        ends = np.cumsum(users["num_events"])
        for user, start, end in zip(users["user"].tolist(), ends - users["num_events"], ends, strict=True):
            histories[user] = events[start:end]
    return histories, dropped, counts


def test_rows_are_dropped_for_one_reason_each_and_the_rest_is_in_order(
    write_log: Callable[..., Path], tmp_path: Path, pseudonym: Callable[[str], int]
) -> None:
    histories, dropped, counts = run(tmp_path / "work", write_log(ROWS))
    assert {name: dropped[name] for name in DROPPED} == DROPPED
    assert counts == CLEANED
    assert histories == {
        pseudonym("a"): [(1, "z", "K", None), (2, "x", None, "p")],
        pseudonym("b"): [(0, "x", "K", "p"), (0, "y", "K", "p"), (0, "y", "K", "q")],
    }


@pytest.mark.parametrize("memory_gb", [2.0, 1e-6])
def test_order_of_the_rows_and_number_of_buckets_leave_no_trace(
    write_log: Callable[..., Path], tmp_path: Path, memory_gb: float
) -> None:
    expected, dropped, counts = run(tmp_path / "work", write_log(ROWS))
    for seed in range(3):
        shuffled = [ROWS[i] for i in np.random.default_rng(seed).permutation(len(ROWS))]
        found = run(tmp_path / f"work{seed}", write_log(shuffled), memory_gb=memory_gb)
        assert (found[0], found[2]) == (expected, counts)
        assert found[1] | {"rows_out_of_order": 1} == dropped


def test_small_memory_makes_many_buckets_and_users_stay_whole(write_log: Callable[..., Path], tmp_path: Path) -> None:
    rows = [(f"u{i % 50}", 1000 * DAY + i, f"e{i % 7}", "K", "p") for i in range(1000)]
    rows.append(("d", 1000 * DAY, "x", "Gone", "p"))
    histories, _, _ = run(tmp_path / "work", write_log(rows), memory_gb=2e-5)
    assert len(list((tmp_path / "work" / "cleaned").glob("*.rows"))) > 20
    assert sorted(len(history) for history in histories.values()) == [20] * 50


def test_duplicates_are_told_apart_below_a_second_and_kept_in_order(
    write_log: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [
        ("a", 1000 * DAY + fraction, event, "K", "p") for fraction, event in ((0.75, "a"), (0.25, "b"), (0.25, "b"))
    ]
    rows += [("b", 1000 * DAY, "x", "K", "p"), ("b", 1001 * DAY, "x", "K", "p")]
    histories, _, counts = run(tmp_path / "work", write_log(rows), hold_out_behaviors=())
    assert counts["duplicates"] == 1
    assert [(0, "b", "K", "p"), (0, "a", "K", "p")] in histories.values()


def test_without_its_column_the_behaviour_is_the_event_and_the_place_is_missing(
    write_log: Callable[..., Path], tmp_path: Path
) -> None:
    columns = Columns(user="user", timestamp="time", event="event")
    histories, _, counts = run(tmp_path / "work", write_log(ROWS), columns=columns, hold_out_behaviors=())
    assert sorted(histories.values()) == [[(0, "x"), (0, "y")], [(1, "z"), (2, "x")]]
    assert counts["missing_behavior"] == 0
    assert counts["duplicates"] == 2  # the rows that differ in place alone are equal in the mapped columns


def test_file_without_a_usable_row_changes_nothing(write_log: Callable[..., Path], tmp_path: Path) -> None:
    expected, _, counts = run(tmp_path / "without", write_log(ROWS))
    nothing = write_log([("", 1000 * DAY, "x", "K", "p"), ("", 1000 * DAY, "", "", "")], "nothing.csv")
    found = run(tmp_path / "with", write_log(ROWS), nothing)
    assert (found[0], found[2]) == (expected, counts)
    assert found[1]["missing_user"] == 3


def test_gaps_of_a_month_are_counted_within_users_alone(write_log: Callable[..., Path], tmp_path: Path) -> None:
    days = {"a": (1000, 1030, 1061), "b": (2000, 3000)}  # 30 days are no gap of more than 30
    rows = [(user, day * DAY, "x", "K", "p") for user, at in days.items() for day in at]
    _, dropped, counts = run(tmp_path / "work", write_log(rows), hold_out_behaviors=())
    assert counts["gaps_over_30_days"] == 2
    assert dropped["rows_out_of_order"] == 0


def test_too_many_dropped_rows_are_refused_with_the_first_of_each_reason(
    write_log: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_log(ROWS)
    with pytest.raises(InputError) as error:
        run(tmp_path / "work", path, max_dropped=0.4)
    first, *reasons = error.value.problems
    assert "6 of 14 rows (42.86%)" in first
    assert [reason.removeprefix(f"{path}: ").split(":")[0] for reason in reasons] == [
        "column 'user', row 8",
        "column 'time', row 9",
        "column 'time', row 10",
        "column 'time', row 11",
        "column 'event', row 12",
        "column 'event', row 13",
    ]
    assert not any(word in problem for problem in error.value.problems for word in ("noon", "xxx"))
    assert run(tmp_path / "allowed", path, max_dropped=0.43)[1]["rows_read"] == 14


def test_unknown_behaviour_to_hold_out_is_refused(write_log: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        run(tmp_path / "work", write_log(ROWS), hold_out_behaviors=("gone", "K", "nothing"))
    assert [problem.split(":")[0] for problem in error.value.problems] == [
        "--hold-out-behaviors gone",
        "--hold-out-behaviors nothing",
    ]
    assert "Did you mean 'Gone'?" in error.value.problems[0]


def test_fewer_than_two_users_with_two_events_is_refused_with_what_was_dropped(
    write_log: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [("a", 1000 * DAY, "x", "K", "p"), ("b", 1000 * DAY, "x", "K", "p")]
    with pytest.raises(InputError, match=r"number 0; at least 2 are needed .* 2 users had one event"):
        run(tmp_path / "none", write_log(rows), hold_out_behaviors=())
    with pytest.raises(InputError, match="number 1; at least 2"):
        run(tmp_path / "one", write_log([*rows, ("a", 1000 * DAY, "y", "K", "p")]), hold_out_behaviors=())
