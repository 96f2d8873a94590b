"""Statistics of shards: every event counts once, compared with loops over the histories that were cut."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from behavegpt.data.card import statistics as under_test
from behavegpt.data.card.statistics import GAP_EDGES, read_statistics
from behavegpt.data.manifest import Manifest
from behavegpt.data.shards import write_dataset
from behavegpt.data.vocab import Vocabulary
from behavegpt.data.windows import Windows
from behavegpt.errors import InputError
from behavegpt.schema import SPLITS, WINDOW_LENGTH

MONDAY = 1_767_571_200
"""2026-01-05 00:00 UTC."""
DAY = 86_400
CUTOFFS = (MONDAY + 20 * DAY, MONDAY + 30 * DAY)
NUM_BEHAVIORS = 5


class Event(NamedTuple):
    """One event of a history, as ids."""

    time: int
    behavior: int
    event: int

    @property
    def weekday(self) -> int:
        return (self.time - MONDAY) // DAY % 7 + 1

    @property
    def slot(self) -> int:
        return self.time % DAY // 1800 + 1

    @property
    def split(self) -> str:
        return SPLITS[sum(self.time >= cutoff for cutoff in CUTOFFS)]


History = list[Event]


def make_histories(seed: int) -> dict[int, History]:
    rng = np.random.default_rng(seed)
    lengths = [2, 3, 90, 91, 92, 181, 182, 400]
    return {
        user * 10**15: [
            Event(int(time), int(behavior), int(event))
            for time, behavior, event in zip(
                np.sort(MONDAY + rng.integers(40 * DAY, size=length)),
                rng.integers(0, NUM_BEHAVIORS + 2, size=length),
                rng.integers(1, 9, size=length),
                strict=True,
            )
        ]
        for user, length in enumerate(lengths)
    }


def cut(histories: dict[int, History]) -> dict[str, list[tuple[int, int, int, History]]]:
    """Return (user, number, first target, events) of every window of every split that has a target or could have."""
    windows: dict[str, list[tuple[int, int, int, History]]] = {split: [] for split in SPLITS}
    for user, history in histories.items():
        for number, start in enumerate(range(0, len(history) - 1, WINDOW_LENGTH - 1)):
            part = history[start : start + WINDOW_LENGTH]
            for split in SPLITS:
                own = [i for i, event in enumerate(part) if event.split == split and i > 0]
                if own:
                    windows[split].append((user, number, own[0], part[: own[-1] + 1]))
    return windows


def to_windows(rows: list[tuple[int, int, int, History]]) -> Windows:
    def matrix(name: str, dtype: type) -> np.ndarray:
        values = [[getattr(e, name) for e in part] + [0] * (WINDOW_LENGTH - len(part)) for *_, part in rows]
        return np.array(values, dtype).reshape(-1, WINDOW_LENGTH)

    return Windows(
        **{name: matrix(name, np.uint32) for name in ("weekday", "slot", "event", "behavior")},
        location=np.zeros((len(rows), WINDOW_LENGTH), np.uint32),
        timestamp=matrix("time", np.int64),
        length=np.array([len(part) for *_, part in rows], np.uint8),
        first_target=np.array([first for _, _, first, _ in rows], np.uint8),
        user=np.array([user for user, *_ in rows], np.uint64),
        number=np.array([number for _, number, *_ in rows], np.uint32),
    )


def write(out: Path, histories: dict[int, History]) -> Manifest:
    known = Vocabulary(tuple(f"b{i}" for i in range(NUM_BEHAVIORS)), (1,) * NUM_BEHAVIORS)
    events = Vocabulary(tuple(f"e{i}" for i in range(8)), (1,) * 8)
    return write_dataset(
        out,
        {split: to_windows(rows) for split, rows in cut(histories).items()},
        {"location": Vocabulary((), ()), "event": events, "behavior": known},
        name="toy",
        source={},
        counts={},
        cutoffs={"val": "2026-01-25T00:00:00Z", "test": "2026-02-04T00:00:00Z"},
        seed=1,
    )


def owned(history: History) -> list[Event]:
    """Return the events that a window owns: all, but for a first event that is alone in its split's first window."""
    return history if history[0].split == history[1].split else history[1:]


