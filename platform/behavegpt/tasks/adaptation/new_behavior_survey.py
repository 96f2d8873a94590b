"""What a dataset offers for the task: which behaviours can be held out, and whose events are the few shots.

In: a dataset, and how many users and days. Out: a `Survey`: counts of every behaviour among training events, few shots
and test targets, the users of the few shots, and which event types each behaviour has to itself.

Legend: V classes (class c is behaviour id c + 1), E event ids.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from behavegpt.data.manifest import Manifest
from behavegpt.data.spill import shuffle_keys
from behavegpt.data.vocab import Vocabulary, read_vocabulary
from behavegpt.data.windows import Windows, concatenate, from_table
from behavegpt.errors import InputError, did_you_mean
from behavegpt.schema import FIRST_KNOWN_ID, NUM_INPUTS, WINDOW_LENGTH, window_schema
from behavegpt.tasks.adaptation.new_behavior_events import Events, count_classes, cut, unroll
from behavegpt.tasks.targets import read_tables

DAY = 86_400
PAPER_USER_SHARE = 0.0025
"""The few shots of BehaveGPT (arXiv 2505.17631, section 4.3): two weeks of 1,000 people, a quarter of a percent."""
LEAST_USERS = 30
"""Of the few shots where nothing is said: a quarter of a percent of a small log is nobody."""
PAPER_SHARES = {"high": 0.0522, "medium": 0.0104, "low": 0.0004}
"""Of finance, memo and health query among the paper's events."""
MIN_SHOTS = 10
"""Targets of a new behaviour in the few shots: with fewer there is nothing to learn from."""
MIN_TEST = 20
"""Its targets in the test split: with fewer, its recall is a coin's."""
MIN_WINDOWS = 10
"""Of the few shots: one a step, and a shorter run has no room for a warm-up and a decay."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shots:
    """Whose events, and since when, are the few shots."""

    users: np.ndarray
    """(U,) uint64 pseudonyms, rising."""
    since: int
    """Unix second: events from then on, of the training split alone."""

    def of(self, events: Events) -> Events:
        """Return those of the events that are among the few shots."""
        return events.take(np.isin(events.user, self.users) & (events.columns["timestamp"] >= self.since))


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What the dataset offers."""

    behaviors: Vocabulary
    train: np.ndarray
    """(V,) training targets."""
    few: np.ndarray
    """(V,) targets among the few shots."""
    test: np.ndarray
    """(V,) targets of the test split."""
    pairs: np.ndarray
    """(P, 2) distinct (event id, behaviour id) of training."""
    num_users: int
    """Of the training split."""
    num_windows: int
    """Of the few shots."""
    shots: Shots

    def behavior_id(self, name: str) -> int:
        """Return the id of a behaviour by its name."""
        return self.behaviors.values.index(name) + FIRST_KNOWN_ID

    def share(self, name: str) -> float:
        """Return the behaviour's share of the training targets."""
        return float(self.train[self.behavior_id(name) - 1] / self.train.sum())

    def own_events(self, names: tuple[str, ...]) -> np.ndarray:
        """Return the event ids that belong to these behaviours alone; id `other` never does."""
        ids = [self.behavior_id(name) for name in names]
        event, behavior = self.pairs.T
        inside = np.isin(behavior, ids)
        # An event without a behaviour says nothing about whose it is.
        own = np.setdiff1d(event[inside], event[~inside & (behavior >= FIRST_KNOWN_ID)])
        return own[own >= FIRST_KNOWN_ID]


