"""Datasets made from a dataset: without some behaviours, and of the training split the few shots alone.

In: a dataset, its survey, and what to leave out. Out: an ordinary dataset directory, so that loop, checkpoints and
evaluator need not know the task. An event of a held-out behaviour is dropped from all splits, as input and as target,
and each user's remaining events are cut into windows anew, as ingest would have cut them. (Dropping whole windows
instead would leave nothing: of a behaviour that makes 5 % of the events, 99 % of the windows of 91 hold one.) What the
model reads of an event, weekday, slot, place and type, stays true; two events that were apart become neighbours. The
vocabularies lose the behaviours and the event types that are theirs alone, so a model of it has no row for them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from behavegpt.config import config_hash
from behavegpt.data.manifest import Manifest
from behavegpt.data.shards import finish_dataset, gather_shard, gather_tasks, table_sizes
from behavegpt.data.spill import Layout, spill_windows
from behavegpt.data.staging import WORK, staged_dataset
from behavegpt.data.verify import verify_dataset
from behavegpt.data.vocab import Vocabulary, read_vocabulary
from behavegpt.data.windows import Windows, concatenate
from behavegpt.errors import InputError
from behavegpt.schema import FIRST_KNOWN_ID, OTHER_ID, PADDING_ID, SPLITS, VOCABULARIES
from behavegpt.tasks.adaptation.new_behavior_events import Events, cut, unroll
from behavegpt.tasks.adaptation.new_behavior_survey import Survey, read_windows

WINDOWS_AT_ONCE = 1 << 18
"""Of the users that are cut together: some 400 MB."""
SHUFFLE_SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Derivation:
    """What a derived dataset is made of."""

    dataset: Path
    manifest: Manifest
    survey: Survey
    without: tuple[str, ...]
    """Behaviours that are left out."""
    shots: Mapping[str, Any] | None = None
    """How the few shots were chosen, where training keeps them alone: what the manifest says of them."""
    passes: int = 1
    """How often each training window is in the stream."""

    @property
    def source(self) -> dict[str, Any]:
        """What the new manifest says of its origin."""
        origin = {"name": self.manifest.name, "fingerprint": self.manifest.fingerprint}
        shots = dict(self.shots) if self.shots is not None else None
        return {
            "kind": "new-behavior",
            "from": origin,
            "without": [*self.without],
            "shots": shots,
            "passes": self.passes,
        }

    def dropped(self, column: str) -> np.ndarray:
        """Return the ids of event or behavior that are left out; of location none."""
        if column == "location":
            return np.zeros(0, np.int64)
        if column == "event":
            return self.survey.own_events(self.without)
        return np.array([self.survey.behavior_id(name) for name in self.without], np.int64)


@dataclass(slots=True)
class _Tally:
    """What the first pass counts, by split."""

    num_windows: dict[str, int] = field(default_factory=dict)
    num_users: dict[str, int] = field(default_factory=dict)
    last_number: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    ids: dict[str, np.ndarray] = field(default_factory=dict)
    """How often each id of a vocabulary's column occurs among the training events."""


def derive(wanted: Derivation, folder: Path) -> Path:
    """Return the directory of the derived dataset below `folder`, after making it unless it is there.

    Raises:
        InputError: The dataset, or the derived one that is there, is damaged.
    """
    out = folder / config_hash(wanted.source)
    if out.exists():
        try:
            verify_dataset(out)
        except InputError as error:
            raise InputError(*error.problems, f"{out}: delete it to have it made again") from error
        return out
    tally = _count(wanted)
    keeps = {column: _kept(wanted, column) for column in VOCABULARIES}
    vocabularies = {column: _reduced(wanted, column, keeps[column], tally.ids[column]) for column in VOCABULARIES}
    id_maps = {column: _id_map(wanted.manifest.vocabulary_sizes[column], keeps[column]) for column in VOCABULARIES}
    num_windows = {s: n * (wanted.passes if s == "train" else 1) for s, n in tally.num_windows.items()}
    layout = Layout(seed=SHUFFLE_SEED, num_windows=num_windows)
    with staged_dataset(out) as staging:
        for split in SPLITS:
            for index, events in enumerate(_parts(wanted, split)):
                windows = (
                    _repeated(cut(events), wanted.passes, tally.last_number[split]) if split == "train" else cut(events)
                )
                spill_windows(staging / WORK, str(index), split, windows, layout)
        tasks = gather_tasks(staging / WORK, staging, layout, table_sizes(vocabularies), id_maps=id_maps)
        finish_dataset(
            staging,
            layout,
            [gather_shard(task) for task in tasks],
            vocabularies,
            name=wanted.manifest.name,
            source=wanted.source,
            counts=tally.counts,
            num_users=tally.num_users,
            cutoffs=wanted.manifest.cutoffs,
        )
    return out


