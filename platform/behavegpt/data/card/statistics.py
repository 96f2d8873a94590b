"""One pass over a dataset's shards: what it holds, and the pairs that the baselines need.

In: a dataset directory. Out: `Statistics`, whose size depends on the vocabulary and the calendar, not on the events.

Legend: V ids of the behaviour table, L = WINDOW_LENGTH positions.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from behavegpt.data.card.baselines import Pairs
from behavegpt.data.card.chunks import Chunk, read_chunks
from behavegpt.data.card.tally import Tally
from behavegpt.data.manifest import Manifest
from behavegpt.schema import NUM_SLOTS, SPLITS, WINDOW_LENGTH

HALF_HOURS = NUM_SLOTS - 1
DAYS = 7
SECONDS_PER_DAY = 86_400
MAX_DAYS = 1 << 16
"""Days since 1970 with a count of their own: up to the year 2149."""
GAP_EDGES = (60, 600, 3600, 6 * 3600, SECONDS_PER_DAY, 7 * SECONDS_PER_DAY, 30 * SECONDS_PER_DAY)
"""Seconds between two events of a user: less than the first, ..., at least the last."""
MAX_PAIR_TARGETS = 20_000_000
"""Targets of a split, from the front of its stream, whose pairs are counted; the stream is shuffled, so they are a
random sample. It bounds the memory."""
MAX_USERS = 1_000_000
"""Users whose events are counted one by one; beyond it a random share of them, which bounds the memory."""
CONTEXTS = ("behavior", "event", "slot")
"""What of the last event a baseline sees: its behaviour (or the last that was known), itself, its half hour."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """What the shards hold, every event counted once."""

    num_events: dict[str, int]
    """Per split, events without a behaviour included."""
    targets: dict[str, np.ndarray]
    """Per split, (V,) how often each behaviour id is a target."""
    rhythm: np.ndarray
    """(7, 48) events by local weekday, Monday first, and half hour."""
    first_day: int
    """Day since 1970 of the first column of `days`."""
    days: dict[str, np.ndarray]
    """Per split, (days,) events of each UTC day."""
    lengths: dict[str, np.ndarray]
    """Per split, (L + 1,) windows by their number of events."""
    gaps: np.ndarray
    """(8,) pairs of consecutive events by the time between them; see GAP_EDGES."""
    events_per_user: np.ndarray
    """Events of each user (or of a share of them), rising."""
    user_share: float
    """The share of users in `events_per_user`."""
    pairs: dict[str, dict[str, Pairs]]
    """Per split and context of CONTEXTS."""

    @property
    def num_users(self) -> int:
        """Users with a window in any split, an estimate when only a share of them was counted."""
        return round(len(self.events_per_user) / self.user_share)


def read_statistics(directory: Path, manifest: Manifest) -> Statistics:
    """Return the statistics of a dataset.

    Raises:
        InputError: A shard is missing or damaged; the message names it.
    """
    user_share = min(1.0, MAX_USERS / max(sum(split.num_users for split in manifest.splits.values()), 1))
    users, rhythm, gaps = (
        Tally(np.uint64),
        np.zeros((DAYS, HALF_HOURS), np.int64),
        np.zeros(len(GAP_EDGES) + 1, np.int64),
    )
    num_ids = manifest.vocabulary_sizes["behavior"]
    targets, days, lengths, pairs = {}, {}, {}, {}
    for split in SPLITS:
        targets[split] = np.zeros(num_ids, np.int64)
        days[split], lengths[split] = np.zeros(MAX_DAYS, np.int64), np.zeros(WINDOW_LENGTH + 1, np.int64)
        tallies = {context: Tally(np.int64) for context in CONTEXTS}
        for chunk in read_chunks(directory, manifest, split):
            if targets[split].sum() < MAX_PAIR_TARGETS:
                _add_pairs(tallies, chunk, num_ids)
            targets[split] += np.bincount(chunk.behavior[chunk.scored], minlength=num_ids)
            days[split] += _count_days(chunk)
            lengths[split] += np.bincount(chunk.length, minlength=WINDOW_LENGTH + 1)
            rhythm += _count_rhythm(chunk)
            gaps += _count_gaps(chunk)
            _add_users(users, chunk, user_share)
        pairs[split] = {context: _to_pairs(tally, num_ids) for context, tally in tallies.items()}
    used = np.flatnonzero(sum(days.values()))
    first, last = (int(used[0]), int(used[-1])) if len(used) else (0, 0)
    return Statistics(
        num_events={split: int(days[split].sum()) for split in SPLITS},
        targets=targets,
        rhythm=rhythm,
        first_day=first,
        days={split: days[split][first : last + 1] for split in SPLITS},
        lengths=lengths,
        gaps=gaps,
        events_per_user=np.sort(users.result()[1]),
        user_share=user_share,
        pairs=pairs,
    )


def _count_days(chunk: Chunk) -> np.ndarray:
    day = chunk.timestamp[chunk.owned] // SECONDS_PER_DAY
    return np.bincount(np.clip(day, 0, MAX_DAYS - 1), minlength=MAX_DAYS)


def _count_rhythm(chunk: Chunk) -> np.ndarray:
    weekday, slot = chunk.weekday[chunk.owned].astype(np.int64), chunk.slot[chunk.owned]
    half_hour = (weekday - 1) * HALF_HOURS + slot - 1
    return np.bincount(half_hour, minlength=DAYS * HALF_HOURS).reshape(DAYS, HALF_HOURS)


def _count_gaps(chunk: Chunk) -> np.ndarray:
    """Return the gaps before the owned events; the first event of a history has none."""
    gap = (chunk.timestamp[:, 1:] - chunk.timestamp[:, :-1])[chunk.owned[:, 1:]]
    return np.bincount(np.searchsorted(GAP_EDGES, gap, side="right"), minlength=len(GAP_EDGES) + 1)


def _add_users(users: Tally, chunk: Chunk, share: float) -> None:
    counts = chunk.owned.sum(axis=1)
    if share == 1:
        users.add(chunk.user, counts)
        return
    # Not every dataset's pseudonyms are spread evenly, so they are mixed first (Fibonacci hashing, Knuth 6.4).
    mixed = chunk.user.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    chosen = mixed < np.uint64(share * 2**64)
    users.add(chunk.user[chosen], counts[chosen])


def _add_pairs(tallies: dict[str, Tally], chunk: Chunk, num_ids: int) -> None:
    scored = chunk.scored[:, 1:]
    target = chunk.behavior[:, 1:][scored].astype(np.int64)
    seen = {"behavior": chunk.last_behavior(), "event": chunk.event, "slot": chunk.slot}
    for context, tally in tallies.items():
        tally.add(seen[context][:, :-1][scored].astype(np.int64) * num_ids + target)


def _to_pairs(tally: Tally, num_ids: int) -> Pairs:
    keys, counts = tally.result()
    return Pairs(keys // num_ids, keys % num_ids, counts)