def survey(dataset: Path, manifest: Manifest, *, user_share: float | None, days: int, seed: int) -> Survey:
    """Return what the dataset offers.

    Args:
        user_share: Of the users with training events in the last `days`; None takes the paper's, or LEAST_USERS.
        seed: Chooses the users.

    Raises:
        InputError: A shard is damaged, or the few shots are too few to train on.
    """
    num_classes = manifest.vocabulary_sizes["behavior"] - 1
    train, users, seconds, pairs = np.zeros(num_classes, np.int64), [], [], []
    for windows in read_windows(dataset, manifest, "train"):
        train += count_classes(windows, num_classes)
        users.append(windows.user)
        seconds.append(windows.timestamp.max(axis=1))
        present = np.arange(WINDOW_LENGTH) < windows.length[:, None]
        found = np.stack([windows.event[present], windows.behavior[present]], axis=1).astype(np.int64)
        pairs.append(np.unique(found, axis=0))
    shots, num_users = _choose(np.concatenate(users), np.concatenate(seconds), user_share, days, seed)
    mine = read_windows(dataset, manifest, "train", lambda windows: np.isin(windows.user, shots.users))
    few = cut(shots.of(unroll(concatenate(list(mine)))))
    if len(few) < MIN_WINDOWS:
        raise InputError(
            f"--user-share and --days give {len(shots.users):,} users with {len(few)} windows of {NUM_INPUTS} targets; "
            f"at least {MIN_WINDOWS} are needed; raise one of them"
        )
    test = sum(
        (count_classes(windows, num_classes) for windows in read_windows(dataset, manifest, "test")),
        np.zeros(num_classes, np.int64),
    )
    return Survey(
        behaviors=read_vocabulary(dataset / manifest.vocabulary_path("behavior")),
        train=train,
        few=count_classes(few, num_classes),
        test=test,
        pairs=np.unique(np.concatenate(pairs), axis=0),
        num_users=num_users,
        num_windows=len(few),
        shots=shots,
    )


def read_windows(
    dataset: Path, manifest: Manifest, split: str, chosen: Callable[[Windows], np.ndarray] | None = None
) -> Iterator[Windows]:
    """Yield the windows of a split, one row group at a time; `chosen` gives a boolean for each to keep."""
    for table in read_tables(dataset, manifest, split, window_schema(manifest.vocabulary_sizes).names):
        windows = from_table(table)
        yield windows if chosen is None else windows.take(chosen(windows))


def _choose(users_W: np.ndarray, seconds_W: np.ndarray, share: float | None, days: int, seed: int) -> tuple[Shots, int]:
    """Return the few shots, and how many users there are."""
    since = int(seconds_W.max()) - days * DAY + 1
    everyone, active = np.unique(users_W), np.unique(users_W[seconds_W >= since])
    wanted = max(LEAST_USERS, round(PAPER_USER_SHARE * len(active))) if share is None else round(share * len(active))
    wanted = min(max(1, wanted), len(active))
    keys = shuffle_keys(seed, "train", active, np.zeros(len(active), np.uint32))
    users = np.sort(active[np.argsort(keys, kind="stable")[:wanted]])
    return Shots(users=users, since=since), len(everyone)


def choose_behaviors(found: Survey, names: tuple[str, ...]) -> dict[str, str]:
    """Return the behaviours to hold out, each with what it stands for; the named ones, or one of each of PAPER_SHARES.

    Of those with enough targets, the one whose share of training is nearest to the paper's by ratio, once each.

    Raises:
        InputError: A behaviour is unknown, or has too few targets; or fewer than three have enough.
    """
    if names:
        problems = [problem for name in names for problem in _problems(found, name)]
        problems += [f"--behaviors has {name!r} twice" for name in sorted({n for n in names if names.count(n) > 1})]
        if len(found.behaviors.values) - len(set(names)) < 2 and not problems:
            problems.append(f"--behaviors holds out {len(names)} of {len(found.behaviors.values)}; leave 2 or more")
        if problems:
            raise InputError(*problems)
        return dict.fromkeys(names, "named")
    eligible = [name for name in found.behaviors.values if not any(_problems(found, name))]
    if len(eligible) < len(PAPER_SHARES) or len(found.behaviors.values) < len(PAPER_SHARES) + 2:
        raise InputError(
            f"{len(eligible)} of {len(found.behaviors.values)} behaviours have {MIN_SHOTS} targets in the few shots "
            f"and {MIN_TEST} in test; {len(PAPER_SHARES)} are held out; raise --user-share or --days"
        )
    chosen: dict[str, str] = {}
    for label, share in PAPER_SHARES.items():
        left = [name for name in eligible if name not in chosen]
        chosen[min(left, key=lambda name: abs(np.log(found.share(name) / share)))] = label
    return chosen


def _problems(found: Survey, name: str) -> Iterator[str]:
    if name not in found.behaviors.values:
        yield f"--behaviors {name}: the dataset has no such behaviour.{did_you_mean(name, found.behaviors.values)}"
        return
    index = found.behavior_id(name) - 1
    if found.few[index] < MIN_SHOTS:
        yield (
            f"--behaviors {name}: has {found.few[index]} targets in the few shots, at least {MIN_SHOTS} are needed; "
            "raise --user-share or --days"
        )
    if found.test[index] < MIN_TEST:
        yield f"--behaviors {name}: has {found.test[index]} targets in the test split, at least {MIN_TEST} are needed"