def _parts(wanted: Derivation, split: str) -> Iterator[Events]:
    """Yield the events that are left of a split, of some users at a time."""
    total = wanted.manifest.splits[split].num_windows
    num_parts = -(-total // WINDOWS_AT_ONCE)
    behaviors, types = wanted.dropped("behavior"), wanted.dropped("event")
    for part in range(num_parts):
        mine = read_windows(
            wanted.dataset,
            wanted.manifest,
            split,
            lambda windows, part=part: windows.user % np.uint64(num_parts) == part,
        )
        events = unroll(concatenate(list(mine)))
        if split == "train" and wanted.shots is not None:
            events = wanted.survey.shots.of(events)
        gone = np.isin(events.columns["behavior"], behaviors) | np.isin(events.columns["event"], types)
        yield events.take(~gone)


def _count(wanted: Derivation) -> _Tally:
    """Count everything once: where windows go depends on how many there are."""
    tally = _Tally(ids={c: np.zeros(wanted.manifest.vocabulary_sizes[c], np.int64) for c in VOCABULARIES})
    for split in SPLITS:
        num_windows = num_users = num_events = last = 0
        for events in _parts(wanted, split):
            windows = cut(events)
            num_windows += len(windows)
            num_users += len(np.unique(windows.user))
            num_events += len(events)
            last = max(last, int(windows.number.max(initial=0)))
            if split == "train":
                for column, counts in tally.ids.items():
                    counts += np.bincount(events.columns[column], minlength=len(counts))
        tally.num_windows[split], tally.num_users[split], tally.last_number[split] = num_windows, num_users, last
        tally.counts |= {f"events_{split}": num_events, f"users_{split}": num_users}
    return tally


def _kept(wanted: Derivation, column: str) -> np.ndarray:
    """Return the known ids that stay, in their order."""
    known = np.arange(FIRST_KNOWN_ID, wanted.manifest.vocabulary_sizes[column])
    return np.setdiff1d(known, wanted.dropped(column))


def _reduced(wanted: Derivation, column: str, kept: np.ndarray, counts: np.ndarray) -> Vocabulary:
    """Return the vocabulary of the ids that stay, with their counts among the events that stay."""
    values = read_vocabulary(wanted.dataset / wanted.manifest.vocabulary_path(column)).values
    return Vocabulary(tuple(values[i - FIRST_KNOWN_ID] for i in kept), tuple(int(counts[i]) for i in kept))


def _id_map(size: int, kept: np.ndarray) -> np.ndarray:
    """Return (size,) the new id of each old one; of an id that is left out there is no event any more."""
    ids = np.full(size, PADDING_ID, np.uint32)
    ids[OTHER_ID] = OTHER_ID
    ids[kept] = np.arange(FIRST_KNOWN_ID, FIRST_KNOWN_ID + len(kept))
    return ids


def _repeated(windows: Windows, passes: int, last_number: int) -> Windows:
    """Return every window `passes` times, under numbers of its own, which the shuffle spreads over the stream."""
    numbers = [windows.number + np.uint32(turn * (last_number + 1)) for turn in range(passes)]
    return concatenate([replace(windows, number=number) for number in numbers])