@pytest.mark.parametrize("seed", range(3))
def test_every_event_counts_once(tmp_path: Path, seed: int) -> None:
    histories = make_histories(seed)
    found = read_statistics(tmp_path / "toy", write(tmp_path / "toy", histories))
    events = [event for history in histories.values() for event in owned(history)]
    assert found.num_events == Counter(event.split for event in events)
    rhythm = Counter((event.weekday - 1, event.slot - 1) for event in events)
    assert {at: n for at, n in np.ndenumerate(found.rhythm) if n} == rhythm
    for split in SPLITS:
        days = Counter((event.time // DAY) for event in events if event.split == split)
        assert {found.first_day + i: n for i, n in enumerate(found.days[split]) if n} == days
    assert found.first_day == min(event.time for event in events) // DAY
    assert found.events_per_user.tolist() == sorted(len(owned(history)) for history in histories.values())
    assert (found.user_share, found.num_users) == (1, len(histories))


@pytest.mark.parametrize("seed", range(3))
def test_targets_gaps_and_lengths(tmp_path: Path, seed: int) -> None:
    histories = make_histories(seed)
    found = read_statistics(tmp_path / "toy", write(tmp_path / "toy", histories))
    for split, rows in cut(histories).items():
        later = [event for history in histories.values() for event in history[1:] if event.split == split]
        targets = Counter(event.behavior for event in later if event.behavior)
        assert {i: n for i, n in enumerate(found.targets[split]) if n} == targets
        assert {i: n for i, n in enumerate(found.lengths[split]) if n} == Counter(len(part) for *_, part in rows)
    gaps = [b.time - a.time for history in histories.values() for a, b in pairwise(history)]
    bins = Counter(sum(gap >= edge for edge in GAP_EDGES) for gap in gaps)
    assert {i: n for i, n in enumerate(found.gaps) if n} == bins


def test_pairs_hold_what_a_model_sees_of_the_event_before(tmp_path: Path) -> None:
    histories = make_histories(7)
    found = read_statistics(tmp_path / "toy", write(tmp_path / "toy", histories))
    for split, rows in cut(histories).items():
        expected: dict[str, Counter] = {"behavior": Counter(), "event": Counter(), "slot": Counter()}
        for *_, first, part in rows:
            for i in range(first, len(part)):
                if not part[i].behavior:
                    continue
                known = [event.behavior for event in part[:i] if event.behavior]
                expected["behavior"][known[-1] if known else 0, part[i].behavior] += 1
                expected["event"][part[i - 1].event, part[i].behavior] += 1
                expected["slot"][part[i - 1].slot, part[i].behavior] += 1
        for context, counts in expected.items():
            pairs = found.pairs[split][context]
            got = zip(pairs.context.tolist(), pairs.target.tolist(), pairs.count.tolist(), strict=True)
            assert {(c, b): n for c, b, n in got} == counts


def test_bounded_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond their bounds, pairs come from the front of the stream and users from a random share of them."""
    histories = {i: [Event(MONDAY + 60 * t, 2, 1) for t in range(3)] for i in range(1, 2001)}
    histories[3001] = [Event(CUTOFFS[0] + 1, 2, 1), Event(CUTOFFS[0] + 2, 2, 1)]
    manifest = write(tmp_path / "toy", histories)
    monkeypatch.setattr(under_test, "MAX_USERS", 500)
    monkeypatch.setattr(under_test, "MAX_PAIR_TARGETS", 1)
    monkeypatch.setattr("behavegpt.data.card.chunks.ROW_GROUPS_PER_CHUNK", 1)
    found = read_statistics(tmp_path / "toy", manifest)
    assert found.pairs["train"]["behavior"].count.sum() == 500, (
        "two targets in each of the first row group's 250 windows"
    )
    assert found.num_events == {"train": 6000, "val": 2, "test": 0}
    assert found.user_share == 500 / 2001
    assert 430 < len(found.events_per_user) < 570, "3.5 standard deviations of a binomial"
    assert 1700 < found.num_users < 2300


def test_damaged_shard_is_named(tmp_path: Path) -> None:
    manifest = write(tmp_path / "toy", make_histories(0))
    path = tmp_path / "toy" / manifest.splits["val"].shards[0].path
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"toy/val/part-00000\.parquet"):
        read_statistics(tmp_path / "toy", manifest)
