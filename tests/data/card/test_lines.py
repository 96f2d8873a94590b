"""The card: what the manifest says, in lines for the terminal."""

import pytest

from behavegpt.data.card import card_lines
from behavegpt.data.manifest import Floor, Manifest, Shard, Split
from behavegpt.data.vocab import Vocabulary

SIZES = {"weekday": 8, "slot": 49, "location": 2, "event": 1236, "behavior": 12}


def make_split(num_windows: int, num_targets: int, num_users: int) -> Split:
    shard = Shard(path="x", num_windows=num_windows, num_targets=num_targets, num_bytes=1, sha256="ab" * 32, crc32="")
    return Split(num_windows=num_windows, num_targets=num_targets, num_users=num_users, shards=(shard,))


SPLITS = {"train": make_split(1640, 65148, 1046), "val": make_split(10, 140, 9), "test": make_split(11, 150, 8)}


def make_log_manifest(**counts: int) -> Manifest:
    return Manifest(
        name="toy",
        vocabulary_sizes=SIZES,
        splits=SPLITS,
        source={
            "kind": "log",
            "files": [{"name": f"{i}.csv", "bytes": 1000 * i} for i in range(9)],
            "columns": {"user": "uid", "timestamp": "ts"},
            "timezone": "Asia/Tokyo",
            "time_unit": "iso",
            "min_users": 20,
            "split": [0.7, 0.15, 0.15],
            "first_event": "2012-04-03T18:01:00Z",
            "last_event": "2013-02-16T02:35:00Z",
        },
        counts={
            "rows_read": 147_938,
            "missing_user": 1,
            "missing_time": 20,
            "missing_event": 300,
            "duplicates": 4000,
            "users_with_one_event": 5,
            "events_kept": 143_612,
            "users": 1083,
            "missing_behavior": 50_000,
            "events_val": 200,
            "events_test": 1000,
            "other_event_val": 13,
            "other_event_test": 1000,
            **counts,
        },
        cutoffs={"val": "2012-10-08T11:41:00Z", "test": "2012-12-10T14:27:00Z"},
    ).with_fingerprint()


def test_card_of_a_log() -> None:
    manifest = make_log_manifest(windows_without_behavior_val=3)
    lines = card_lines(manifest, Vocabulary(("Food", "Night\nlife", "Event"), (700, 292, 8)))
    assert lines == [
        "dataset toy",
        "  files               name 0.csv bytes 0, name 1.csv bytes 1000, name 2.csv bytes 2000, "
        "name 3.csv bytes 3000, name 4.csv bytes 4000, name 5.csv bytes 5000, and 3 more",
        "  columns             user uid, timestamp ts",
        "  time unit           iso",
        "  timezone            Asia/Tokyo",
        "  min users           20",
        "  split               0.7, 0.15, 0.15",
        "  first event         2012-04-03T18:01:00Z",
        "  last event          2013-02-16T02:35:00Z",
        "  rows read           147,938",
        "  events kept         143,612 of 1,083 users",
        "    no behaviour      50,000 (35 %) stay in the history, never scored",
        "  rows dropped        4,326",
        "                              1 without a user",
        "                             20 without a time",
        "                            300 without an event",
        "                          4,000 duplicates (equal in every mapped column)",
        "                              5 only event of its user: nothing to predict",
        "  splits",
        "    train                65,148 targets     1,640 windows     1,046 users",
        "    val                     140 targets        10 windows         9 users  from 2012-10-08T11:41:00Z",
        "                              3 windows left out: no behaviour to predict",
        "    test                    150 targets        11 windows         8 users  from 2012-12-10T14:27:00Z",
        "  values              in training; unseen ones, and those of fewer than 20 training users (--min-users), "
        "are id 1, 'other'",
        "    location                  0 values",
        "    event                 1,234 values; val 13 other (6.5 %); test 1,000 other (100 %)",
        "    behavior                 10 values",
        "    behaviour shares  from Food 70 % to Event 0.8 % of the training events that have one",
        f"  fingerprint         {manifest.fingerprint[:16]}",
    ]


def test_card_tells_of_local_times_only_where_there_are_some() -> None:
    assert "offset" not in "\n".join(card_lines(make_log_manifest(times_without_offset=0)))
    manifest = make_log_manifest(times_without_offset=1234, times_shown_twice=5, times_never_shown=6)
    said = "\n".join(card_lines(manifest))
    assert "1,234 times had no UTC offset and were read as local" in said
    assert "5 in an hour that the clock repeated: read as the first" in said
    assert "6 in an hour that the clock skipped: is the time zone right?" in said


def test_rows_that_needed_a_decision_are_noted() -> None:
    quiet = {"unusable_offsets": 0, "blank_lines": 0}
    assert not any(line.startswith("  notes") for line in card_lines(make_log_manifest(**quiet)))
    names = ("unusable_offsets", "weekday_contradictions", "events_without_entry", "invalid_coordinates", "blank_lines")
    lines = card_lines(make_log_manifest(**{name: 1000 + i for i, name in enumerate(names)}))
    first = next(i for i, line in enumerate(lines) if line.startswith("  notes"))
    assert [line[2:].removeprefix("notes").split()[0] for line in lines[first : first + 5]] == [
        "1,000", "1,001", "1,002", "1,003", "1,004",
    ]  # fmt: skip


def test_folded_events_that_keep_their_behaviour_are_no_values_of_their_own() -> None:
    events = SIZES["event"] - 2
    lines = card_lines(make_log_manifest(folded_event_behaviors=2))
    at = next(i for i, line in enumerate(lines) if line.startswith("    event"))
    assert f" {events - 2:,} values" in lines[at]
    assert lines[at + 1].split()[:2] == ["2", "behaviours"]
    assert not any("'other' of their own" in line for line in card_lines(make_log_manifest()))


@pytest.mark.parametrize(("others", "warned"), [(500, False), (501, True)])
def test_events_that_are_mostly_other_are_told_with_the_flag(others: int, warned: bool) -> None:
    lines = card_lines(make_log_manifest(events_train=1000, other_event_train=others, other_location_train=0))
    said = [i for i, line in enumerate(lines) if "more than half" in line]
    assert len(said) == warned
    assert all("--min-users" in lines[i] and lines[i - 1].startswith("    event") for i in said)


def test_card_of_a_generated_dataset_has_its_floor_and_no_input() -> None:
    floor = Floor(entropy_nats=1.23456, sampled_nats=1.2, sampled_stderr=0.1, num_targets=140)
    manifest = Manifest(name="demo", vocabulary_sizes=SIZES, splits=SPLITS, source={}, counts={}, floor=floor)
    said = "\n".join(card_lines(manifest))
    assert "floor        1.2346 nats: no model can do better on val" in said
    assert "dropped" not in said and "input" not in said


def test_value_that_would_break_the_line_is_escaped() -> None:
    said = card_lines(make_log_manifest(), Vocabulary(("a\nb", "x" * 100), (1, 1)))
    assert any("from 'a\\nb' 50 % to 'xxx" in line for line in said)
