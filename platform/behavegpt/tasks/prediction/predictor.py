"""From histories to predictions: the model reads them in batches of one shape, sorted by length.

In: a table of histories. Out: a table with one row a user, in the same order. Batches have WINDOWS_PER_BATCH rows, the
last ones filled up, and as many positions as the row's own length asks for: so a row's result does not depend on which
rows are computed beside it, nor on their number, in the last bit either.

Legend: U users, B = WINDOWS_PER_BATCH rows, I positions of a batch, D width, V classes, K behaviours of a user.
"""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from behavegpt.data.windows import as_matrix
from behavegpt.model.transformer import BehaveGPT
from behavegpt.schema import FEATURES, FIRST_KNOWN_ID, NUM_INPUTS, OTHER_ID, PADDING_ID

WINDOWS_PER_BATCH = 32
"""Small enough for the activations to stay in a CPU's cache."""
LENGTH_STEP = 15
"""A history is filled up to a multiple of so many positions."""
COUNTS = ("num_events", "unknown_events", "unknown_locations", "missing_locations")
"""Columns of the events of a user that the model read, and of those that it does not know."""


class Predictor:
    """Predicts with one model, on the thread that calls it."""

    def __init__(
        self, model: BehaveGPT, behaviors: Sequence[str], top_k: int | None, folded: Collection[int] = ()
    ) -> None:
        """Take a model that is ready.

        Args:
            behaviors: By id from FIRST_KNOWN_ID on.
            top_k: Behaviours of each user, at most as many as there are; None for embeddings.
            folded: Ids of events of which only the behaviour is known.
        """
        assert top_k is None or 1 <= top_k <= len(behaviors)
        self._model = model
        self._behaviors = pa.array(behaviors, pa.string())
        self._top_k = top_k
        self._unknown_events = (OTHER_ID, *folded)

    @torch.inference_mode()
    def __call__(self, histories: pa.Table) -> pa.Table:
        """Return the rows of `output.output_schema` for a table of histories."""
        ids = {name: as_matrix(histories[name]) for name in FEATURES}
        length = histories["length"].to_numpy().astype(np.int64)
        predicted = self._embeddings(ids, length) if self._top_k is None else self._behaviors_of(ids, length)
        inside = np.arange(NUM_INPUTS) < length[:, None]
        counts = {
            "num_events": length,
            "unknown_events": np.isin(ids["event"], self._unknown_events).sum(axis=1),
            "unknown_locations": (ids["location"] == OTHER_ID).sum(axis=1),
            "missing_locations": ((ids["location"] == PADDING_ID) & inside).sum(axis=1),
        }
        columns = {name: pa.array(counts[name].astype(np.uint8)) for name in COUNTS}
        return pa.table({"user": histories["user"], **predicted, **columns})

    def _embeddings(self, ids: dict[str, np.ndarray], length: np.ndarray) -> dict[str, pa.Array]:
        hidden_UD = np.empty((len(length), self._model.config.width), np.float32)
        for rows, hidden_BD in self._batches(ids, length):
            hidden_UD[rows] = hidden_BD[: len(rows)].numpy()
        return {"embedding": pa.FixedSizeListArray.from_arrays(pa.array(hidden_UD.reshape(-1)), hidden_UD.shape[1])}

    def _behaviors_of(self, ids: dict[str, np.ndarray], length: np.ndarray) -> dict[str, pa.Array]:
        assert self._top_k is not None
        shape = len(length), self._top_k
        behavior_UK, probability_UK = np.empty(shape, np.int64), np.empty(shape, np.float32)
        for rows, hidden_BD in self._batches(ids, length):
            probability_BV = self._model.head(hidden_BD).softmax(dim=-1)
            # Class 0 is `other`, which names no behaviour; among equals the more frequent one comes first.
            known_BV = probability_BV[:, FIRST_KNOWN_ID - 1 :]
            top, places = known_BV.sort(dim=-1, descending=True, stable=True)
            behavior_UK[rows] = places[: len(rows), : self._top_k].numpy()
            probability_UK[rows] = top[: len(rows), : self._top_k].numpy()
        names = self._behaviors.take(pa.array(behavior_UK.reshape(-1)))
        return {
            "behaviors": pa.FixedSizeListArray.from_arrays(names, self._top_k),
            "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(probability_UK.reshape(-1)), self._top_k),
        }

    def _batches(self, ids: dict[str, np.ndarray], length: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yield row numbers and the (B, D) states of their last events, of which only the first are theirs."""
        positions = -(-length // LENGTH_STEP) * LENGTH_STEP
        for width in np.unique(positions).tolist():
            of_width = np.flatnonzero(positions == width)
            for first in range(0, len(of_width), WINDOWS_PER_BATCH):
                rows = of_width[first : first + WINDOWS_PER_BATCH]
                weekday, slot, location, event = (_filled(ids[name][rows, :width]) for name in FEATURES)
                yield rows, self._model.read_last(weekday, slot, location, event, _filled(length[rows], 1))


def _filled(values: np.ndarray, fill: int = 0) -> Tensor:
    """Return the values as int64, with rows of `fill` up to WINDOWS_PER_BATCH."""
    filled = np.full((WINDOWS_PER_BATCH, *values.shape[1:]), fill, np.int64)
    filled[: len(values)] = values
    return torch.from_numpy(filled)
