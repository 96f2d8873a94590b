"""Hostile logs: every row ends in exactly one count, or the log is refused with file, row and column."""

import csv
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from behavegpt.data.ingest.drops import HELD_OUT, REASONS
from behavegpt.data.ingest.executor import local_executor
from behavegpt.data.ingest.ingest import ingest
from behavegpt.data.ingest.options import IngestOptions
from behavegpt.data.manifest import Manifest
from behavegpt.data.sources.spec import Columns, LogSpec
from behavegpt.data.verify import verify_dataset
from behavegpt.errors import InputError

COLUMNS = Columns(user="user", timestamp="time", event="event", behavior="kind", location="place")
ENDS = ("malformed_rows", *REASONS, HELD_OUT, "duplicates", "users_with_one_event", "events_kept")
Row = tuple[str, str, str, str, str]

USERS = st.sampled_from(
    ["", " ", "\t", "a", "a ", "A", "good 0", "🙂", "שלום", "1000000000000", "007", "7", "x" * 1025, "é", "e\u0301"]
)
TIMES = st.sampled_from(
    [
        "",
        " ",
        "noon",
        "0000-00-00T00:00:00",
        "1970-01-01T00:00:00Z",
        "2012-06-11T18:06:00Z",
        "2012-06-11T14:06:00",  # the same instant in New York
        "2012-06-11T18:06:00.123456789+00:00",
        "2012-11-04T01:30:00",  # the clock shows this twice
        "2012-03-11T02:30:00",  # and this never
        "2012-02-30T00:00:00Z",
        "2106-02-07T06:28:16Z",  # 2 ** 32 seconds
        "9999-12-31T23:59:59Z",
    ]
)
IDS = st.sampled_from(
    ["", " ", "e0", "🙂🙂", "مرحبا", "1000000000000", "a,b", 'say "x"', "line\nbreak", "y" * 1025, "Gone"]
)
ROWS = st.lists(st.tuples(USERS, TIMES, IDS, IDS, IDS), max_size=12)
GOOD: list[Row] = [
    (f"good {i % 2}", f"2012-06-{10 + i // 24:02d}T{i % 24:02d}:00:00Z", f"e{i % 5}", "K", "p") for i in range(240)
]
GOOD.append(("good 0", "2012-06-10T00:30:00Z", "e0", "Gone", "p"))


def ingest_rows(directory: Path, rows: list[Row], **options: object) -> Manifest:
    with (directory / "log.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("user", "time", "event", "kind", "place"), *rows])
    spec = LogSpec(inputs=(str(directory / "log.csv"),), columns=COLUMNS, timezone="America/New_York", time_unit="iso")
    chosen = IngestOptions(**{"min_users": 1, "hold_out_behaviors": ("Gone",), **options})  # type: ignore[arg-type]
    return ingest(spec, directory / "set", options=chosen, run=local_executor(1))


@settings(deadline=None, max_examples=50)  # the machine may be busy
@given(ROWS, st.sampled_from([1, 2, 13]))
@example([], 1)
def test_every_row_ends_in_exactly_one_count(rows: list[Row], every: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        # Spread over the log, so that order within and between users is arbitrary.
        mixed = GOOD[::-every] + rows + [row for row in GOOD if row not in GOOD[::-every]]
        counts = ingest_rows(Path(name), mixed, max_dropped=1.0).counts
        assert counts["rows_read"] == len(mixed)
        assert sum(counts[end] for end in ENDS) == len(mixed)
        assert counts["events_kept"] == sum(counts[f"events_{split}"] for split in ("train", "val", "test"))
        verify_dataset(Path(name) / "set")


@settings(deadline=None, max_examples=30)  # the machine may be busy
@given(ROWS.filter(lambda rows: len(rows) >= 5))
def test_more_than_the_stated_share_is_refused_with_file_row_and_column(rows: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as name:
        try:
            counts = ingest_rows(Path(name), GOOD + rows, max_dropped=0.0).counts
        except InputError as error:
            first, *reasons = error.problems
            assert first.startswith("--max-dropped 0:")
            for reason in reasons:
                assert reason.startswith(f"{name}/log.csv: column '")
                assert ", row 2" in reason  # 243 and on
            assert not any(text in problem for problem in error.problems for text in ("🙂", "שלום", "noon", "xxx"))
            assert {path.name for path in Path(name).iterdir()} - {"user.key"} == {"log.csv"}
        else:
            assert sum(counts[reason] for reason in REASONS) == 0


def test_logs_with_nothing_in_them_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    empty: list[list[Row]] = [
        [],
        GOOD[:1],
        [("", "", "", "", "")] * 3,
        [("a", "2012-06-11T18:06:00Z", "e", "K", "p")] * 9,
    ]
    for rows in empty:
        try:
            ingest_rows(tmp_path, rows, hold_out_behaviors=(), max_dropped=1.0)
        except InputError as error:
            assert str(error)
        else:
            raise AssertionError(rows)
        assert {path.name for path in tmp_path.iterdir()} - {"user.key"} == {"log.csv"}
