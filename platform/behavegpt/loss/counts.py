"""How often each class is a training target, and after which behaviour: one pass over the training split.

In: a dataset. Out: exact counts, of what training scores: the vocabulary's counts are those of events, of which the
first of a user is no target, and they lack `other`. Legend: G classes (class c is behaviour id c + 1), W windows.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from behavegpt.data.lanes import DIGITS, read_row_groups
from behavegpt.data.manifest import Manifest
from behavegpt.data.windows import as_matrix, target_mask


class Transitions(NamedTuple):
    """The pairs (behaviour of an event, class of the next target) that the training split has."""

    pairs: np.ndarray
    """(P,) int64 context x G + class, rising; the context is a behaviour id from 0 (missing) to G."""
    counts: np.ndarray
    """(P,) int64 how often each pair occurs."""


def count_targets(directory: Path, manifest: Manifest) -> np.ndarray:
    """Return (G,) int64 how many of the training split's targets each class has.

    Raises:
        OSError: A shard is missing, damaged or another one; the message names it.
    """
    num_classes = manifest.vocabulary_sizes["behavior"] - 1
    counts = np.zeros(num_classes, np.int64)
    for behavior_WL, scored_WL in _shards(directory, manifest):
        counts += np.bincount(behavior_WL[scored_WL] - 1, minlength=num_classes)
    return counts


def count_transitions(directory: Path, manifest: Manifest) -> Transitions:
    """Return how often each class is a target after each behaviour; memory for the pairs that occur alone.

    Raises:
        OSError: A shard is missing, damaged or another one; the message names it.
    """
    num_classes = manifest.vocabulary_sizes["behavior"] - 1
    found = Transitions(np.zeros(0, np.int64), np.zeros(0, np.int64))
    for behavior_WL, scored_WL in _shards(directory, manifest):
        next_scored_WL = scored_WL[:, 1:]
        pairs = behavior_WL[:, :-1][next_scored_WL] * num_classes + behavior_WL[:, 1:][next_scored_WL] - 1
        here = Transitions(*np.unique(pairs, return_counts=True))
        merged, place = np.unique(np.concatenate([found.pairs, here.pairs]), return_inverse=True)
        counts = np.zeros(len(merged), np.int64)
        np.add.at(counts, place, np.concatenate([found.counts, here.counts]))
        found = Transitions(merged, counts)
    return found


def _shards(directory: Path, manifest: Manifest) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each training shard's behaviour ids (W, L) int64, and which of them are targets, in stored order."""
    for shard in manifest.splits["train"].shards:
        path = directory / shard.path
        table = read_row_groups(path, shard, range(len(shard.crc32) // DIGITS - 1), ["behavior", "first_target"])
        behavior_WL = as_matrix(table["behavior"]).astype(np.int64)
        scored_WL = target_mask(behavior_WL, table["first_target"].to_numpy())
        if len(behavior_WL) != shard.num_windows or scored_WL.sum() != shard.num_targets:
            raise OSError(f"{path}: its targets do not add up to the manifest's; verify the dataset")
        yield behavior_WL, scored_WL
