"""Cleaning: what is dropped and why, what stays, and that the order of the rows leaves no trace."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from behavegpt.data.clean import MISSING, Events, clean, encode_ids
from behavegpt.data.logs import Columns, Log
from behavegpt.data.times import read_times
from behavegpt.errors import InputError

COLUMNS = Columns(user="user", timestamp="time", event="event", behavior="kind", location="place")
DAY = 86_400
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
    ("c", 1000 * DAY, " ", "K", "p"),
    ("c", 1000 * DAY, "x", "K", "p"),  # the only one left of c
]
COUNTS = {
    "rows_read": 10,
    "missing_user": 1,
    "missing_time": 1,
    "missing_event": 1,
    "duplicates": 1,
    "users_with_one_event": 1,
    "events_kept": 5,
    "users": 2,
    "missing_behavior": 1,
}


def run(rows: list, columns: Columns = COLUMNS, seed: int = 0) -> tuple[Events, dict[str, pa.Array], dict[str, int]]:
    names = ("user", "time", "event", "kind", "place")
    table = pa.table({name: pa.array(cells) for name, cells in zip(names, zip(*rows, strict=True), strict=True)})
    log = Log(path=Path("log.csv"), table=table, first_row=2)
    return clean(log, columns, read_times(log, "time", unit="s", timezone="UTC"), seed)


def readable(events: Events, values: dict[str, pa.Array]) -> dict[int, list[tuple]]:
    """Return user -> its events in order, in words."""

    def word(column: str, row: int) -> str | None:
        code = getattr(events, column)[row]
        return None if code == MISSING else values[column][code].as_py()

    histories: dict[int, list[tuple]] = {}
    for row in range(len(events)):
        words = [word(column, row) for column in ("event", "behavior", "location")]
        histories.setdefault(int(events.user[row]), []).append((int(events.seconds[row]) - 1000 * DAY, *words))
    return histories


def test_rows_are_dropped_for_one_reason_each_and_the_rest_is_in_order() -> None:
    events, values, counts = run(ROWS)
    assert counts == COUNTS
    assert sorted(readable(events, values).values()) == [
        [(0, "x", "K", "p"), (0, "y", "K", "p"), (0, "y", "K", "q")],
        [(1, "z", "K", None), (2, "x", None, "p")],
    ]
    assert events.user.tolist() == sorted(events.user.tolist())


def test_order_of_the_rows_leaves_no_trace() -> None:
    expected = readable(*run(ROWS)[:2])
    for seed in range(5):
        shuffled = [ROWS[i] for i in np.random.default_rng(seed).permutation(len(ROWS))]
        events, values, counts = run(shuffled)
        assert readable(events, values) == expected
        assert counts == COUNTS


def test_duplicates_are_told_apart_below_a_second() -> None:
    rows = [("a", 1000 * DAY + 0.25, "x", "K", "p"), ("a", 1000 * DAY + 0.75, "x", "K", "p"), *ROWS]
    events, values, counts = run(rows)
    assert counts["duplicates"] == 1
    assert [(0, "x", "K", "p"), (0, "x", "K", "p")] in [history[:2] for history in readable(events, values).values()]


def test_without_its_column_the_behaviour_is_the_event_and_the_place_is_missing() -> None:
    events, _, counts = run(ROWS, Columns(user="user", timestamp="time", event="event"))
    assert events.behavior.tolist() == events.event.tolist()
    assert set(events.location.tolist()) == {MISSING}
    assert counts["missing_behavior"] == 0
    assert counts["duplicates"] == 2  # the rows that differ in place alone are equal in the mapped columns


def test_users_are_numbered_by_the_seed_and_not_in_the_order_of_their_ids() -> None:
    rows = [(f"u{user:03d}", 1000 * DAY + user, "x", "K", "p") for user in range(100)]
    rows += [(user, seconds + 500, *rest) for user, seconds, *rest in rows]
    number_of = {}
    for seed in (0, 0, 1):
        events, _, _ = run(rows, seed=seed)
        # Each user's first event is at its own second, which says who it is.
        number_of.setdefault(seed, []).append(events.user[np.argsort(events.seconds, kind="stable")[:100]].tolist())
    assert number_of[0][0] == number_of[0][1]
    assert number_of[0][0] != number_of[1][0]
    assert sorted(number_of[0][0]) == list(range(100))
    assert number_of[0][0] != list(range(100))


def test_ids_stay_exactly_as_they_are_and_codes_order_like_values() -> None:
    ids = encode_ids(pa.chunked_array([["b", " b", "", None], ["007", "7", "🙂", "\t"]]))
    words = [None if code == MISSING else ids.values[code].as_py() for code in ids.codes]
    assert words == ["b", " b", None, None, "007", "7", "🙂", None]
    assert ids.values.to_pylist() == sorted(ids.values.to_pylist(), key=str.encode)


def test_fewer_than_two_users_with_two_events_is_refused_with_what_was_dropped() -> None:
    rows = [("a", 1000 * DAY, "x", "K", "p"), ("b", 1000 * DAY, "x", "K", "p")]
    with pytest.raises(InputError, match="two events or more number 0; at least 2 are needed") as error:
        run(rows)
    assert "2 users with one event" in str(error.value)
    with pytest.raises(InputError, match="two events or more number 1;"):
        run([*rows, ("a", 1000 * DAY, "y", "K", "p")])
