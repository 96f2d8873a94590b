"""Values: one order for all blocks, vocabularies from training rows, rare values folded."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from behavegpt.data.ingest.batches import write_texts
from behavegpt.data.ingest.options import default_min_users
from behavegpt.data.ingest.values import (
    ValueCounts,
    count_others,
    count_values,
    learn_vocabulary,
    merge_values,
    name_others,
    read_codes,
)
from behavegpt.data.vocab import Vocabulary, folded_events


def test_blocks_get_one_order_by_bytes_and_codes_for_it(tmp_path: Path) -> None:
    blocks = {"0": ["b", "🙂", "a"], "1": [], "2": ["Z", "b", "é", " b"]}
    for name, texts in blocks.items():
        write_texts(tmp_path / f"{name}.event", pa.array(texts, pa.string()))
    merged = merge_values(tmp_path, list(blocks), "event").to_pylist()
    assert merged == [" b", "Z", "a", "b", "é", "🙂"]
    for name, texts in blocks.items():
        codes = read_codes(tmp_path, name, "event")
        assert [merged[code] for code in codes[:-1]] == texts
        assert codes[-1] == -1


def test_more_blocks_than_are_merged_at_once_get_one_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for block in range(70):
        texts = pa.array([f"value {i}" for i in rng.choice(500, 20, replace=False)])
        seen |= set(texts.to_pylist())
        write_texts(tmp_path / f"{block}.event", texts)
    merged = merge_values(tmp_path, [str(block) for block in range(70)], "event").to_pylist()
    assert merged == sorted(seen, key=str.encode)


#       user, split, code of value a b c d
EVENTS = [(0, 0, 0), (0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 0, 1), (1, 1, 2), (2, 0, 3), (2, 0, 3), (2, 0, 3), (2, 2, -1)]


def counts() -> ValueCounts:
    user, split, code = (np.array(column) for column in zip(*EVENTS, strict=True))
    return count_values(code.astype(np.int32), 4, split.astype(np.uint8), user)


def test_events_of_each_split_and_distinct_training_users_are_counted() -> None:
    found = counts()
    assert found.events.tolist() == [[3, 2, 0, 3], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert found.training_users.tolist() == [2, 2, 0, 1]
    twice = found + found
    assert (twice.events[0].tolist(), twice.training_users.tolist()) == ([6, 4, 0, 6], [4, 4, 0, 2])


def test_ids_follow_training_frequency_and_ties_the_text() -> None:
    vocabulary, ids = learn_vocabulary(pa.array(["a", "b", "c", "d"]), counts(), min_users=1)
    assert (vocabulary.values, vocabulary.counts) == (("a", "d", "b"), (3, 3, 2))
    assert ids.tolist() == [2, 4, 1, 3, 0]  # c is unseen in training; the last stands for a missing value
    assert count_others("event", counts(), ids) == {
        "other_event_train": 0,
        "other_event_val": 1,
        "other_event_test": 0,
        "rare_event_values": 0,
        "rare_event_events": 0,
    }


def test_values_of_too_few_users_become_other_however_frequent() -> None:
    vocabulary, ids = learn_vocabulary(pa.array(["a", "b", "c", "d"]), counts(), min_users=2)
    assert vocabulary.values == ("a", "b")
    assert ids.tolist() == [2, 3, 1, 1, 0]
    found = count_others("event", counts(), ids)
    assert (found["other_event_train"], found["other_event_val"]) == (3, 1)
    assert (found["rare_event_values"], found["rare_event_events"]) == (1, 3)


def test_a_folded_event_is_other_of_its_behaviour_where_enough_users_fold() -> None:
    # Of behaviours f, g, h two, one and no users have folded events in training; e is an event of that very name.
    folded = ValueCounts(events=np.array([[5, 9, 0], [1, 1, 1], [0, 0, 0]]), training_users=np.array([2, 1, 0]))
    events = Vocabulary(("e", "other: f"), (30, 20))
    vocabulary, ids = name_others(events, pa.array(["f", "g", "h"]), folded, min_users=2)
    assert vocabulary == Vocabulary(("e", "other: f", "other: other: f"), (30, 20, 5))
    assert ids.tolist() == [4, 1, 1, 1]  # the last: without a behaviour
    assert name_others(events, pa.array(["f", "g", "h"]), folded, min_users=1)[1].tolist() == [5, 4, 1, 1]
    nothing = name_others(events, pa.array(["f", "g", "h"]), folded, min_users=3)
    assert (nothing[0], nothing[1].tolist()) == (events, [1, 1, 1, 1])


def test_ids_are_as_narrow_as_the_vocabulary_allows() -> None:
    texts = pa.array([f"{i:04d}" for i in range(300)])
    codes = np.arange(300, dtype=np.int32)
    zeros = np.zeros(300, np.uint8)
    assert learn_vocabulary(texts, count_values(codes, 300, zeros, codes), 1)[1].dtype == np.uint16
    few = count_values(codes[:254], 300, zeros[:254], codes[:254])
    assert learn_vocabulary(texts, few, 1)[1].dtype == np.uint8  # ids 0 .. 255


@pytest.mark.parametrize(
    ("num_users", "expected"), [(0, 1), (3, 1), (199, 1), (200, 2), (1083, 10), (2000, 20), (10**9, 20)]
)
def test_small_logs_need_one_percent_of_their_users_and_others_twenty(num_users: int, expected: int) -> None:
    assert default_min_users(num_users) == expected


def test_the_events_that_stand_for_folded_ones_are_found_by_their_names():
    # "other: bar" is an event of the log itself, so that of bar's folded events has the longer name.
    events = ("tap", "other: bar", "swipe", "other: cafe", "other: other: bar")
    assert folded_events(events, {"cafe", "bar", "club"}) == {"cafe": 5, "bar": 6}
    assert folded_events(events[:3], {"bar"}) == {}
    assert folded_events((), {"bar"}) == {}
