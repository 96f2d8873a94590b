"""The texts behind the codes: one order for all blocks, and the vocabularies that come from the training rows.

In: the dictionaries that pass 1 left beside each block. Out: the distinct texts of a column by their UTF-8 bytes, so
that codes order rows as texts do; and later the ids of those that enough training users share.
"""

# Arrow makes its compute functions at import, where a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavegpt.data.arrays import load_array
from behavegpt.data.ingest.batches import read_texts
from behavegpt.data.vocab import FOLDED_PREFIX, Vocabulary
from behavegpt.schema import FIRST_KNOWN_ID, OTHER_ID, PADDING_ID, SPLITS

_MERGED_AT_ONCE = 32


def merge_values(directory: Path, blocks: Sequence[str], column: str) -> pa.Array:
    """Return the (V,) distinct texts of a column, ascending, and leave each block's codes for them on disk."""
    texts = pa.array([], pa.string())
    for start in range(0, len(blocks), _MERGED_AT_ONCE):
        group = [read_texts(directory / f"{name}.{column}") for name in blocks[start : start + _MERGED_AT_ONCE]]
        texts = pc.unique(pa.chunked_array([texts, *group]))
    texts = texts.take(pc.array_sort_indices(texts))
    for name in blocks:
        codes = pc.index_in(read_texts(directory / f"{name}.{column}"), value_set=texts).to_numpy()
        np.save(_codes_path(directory, name, column), np.append(codes, np.int32(-1)))
    return texts


def read_codes(directory: Path, block: str, column: str) -> np.ndarray:
    """Return the codes of a block's own texts, in their order; the last is -1, for the code -1 of a missing value."""
    return np.array(load_array(_codes_path(directory, block, column)))


def _codes_path(directory: Path, block: str, column: str) -> Path:
    return directory / f"{block}.{column}.npy"


@dataclass(frozen=True, kw_only=True, slots=True)
class ValueCounts:
    """How often each of V values of a column occurs, and among how many users."""

    events: np.ndarray
    """(3, V) number of events of each split."""
    training_users: np.ndarray
    """(V,) number of users who have the value in a training event."""

    def __add__(self, other: "ValueCounts") -> "ValueCounts":
        """Return the sums; the parts share no user."""
        return ValueCounts(events=self.events + other.events, training_users=self.training_users + other.training_users)


def count_values(codes: np.ndarray, num_values: int, split: np.ndarray, user: np.ndarray) -> ValueCounts:
    """Return the counts of a column.

    Args:
        codes: (R,) int32, -1 where missing.
        num_values: V.
        split: (R,) index of each event's split.
        user: (R,) index of each event's user.
    """
    at = (split.astype(np.int64) * (num_values + 1) + codes + 1).astype(np.int64)
    events = np.bincount(at, minlength=3 * (num_values + 1)).reshape(3, num_values + 1)[:, 1:]
    training = (split == 0) & (codes >= 0)
    pairs = user[training].astype(np.uint64) << np.uint64(32) | codes[training].astype(np.uint64)
    pairs.sort()
    distinct = pairs[np.append(True, pairs[1:] != pairs[:-1])] if len(pairs) else pairs
    users = np.bincount((distinct & np.uint64(0xFFFFFFFF)).astype(np.int64), minlength=num_values)
    return ValueCounts(events=events, training_users=users)


def learn_vocabulary(texts: pa.Array, counts: ValueCounts, min_users: int) -> tuple[Vocabulary, np.ndarray]:
    """Return the vocabulary of the training events, and the (V + 1,) unsigned ids of codes 0 .. V - 1 and -1.

    Values that fewer than `min_users` users have in training, and those that training never saw, get OTHER_ID; the
    last entry, which the code -1 indexes, is PADDING_ID.
    """
    frequency = counts.events[0]
    known = np.flatnonzero((frequency > 0) & (counts.training_users >= min_users))
    known = known[np.argsort(-frequency[known], kind="stable")]
    ids = np.full(len(texts) + 1, OTHER_ID, np.min_scalar_type(FIRST_KNOWN_ID + len(known) - 1))
    ids[known] = np.arange(FIRST_KNOWN_ID, FIRST_KNOWN_ID + len(known))
    ids[-1] = PADDING_ID
    return Vocabulary(tuple(texts.take(pa.array(known)).to_pylist()), tuple(frequency[known].tolist())), ids


def name_others(
    events: Vocabulary, behaviors: pa.Array, folded: ValueCounts, min_users: int
) -> tuple[Vocabulary, np.ndarray]:
    """Return the events with `other` of each behaviour after them, and (B + 1,) ids of a folded event by its behaviour.

    An event without an id of its own keeps what its row says anyway. Behaviours of which fewer than `min_users` users
    have folded training events, and a missing one (the last entry), get OTHER_ID.

    Args:
        behaviors: (B,) texts.
        folded: By behaviour, of the events that are OTHER_ID by their own text.
    """
    own, ids = learn_vocabulary(behaviors, folded, min_users)
    shift = len(events.values)
    ids = np.where(ids < FIRST_KNOWN_ID, OTHER_ID, ids.astype(np.int64) + shift)
    values, taken = [], set(events.values)
    for behavior in own.values:
        # A log may have an event of this name.
        value = f"{FOLDED_PREFIX}{behavior}"
        while value in taken:
            value = f"{FOLDED_PREFIX}{value}"
        taken.add(value)
        values.append(value)
    whole = Vocabulary(events.values + tuple(values), events.counts + own.counts)
    return whole, ids.astype(np.min_scalar_type(max(whole.size - 1, OTHER_ID)))


def count_others(column: str, counts: ValueCounts, ids: np.ndarray) -> dict[str, int]:
    """Return how many events of each split have the id `other`, and how many values and events rarity sent there."""
    other = ids[:-1] == OTHER_ID
    rare = other & (counts.events[0] > 0)
    found = {f"other_{column}_{name}": int(counts.events[i][other].sum()) for i, name in enumerate(SPLITS)}
    return found | {
        f"rare_{column}_values": int(rare.sum()),
        f"rare_{column}_events": int(counts.events[:, rare].sum()),
    }
