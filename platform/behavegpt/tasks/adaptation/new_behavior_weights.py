"""Extend a pretrained model to behaviours and events that it has never met (BehaveGPT, section 3.3).

In: an exported model, the vocabularies of a dataset that knows more, and how often each class is a target there. Out: a
model directory that training can start from. Known rows of the tables and of the head are kept, found by their value;
the blocks, the norms, the positions and the head's hidden layer are kept whole. New rows are drawn as the model itself
starts: at a width of 1024 a row of the head is then N(0, 0.02), and narrower models keep its variance.

Legend: R rows of a table, V classes (class c is behaviour id c + 1).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from behavegpt.config import plain
from behavegpt.data.manifest import Manifest
from behavegpt.data.vocab import read_vocabulary
from behavegpt.model.config import WEIGHTS_FORMAT, ModelConfig
from behavegpt.model.transformer import EMBEDDING_STD, MATRIX_STD
from behavegpt.schema import FIRST_KNOWN_ID, OTHER_ID, VOCABULARIES
from behavegpt.train.export import write_saved
from behavegpt.train.saved import SavedModel, load_weights, read_saved, read_vocabulary_values

HEAD_WEIGHT, HEAD_BIAS = "head.output.weight", "head.output.bias"
TABLES = {"location": "embeddings.location.weight", "event": "embeddings.event.weight"}


def extend(saved: SavedModel, dataset: Path, manifest: Manifest, counts_V: np.ndarray, seed: int, out: Path) -> Path:
    """Write the model, extended to the vocabularies of a dataset, as the directory `out` unless it is there.

    Args:
        counts_V: Training targets of each class of the dataset.
        seed: Draws the new rows.

    Raises:
        InputError: A file of the model is missing or damaged.
    """
    if out.exists():
        read_saved(out)
        return out
    old = read_vocabulary_values(saved.directory)
    new = {c: list(read_vocabulary(dataset / manifest.vocabulary_path(c)).values) for c in VOCABULARIES}
    rows = {column: source_rows(old[column], new[column]) for column in VOCABULARIES}
    weights = extend_weights(load_weights(saved), rows, counts_V, seed)
    config = extended_config(saved.model, manifest)
    record = {
        "format": WEIGHTS_FORMAT,
        "model": plain(config),
        "vocabulary_sizes": manifest.vocabulary_sizes,
        "dataset": {"name": manifest.name, "fingerprint": manifest.fingerprint},
        "extends": {"weights_sha256": saved.sha256, "seed": seed},
    }
    return write_saved(out, weights, record, dataset, manifest, lambda record: _CARD)


_CARD = """# An extended model

Known rows kept, rows of new behaviours and events drawn anew, not trained yet: see `extends` in config.json.
"""


def extended_config(model: ModelConfig, manifest: Manifest) -> ModelConfig:
    """Return the model's shape with the tables of a dataset."""
    sizes = manifest.vocabulary_sizes
    return replace(
        model, num_locations=sizes["location"], num_event_ids=sizes["event"], num_behavior_ids=sizes["behavior"]
    )


def source_rows(old: Sequence[str], new: Sequence[str]) -> np.ndarray:
    """Return (R,) the old id of each new id, -1 where the value is new; padding and `other` keep theirs."""
    at = {value: index + FIRST_KNOWN_ID for index, value in enumerate(old)}
    return np.array([*range(FIRST_KNOWN_ID), *(at.get(value, -1) for value in new)], np.int64)


def extend_weights(
    weights: Mapping[str, Tensor], rows: Mapping[str, np.ndarray], counts_V: np.ndarray, seed: int
) -> dict[str, Tensor]:
    """Return the weights of the extended model.

    On generated phone logs at width 64, after 256 steps, rows of N(0, 0.02) throughout left the recall of two new
    behaviours at 0.24 and 0.06, where rows of the scale of their neighbours gave 0.32 and 0.15.

    Args:
        rows: `source_rows` of location, event and behavior.
        counts_V: Training targets of each class of the extended model.
    """
    generator = torch.Generator().manual_seed(seed)
    extended = dict(weights)
    for column, name in TABLES.items():
        extended[name] = _rows(weights[name], rows[column], EMBEDDING_STD, generator)
    # Class c is behaviour id c + 1, before and after.
    classes = rows["behavior"][OTHER_ID:]
    sources = np.where(classes >= 0, classes - 1, -1)
    head = weights[HEAD_WEIGHT]
    extended[HEAD_WEIGHT] = _rows(head, sources, MATRIX_STD / math.sqrt(head.shape[1]), generator)
    extended[HEAD_BIAS] = extend_bias(weights[HEAD_BIAS], sources, counts_V)
    return extended


def extend_bias(bias: Tensor, sources_V: np.ndarray, counts_V: np.ndarray) -> Tensor:
    """Return the biases (V,) of the extended head: a new class's stands to the known ones' as its log frequency does.

    b_new = log n_new + mean over known c of (b_c - log n_c), over the known classes that are targets at all. The total
    number of targets cancels out. Without it the new class would start at even odds with the most frequent ones. A new
    class that is no target keeps n = 1.
    """
    log_counts = torch.from_numpy(np.log(np.maximum(counts_V, 1)))
    known = torch.from_numpy((sources_V >= 0) & (counts_V > 0))
    kept = bias.double()[torch.from_numpy(np.maximum(sources_V, 0))]
    offset = (kept - log_counts)[known].mean()
    return torch.where(torch.from_numpy(sources_V >= 0), kept, log_counts + offset).to(bias.dtype)


def _rows(table: Tensor, sources: np.ndarray, std: float, generator: torch.Generator) -> Tensor:
    """Return a table whose row r is the old row sources[r], or N(0, std) where that is -1."""
    fresh = torch.empty(len(sources), *table.shape[1:], dtype=table.dtype).normal_(0.0, std, generator=generator)
    old = table[torch.from_numpy(np.maximum(sources, 0))]
    return torch.where(torch.from_numpy(sources >= 0)[:, None], old, fresh).contiguous()
