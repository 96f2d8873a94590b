"""Vocabularies: the values of location, event and behaviour that the training split has, and their ids.

Ids follow the frequency in training: FIRST_KNOWN_ID is the most frequent value, so a behaviour's id is its rank from
head to tail. Values that training never saw map to OTHER_ID.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from behavegpt.schema import FIRST_KNOWN_ID, OTHER_ID, PADDING_ID


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The known values of one column, by descending count in the training split, ties by value."""

    values: tuple[str, ...]
    counts: tuple[int, ...]
    """How often each value occurs among the training split's events."""

    @property
    def size(self) -> int:
        """Rows of the embedding table: the known values, padding and other."""
        return len(self.values) + FIRST_KNOWN_ID


def learn_vocabulary(codes: np.ndarray, values: pa.Array, in_training: np.ndarray) -> tuple[Vocabulary, np.ndarray]:
    """Return the vocabulary of the training events, and the id of every event's value.

    Args:
        codes: (R,) index into `values`, negative where the value is missing.
        values: Distinct texts, ascending.
        in_training: (R,) booleans.

    Returns:
        The vocabulary and (R,) uint32 ids: PADDING_ID where missing, OTHER_ID where training never saw the value.
    """
    counts = np.bincount(codes[in_training & (codes >= 0)], minlength=len(values))
    known = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    ids = np.full(len(values) + 1, OTHER_ID, np.uint32)
    ids[known] = np.arange(FIRST_KNOWN_ID, FIRST_KNOWN_ID + len(known))
    ids[-1] = PADDING_ID
    vocabulary = Vocabulary(tuple(values.take(pa.array(known)).to_pylist()), tuple(counts[known].tolist()))
    return vocabulary, ids[np.where(codes < 0, len(values), codes)]


def write_vocabulary(path: Path, vocabulary: Vocabulary) -> None:
    """Write columns id, value and count as Parquet."""
    columns = {
        "id": pa.array(range(FIRST_KNOWN_ID, vocabulary.size), pa.int64()),
        "value": pa.array(vocabulary.values, pa.string()),
        "count": pa.array(vocabulary.counts, pa.int64()),
    }
    pq.write_table(pa.table(columns), path)


def read_vocabulary(path: Path) -> Vocabulary:
    """Return the vocabulary that `write_vocabulary` wrote."""
    with pq.ParquetFile(path) as file:
        table = file.read()
    return Vocabulary(tuple(table["value"].to_pylist()), tuple(table["count"].to_pylist()))
