"""What a user did up to a moment behind the test cutoff, and what the user did then.

In: a dataset. Out: of each user the last N behaviours of the test split, which are the truth, and up to 90 events
before them, which are the history. They lie in the windows of the user's grid, the earliest perhaps in another split.

Only users with N behaviours in the test split take part: others have no truth of that length. Events without a
behaviour stay in the history, as in training; the truth is made of behaviours, so it has none of them.

Legend: U users, I = NUM_INPUTS positions, N behaviours, W windows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa

from behavegpt.data.manifest import Manifest
from behavegpt.data.windows import Windows, concatenate, from_table, target_mask
from behavegpt.errors import InputError
from behavegpt.schema import FEATURES, NUM_INPUTS, SPLITS, WINDOW_LENGTH
from behavegpt.tasks.targets import read_tables

SHARED = (*FEATURES, "behavior", "timestamp")
"""What two windows that follow one another have in common: one event."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Histories:
    """U users, by rising pseudonym."""

    user: np.ndarray
    """(U,) uint64 pseudonyms."""
    columns: dict[str, np.ndarray]
    """(U, I) ids of weekday, slot, location, event and behavior, and timestamps; right padded with 0."""
    length: np.ndarray
    """(U,) int64 events of each history, 1 .. I."""
    truth: dict[str, np.ndarray]
    """(U, N) ids of behavior and slot."""

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: slice | np.ndarray) -> "Histories":
        """Return some of the users."""
        columns, truth = ({n: v[rows] for n, v in part.items()} for part in (self.columns, self.truth))
        return Histories(user=self.user[rows], columns=columns, length=self.length[rows], truth=truth)


def read_histories(directory: Path, manifest: Manifest, num_users: int, num_behaviors: int) -> Histories:
    """Return the histories of the first `num_users` users with so many behaviours in the test split, or of all such.

    Raises:
        InputError: There is no such user, or a shard is damaged; the message names it.
    """
    if not manifest.splits["test"].num_targets:
        raise InputError(f"{directory}: its test split has no targets")
    keys = pa.concat_tables(read_tables(directory, manifest, "test", ("user", "number", "num_targets")))
    user, number, num_targets = (keys[name].to_numpy() for name in ("user", "number", "num_targets"))
    user, first, last, most = _find_starts(user, number, num_targets, num_behaviors)
    if not len(user):
        raise InputError(
            f"{directory}: no user has {num_behaviors} consecutive behaviours in the test split; "
            f"the most that one has is {most}"
        )
    user, first, last = user[:num_users], first[:num_users], last[:num_users]
    test = _of_users(directory, manifest, "test", user, first, last)
    start = np.searchsorted(test.user, user)
    before = {}
    for split in reversed(SPLITS):
        earlier = _of_users(directory, manifest, split, user, first - 1, first - 1)
        for row, window in zip(np.searchsorted(user, earlier.user), range(len(earlier)), strict=True):
            if int(row) not in before and _joins(earlier, window, test, int(start[row])):
                before[int(row)] = earlier.take(np.array([window]))
    return _stack([_of_user(test, user[row], before.get(row), num_behaviors) for row in range(len(user))], user)


def _find_starts(
    user: np.ndarray, number: np.ndarray, num_targets: np.ndarray, least: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return the users with enough targets, each one's first and last window with them, and the most of any user.

    A window without a target is in no split; what lies before it does not count.
    """
    order = np.lexsort((-number.astype(np.int64), user))
    user, number, num_targets = user[order], number[order].astype(np.int64), num_targets[order].astype(np.int64)
    _, begin, size = np.unique(user, return_index=True, return_counts=True)
    last = np.repeat(number[begin], size)
    connected = number == last - (np.arange(len(user)) - np.repeat(begin, size))
    up_to = np.cumsum(np.where(connected, num_targets, 0))
    up_to -= np.repeat(np.concatenate([[0], up_to])[begin], size)
    enough = np.flatnonzero(connected & (up_to >= least))
    found, place = np.unique(user[enough], return_index=True)
    return found, number[enough[place]], last[enough[place]], int(up_to.max(initial=0))


def _of_users(
    directory: Path, manifest: Manifest, split: str, user: np.ndarray, first: np.ndarray, last: np.ndarray
) -> Windows:
    """Return the windows of a split that have these users and numbers, by user and number."""
    names = [field.name for field in fields(Windows)]
    parts = [_pick(from_table(t), user, first, last) for t in read_tables(directory, manifest, split, names)]
    if not parts:
        return _no_windows()
    found = concatenate(parts)
    return found.take(np.lexsort((found.number, found.user)))


def _pick(windows: Windows, user: np.ndarray, first: np.ndarray, last: np.ndarray) -> Windows:
    at = np.minimum(np.searchsorted(user, windows.user), len(user) - 1)
    number = windows.number.astype(np.int64)
    return windows.take((user[at] == windows.user) & (first[at] <= number) & (number <= last[at]))


def _no_windows() -> Windows:
    wide = {name: np.zeros((0, WINDOW_LENGTH), np.int64) for name in SHARED}
    return Windows(**wide, **{n: np.zeros(0, np.uint64) for n in ("length", "first_target", "user", "number")})


def _joins(earlier: Windows, row: int, later: Windows, first: int) -> bool:
    """Return whether a window ends with the event that the other one begins with.

    A user's windows in two splits may be of two timelines, as in generated logs.
    """
    return all(getattr(earlier, name)[row, -1] == getattr(later, name)[first, 0] for name in SHARED)


def _of_user(test: Windows, user: np.uint64, before: Windows | None, num_behaviors: int) -> dict[str, np.ndarray]:
    """Return the columns of one user's history, and "truth" and "truth_slot"."""
    first, end = np.searchsorted(test.user, user), np.searchsorted(test.user, user, side="right")
    own = test.take(np.arange(first, end))
    scored = [target_mask(own.behavior, own.first_target)]
    parts = [own]
    if before is not None:
        parts, scored = [before, own], [np.zeros((1, WINDOW_LENGTH), bool), *scored]
    windows, mask = concatenate(parts), np.concatenate(scored)
    kept = np.arange(WINDOW_LENGTH) < windows.length[:, None]
    kept[1:, 0] = False
    timeline = {name: getattr(windows, name)[kept] for name in SHARED}
    # The shared event is a target in the earlier of its two windows.
    truth = np.flatnonzero(mask[kept])[-num_behaviors:]
    history = slice(max(0, truth[0] - NUM_INPUTS), truth[0])
    of_truth = {f"truth_{name}": timeline[name][truth] for name in ("behavior", "slot")}
    return {name: values[history] for name, values in timeline.items()} | of_truth


def _stack(users: list[dict[str, np.ndarray]], user: np.ndarray) -> Histories:
    length = np.array([len(one["event"]) for one in users])
    return Histories(
        user=user,
        columns={name: np.stack([_padded(one[name]) for one in users]) for name in SHARED},
        length=length,
        truth={n: np.stack([one[f"truth_{n}"] for one in users]).astype(np.int64) for n in ("behavior", "slot")},
    )


def _padded(values: np.ndarray) -> np.ndarray:
    return np.pad(values.astype(np.int64), (0, NUM_INPUTS - len(values)))


def blocks(histories: Histories, size: int) -> Iterator[Histories]:
    """Yield the users, `size` at a time."""
    for first in range(0, len(histories), size):
        yield histories.take(slice(first, first + size))
