"""Datasets without a behaviour: windows against slices of plain lists, vocabularies and shots against loops."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from behavegpt.data.manifest import Manifest, read_manifest
from behavegpt.data.verify import verify_dataset
from behavegpt.data.vocab import Vocabulary, read_vocabulary
from behavegpt.data.windows import Windows, concatenate
from behavegpt.errors import InputError
from behavegpt.schema import WINDOW_LENGTH
from behavegpt.tasks.adaptation import new_behavior_data
from behavegpt.tasks.adaptation.new_behavior_data import Derivation, derive
from behavegpt.tasks.adaptation.new_behavior_events import cut, unroll
from behavegpt.tasks.adaptation.new_behavior_survey import Shots, Survey, choose_behaviors, read_windows, survey

DAY = 86_400


def window(behaviors: list[int], *, user: int = 7, number: int = 0, first_target: int = 1, start: int = 0) -> Windows:
    """Return one window whose events are numbered from `start`: their type is 10 more, their second 100 times it."""
    size = len(behaviors)
    place = np.arange(start, start + size)
    given = {"event": place + 10, "behavior": np.array(behaviors), "timestamp": 100 * place, "weekday": place % 7 + 1}
    given |= {"slot": place % 48 + 1, "location": place % 5 + 2}
    padded = {name: np.pad(values, (0, WINDOW_LENGTH - size))[None] for name, values in given.items()}
    return Windows(
        **padded,
        length=np.array([size], np.uint8),
        first_target=np.array([first_target], np.uint8),
        user=np.array([user], np.uint64),
        number=np.array([number], np.uint32),
    )


def shown(windows: Windows) -> list[tuple[int, int, list[int], list[int]]]:
    """Return user, number, event types and those of them that are targets, of every window, by user and number."""
    found = []
    for i in np.lexsort((windows.number, windows.user)):
        events, size = windows.event[i].tolist(), int(windows.length[i])
        first = int(windows.first_target[i])
        targets = [e for at, e in enumerate(events) if at >= first and windows.behavior[i, at] > 0]
        assert events[size:] == [0] * (WINDOW_LENGTH - size)
        found.append((int(windows.user[i]), int(windows.number[i]), events[:size], targets))
    return found


def test_windows_are_cut_anew_from_the_events_that_are_left():
    # One user of 211 events: windows of 0..90, 90..180, 180..210. Every fifth event is left out, 90 and 180 among them.
    behaviors = [4 if i % 5 == 0 else 2 for i in range(211)]
    windows = concatenate(
        [window(behaviors[i : i + 91], number=3 + i // 90, start=i) for i in (180, 0, 90)]  # in any order
    )
    events = unroll(windows)
    assert events.columns["event"].tolist() == [i + 10 for i in range(211)]
    left = [i + 10 for i in range(211) if i % 5]
    assert len(left) == 168
    again = cut(events.take(events.columns["behavior"] != 4))
    assert shown(again) == [(7, 3, left[:91], left[1:91]), (7, 4, left[90:], left[91:])]
    for name in ("weekday", "slot", "location", "timestamp"):
        places = np.array(left[:91]) - 10
        expected = {"weekday": places % 7 + 1, "slot": places % 48 + 1, "location": places % 5 + 2}
        assert getattr(again, name)[0].tolist() == (expected | {"timestamp": 100 * places})[name].tolist()


def test_context_stays_context_and_a_gap_stays_a_gap():
    # A window that scores from its 31st event on, the one after it, and one with a window missing in between.
    first = window([2] * 91, first_target=30)
    second = window([2] * 91, number=1, start=90)
    lonely = window([2, 2, 3], number=3, start=500)
    other = window([3] * 10, user=8, start=900)
    events = unroll(concatenate([first, second, lonely, other]))
    assert len(events) == 181 + 3 + 10
    # 20 events of the context go: the first target is now the 11th event of the chain.
    kept = events.take(~np.isin(events.columns["event"], np.arange(10, 30)))
    chain = list(range(30, 191))
    assert shown(cut(kept)) == [
        (7, 0, chain[:91], chain[10:91]),
        (7, 1, chain[90:], chain[91:]),
        (7, 3, [510, 511, 512], [511, 512]),
        (8, 0, list(range(910, 920)), list(range(911, 920))),
    ]


def test_windows_that_only_look_alike_are_not_joined():
    first, second = window([2] * 91), window([2] * 40, number=1, start=90)
    for other in (
        replace(second, timestamp=second.timestamp + 1),
        replace(second, first_target=np.array([9], np.uint8)),
    ):
        assert len(unroll(concatenate([first, other]))) == 131


def test_what_has_no_target_left_is_no_window():
    assert len(cut(unroll(window([2] * 40 + [0] * 20, first_target=40)))) == 0
    events = unroll(window([2, 3, 3, 3]))
    assert len(cut(events.take(events.columns["behavior"] == 2))) == 0


def opened(dataset: Path, **flags: object) -> tuple[Manifest, Survey]:
    manifest = read_manifest(dataset)
    given = {"user_share": None, "days": 14, "seed": 0} | flags
    return manifest, survey(dataset, manifest, **given)  # pyright: ignore[reportArgumentType]


def names_of(dataset: Path, column: str) -> list[str]:
    values = read_vocabulary(dataset / read_manifest(dataset).vocabulary_path(column)).values
    return ["padding", "other", *values]


def rows_of(dataset: Path, split: str) -> list[tuple[int, int, list[str], list[str], list[str]]]:
    """Return user, number, event names, behaviour names and targeted event names of each window."""
    manifest = read_manifest(dataset)
    events, behaviors = names_of(dataset, "event"), names_of(dataset, "behavior")
    found = []
    for windows in read_windows(dataset, manifest, split):
        for i in range(len(windows)):
            size, first = int(windows.length[i]), int(windows.first_target[i])
            types = [events[e] for e in windows.event[i, :size]]
            kinds = [behaviors[b] for b in windows.behavior[i, :size]]
            targets = [t for at, (t, k) in enumerate(zip(types, kinds, strict=True)) if at >= first and k != "padding"]
            found.append((int(windows.user[i]), int(windows.number[i]), types, kinds, targets))
    return sorted(found)


def test_a_held_out_behavior_is_neither_input_nor_target_nor_in_a_vocabulary(ingested: Path, tmp_path: Path):
    """Of user u, event i is e<u>-<i> of kind k<(i i + u) % 5>, none where i % 7 is 3: a type has one kind."""
    manifest, found = opened(ingested)
    out = derive(Derivation(dataset=ingested, manifest=manifest, survey=found, without=("k1",)), tmp_path)
    assert verify_dataset(out).source["without"] == ["k1"]

    def kind(event: str) -> str:
        u, i = map(int, event[1:].split("-"))
        return "padding" if i % 7 == 3 else f"k{(i * i + u) % 5}"

    before = {event for row in rows_of(ingested, "train") for event in row[2]}
    assert any(kind(event) == "k1" for event in before)
    kept = [event for event in names_of(ingested, "event")[2:] if kind(event) != "k1"]
    assert names_of(out, "event")[2:] == kept
    assert "k1" not in names_of(out, "behavior")
    for split in ("train", "val", "test"):
        rows, old = rows_of(out, split), rows_of(ingested, split)
        assert rows
        assert all("k1" not in kinds for _, _, _, kinds, _ in rows)
        # Unseen types are `other` in val and test: there the kinds tell what was dropped.
        assert sum(kinds.count("k2") for *_, kinds, _ in rows) <= sum(kinds.count("k2") for *_, kinds, _ in old)
    targets = [event for *_, scored in rows_of(out, "train") for event in scored]
    assert len(targets) == len(set(targets)) == read_manifest(out).splits["train"].num_targets
    wanted = {e for *_, scored in rows_of(ingested, "train") for e in scored if kind(e) != "k1"}
    firsts = {types[0] for _, number, types, _, _ in rows_of(out, "train") if number == 0}
    # What opens a user's history now was a target where the event before it is gone.
    assert set(targets) == wanted - firsts
    counts = read_vocabulary(out / "vocab" / "behavior.parquet")
    events = {e for _, _, types, _, _ in rows_of(out, "train") for e in types}
    for value, count in zip(counts.values, counts.counts, strict=True):
        assert count == sum(kind(event) == value for event in events)


def test_a_second_call_finds_the_dataset_and_a_damaged_one_is_named(ingested: Path, tmp_path: Path, monkeypatch):
    manifest, found = opened(ingested)
    wanted = Derivation(dataset=ingested, manifest=manifest, survey=found, without=("k0",))
    out = derive(wanted, tmp_path / "a")
    monkeypatch.setattr(new_behavior_data, "staged_dataset", None)
    assert derive(wanted, tmp_path / "a") == out
    monkeypatch.undo()
    # Users are cut in parts where there are many; the bytes do not depend on it.
    monkeypatch.setattr(new_behavior_data, "WINDOWS_AT_ONCE", 2)
    assert read_manifest(derive(wanted, tmp_path / "b")) == read_manifest(out)
    [shard] = read_manifest(out).splits["val"].shards
    (out / shard.path).write_bytes(b"")
    with pytest.raises(InputError, match=f"{shard.path}: has 0 bytes") as error:
        derive(wanted, tmp_path / "a")
    assert "delete it to have it made again" in error.value.problems[-1]


def test_the_few_shots_are_the_last_days_of_some_users(generated: Path, tmp_path: Path):
    manifest, found = opened(generated, user_share=0.5, days=5)
    windows = concatenate(list(read_windows(generated, manifest, "train")))
    last = int(windows.timestamp.max())
    recent = {int(u) for u, times in zip(windows.user, windows.timestamp, strict=True) if times.max() > last - 5 * DAY}
    assert len(found.shots.users) == round(0.5 * len(recent))
    assert {*found.shots.users.tolist()} < recent
    name = found.behaviors.values[0]
    shots = {"user_share": 0.5, "days": 5, "seed": 0}
    made = Derivation(dataset=generated, manifest=manifest, survey=found, without=(name,), shots=shots, passes=3)
    out = derive(made, tmp_path)
    few = concatenate(list(read_windows(out, read_manifest(out), "train")))
    assert {*few.user.tolist()} == {*found.shots.users.tolist()}
    assert few.timestamp[few.timestamp > 0].min() > last - 5 * DAY
    # Each target three times, under numbers of their own.
    assert len({*zip(few.user.tolist(), few.number.tolist(), strict=True)}) == len(few)
    assert read_manifest(out).splits["train"].num_targets % 3 == 0
    once = {(int(u), int(t)) for u, times in zip(few.user, few.timestamp, strict=True) for t in times if t}
    expected = set()
    held = found.behavior_id(name)
    for u, times, kinds in zip(windows.user, windows.timestamp, windows.behavior, strict=True):
        if int(u) in {*found.shots.users.tolist()}:
            expected |= {
                (int(u), int(t)) for t, b in zip(times, kinds, strict=True) if t > last - 5 * DAY and b != held
            }
    assert once == expected
    # Validation and test keep all users and times.
    val = concatenate(list(read_windows(out, read_manifest(out), "val")))
    assert {*val.user.tolist()} == {
        int(u) for part in read_windows(generated, manifest, "val") for u in part.user.tolist()
    }


def test_shots_that_are_too_few_to_train_on_are_refused(generated: Path):
    with pytest.raises(InputError, match=r"--user-share and --days give 1 users with \d windows of 90 targets"):
        opened(generated, user_share=0.001, days=1)


@pytest.fixture
def offered() -> Callable[..., Survey]:
    """Return a maker of surveys of behaviours a to e: 60, 5.5, 1, 0.9 and 0.1 % of 10,000 training targets."""

    def make(few: tuple[int, ...] = (900, 50, 12, 11, 10), test: tuple[int, ...] = (90, 80, 70, 60, 50)) -> Survey:
        return Survey(
            behaviors=Vocabulary(("a", "b", "c", "d", "e"), (6_000, 550, 100, 90, 10)),
            train=np.array([3_250, 6_000, 550, 100, 90, 10]),
            few=np.array([0, *few]),
            test=np.array([0, *test]),
            pairs=np.array([[2, 2], [3, 3], [4, 3], [4, 4], [5, 6], [1, 6], [6, 6], [6, 0]]),
            num_users=5,
            num_windows=20,
            shots=Shots(users=np.zeros(0, np.uint64), since=0),
        )

    return make


def test_the_nearest_shares_are_held_out_once_each(offered):
    # 5.5 % is nearest to 5.22 %, 1 % to 1.04 %, and 0.1 % to 0.04 %.
    assert choose_behaviors(offered(), ()) == {"b": "high", "c": "medium", "e": "low"}
    # Too few shots of e: then d is the nearest that is left.
    assert choose_behaviors(offered(few=(900, 50, 12, 11, 9)), ()) == {"b": "high", "c": "medium", "d": "low"}
    with pytest.raises(InputError, match="2 of 5 behaviours have 10 targets in the few shots and 20 in test; 3 are"):
        choose_behaviors(offered(test=(90, 80, 19, 19, 19)), ())
    assert choose_behaviors(offered(), ("e", "a")) == {"e": "named", "a": "named"}


def test_behaviors_that_are_unknown_or_too_rare_are_named(offered):
    with pytest.raises(InputError) as error:
        choose_behaviors(offered(few=(900, 50, 12, 3, 10), test=(90, 80, 70, 60, 5)), ("e", "d", "bb", "a", "a"))
    assert error.value.problems == (
        "--behaviors e: has 5 targets in the test split, at least 20 are needed",
        "--behaviors d: has 3 targets in the few shots, at least 10 are needed; raise --user-share or --days",
        "--behaviors bb: the dataset has no such behaviour. Did you mean 'b'?",
        "--behaviors has 'a' twice",
    )


def test_an_event_type_belongs_to_a_behavior_that_no_other_shares_it_with(offered):
    # Type 3 is b's alone, 4 is shared with c; 5 and 6 are e's (6 also has events without a behaviour), 1 is `other`.
    assert offered().own_events(("b",)).tolist() == [3]
    assert offered().own_events(("b", "c")).tolist() == [3, 4]
    assert offered().own_events(("e",)).tolist() == [5, 6]
