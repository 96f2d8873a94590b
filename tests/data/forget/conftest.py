"""A log of known histories, as a dataset in many small shards whose users have pseudonyms of a key."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavegpt.data.forget import rewrite
from behavegpt.data.ingest.pseudonyms import key_id
from behavegpt.data.manifest import Manifest
from behavegpt.data.shards import finish_dataset, gather_shard, gather_tasks, table_sizes
from behavegpt.data.spill import Layout, spill_windows
from behavegpt.data.staging import WORK, staged_dataset
from behavegpt.data.vocab import Vocabulary
from behavegpt.data.windows import Windows
from behavegpt.schema import SPLITS, VOCABULARIES

KEY = bytes(range(100, 132))
VAL, TEST = 1_600_000_000, 1_600_500_000
CUTOFFS = {"val": "2020-09-13T12:26:40Z", "test": "2020-09-19T07:20:00Z"}
NUM_USERS = 60
ONLY_ONE = 7
"""The user who alone has the last behaviour, and has it in training only."""

Event = tuple[int, dict[str, int]]
"""Time, and the id of each vocabulary's column."""
Window = tuple[str, int, int, list[int], int]
"""Split, user, number, indices into the user's history, first target."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Log:
    """The dataset, and what it was made of."""

    directory: Path
    manifest: Manifest
    histories: list[list[Event]]
    windows: list[Window]
    vocabularies: dict[str, Vocabulary]

    def events_of(self, users: set[int]) -> dict[tuple[int, int], Event]:
        """Return the events of these users that are in a window."""
        return {(w[1], i): self.histories[w[1]][i] for w in self.windows if w[1] in users for i in w[3]}


def draw_history(user: int) -> list[Event]:
    rng = np.random.default_rng(user)
    times = np.sort(rng.integers(VAL - 2_000_000, TEST + 400_000, rng.integers(40, 400)))
    events = []
    for time in times.tolist():
        ids = {
            "location": int(rng.integers(0, 4)),
            "event": int(rng.integers(1, 12)),
            "behavior": int(rng.integers(0, 5)),
        }
        if user == ONLY_ONE and time < VAL and rng.random() < 0.2:
            ids["behavior"] = 5
        events.append((time, ids))
    return events


def cut(user: int, history: list[Event]) -> list[Window]:
    windows: list[Window] = []
    for number in range(len(history)):
        rows = list(range(number * 90, min(number * 90 + 91, len(history))))
        begin = 0
        for split, until in zip(SPLITS, (VAL, TEST, 2**60), strict=True):
            end = sum(history[i][0] < until for i in rows)
            first = max(begin, 1)
            if any(history[i][1]["behavior"] for i in rows[first:end]):
                windows.append((split, user, number, rows[:end], first))
            begin = end
    return windows


def pseudonym(user: int) -> int:
    return int.from_bytes(hmac.digest(KEY, name_of(user).encode(), "sha256")[:8], "big")


def name_of(user: int) -> str:
    return f"canary ünïque {user} 🐤"


def to_windows(histories: list[list[Event]], cuts: list[Window]) -> Windows:
    arrays = {name: np.zeros((len(cuts), 91), np.int64) for name in (*VOCABULARIES, "weekday", "slot", "timestamp")}
    for row, (_, user, _, places, _) in enumerate(cuts):
        for column, place in enumerate(places):
            time, ids = histories[user][place]
            arrays["timestamp"][row, column], arrays["weekday"][row, column] = time, 1 + place % 7
            arrays["slot"][row, column] = 1 + place % 48
            for name in VOCABULARIES:
                arrays[name][row, column] = ids[name]
    return Windows(
        **arrays,
        length=np.array([len(c[3]) for c in cuts], np.uint8),
        first_target=np.array([c[4] for c in cuts], np.uint8),
        user=np.array([pseudonym(c[1]) for c in cuts], np.uint64),
        number=np.array([c[2] for c in cuts], np.uint32),
    )


@pytest.fixture
def log(tmp_path: Path) -> Log:
    histories = [draw_history(user) for user in range(NUM_USERS)]
    windows = [window for user, history in enumerate(histories) for window in cut(user, history)]
    training = [ids for history in histories for time, ids in history if time < VAL]
    words = {"location": "ab", "event": "abcdefghij", "behavior": ("K", "L", "M", "only one user's")}
    vocabularies = {
        column: Vocabulary(
            tuple(values), tuple(sum(ids[column] == 2 + i for ids in training) for i in range(len(values)))
        )
        for column, values in words.items()
    }
    of_split = {split: [w for w in windows if w[0] == split] for split in SPLITS}
    layout = Layout(seed=0, num_windows={s: len(w) for s, w in of_split.items()}, windows_per_shard=20)
    counts = {"rows_read": 99_999, "users": NUM_USERS, "events_kept": 50_000, "missing_behavior": 9_000}
    counts |= {f"{what}_{split}": 10_000 for what in ("events", "users") for split in SPLITS}
    counts |= {f"other_{column}_{split}": 10_000 for column in VOCABULARIES for split in SPLITS}
    directory = tmp_path / "sets" / "log"
    with staged_dataset(directory) as staging:
        for split, part in of_split.items():
            spill_windows(staging / WORK, "0", split, to_windows(histories, part), layout)
        sizes = table_sizes(vocabularies)
        shards = [gather_shard(task) for task in gather_tasks(staging / WORK, staging, layout, sizes)]
        manifest = finish_dataset(
            staging,
            layout,
            shards,
            vocabularies,
            name="log",
            source={"kind": "log", "key_id": key_id(KEY)},
            counts=counts,
            num_users={split: len({w[1] for w in part}) for split, part in of_split.items()},
            cutoffs=CUTOFFS,
        )
    return Log(directory=directory, manifest=manifest, histories=histories, windows=windows, vocabularies=vocabularies)


@pytest.fixture
def without_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no card, which takes seconds; tests/jobs/test_forget.py has the real one."""
    monkeypatch.setattr(rewrite, "write_card", lambda _: None)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "user.key"
    path.touch(mode=0o600)
    path.write_text(KEY.hex() + "\n")
    return path


@pytest.fixture
def read_split() -> Callable[[Path, Manifest, str], list[pa.Table]]:
    """Return the shards of a split in the order of the stream, each in the order of its window_ids."""

    def read(directory: Path, manifest: Manifest, split: str) -> list[pa.Table]:
        return [pq.read_table(directory / s.path).sort_by("window_id") for s in manifest.splits[split].shards]

    return read
