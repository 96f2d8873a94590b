"""Write a finished model for people and programs: weights, configuration, vocabularies and a card; see saved.py.

In: a checkpoint (a cell's final one, or any on the way), the dataset that it was trained on, and the cell's row where
there is one. Out: a directory that appears whole or not at all.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import behavegpt
from behavegpt.data.manifest import Manifest, read_manifest
from behavegpt.data.vocab import read_vocabulary
from behavegpt.errors import FULL, InputError
from behavegpt.files import fsync, remove, sha256_of
from behavegpt.loss.config import read_loss
from behavegpt.model.config import WEIGHTS_FORMAT
from behavegpt.model.sizing import count_params
from behavegpt.schema import VOCABULARIES
from behavegpt.train.card import card_text
from behavegpt.train.checkpoint_manifest import files_problems, read_checkpoint_manifest
from behavegpt.train.correction import corrected_weights
from behavegpt.train.lora import merged
from behavegpt.train.record import MANIFEST_NAME
from behavegpt.train.saved import CONFIG_NAME, VOCABULARY_NAME, WEIGHTS_NAME, model_config, read_saved
from behavegpt.train.state import PATTERN, loop_problem, state_problem, state_shapes
from behavegpt.train.trainable import Trainable, read_trainable

CARD_NAME = "README.md"
RESULTS = ("loss", "loss_stderr", "train_loss", "num_events", "num_steps", "num_params", "num_params_total", "flops")
"""Of a cell's row."""


def export_model(
    checkpoint: Path,
    dataset: Path,
    out: Path,
    row: dict[str, Any] | None = None,
    prior_correction: float = 0.0,
) -> Path:
    """Write the model of a checkpoint to the new directory `out` and return it.

    Args:
        row: The row of the results table that the checkpoint gave, if it gave one.
        prior_correction: How much of the class prior that a robust loss trained is taken out: `corrected_weights`.

    Raises:
        InputError: The checkpoint is damaged, the dataset is another one, or `out` exists.
    """
    if os.path.lexists(out):
        raise InputError(f"{out}: exists already; --out names a new directory")
    content, manifest = read_checked(checkpoint), read_manifest(dataset)
    fingerprint = content["recipe"]["dataset"]["fingerprint"]
    if manifest.fingerprint != fingerprint:
        raise InputError(
            f"{dataset}: has fingerprint {manifest.fingerprint[:12]}; {checkpoint} was trained on {fingerprint[:12]}"
        )
    weights = read_plain_weights(checkpoint, content)
    if prior_correction != 0:
        weights = corrected_weights(weights, checkpoint, content, (dataset, manifest), prior_correction)
        row = None  # its losses are those before the correction
    record = _record(content, manifest, row) | {"prior_correction": prior_correction}
    return write_saved(out, weights, record, dataset, manifest, card_text)


def write_saved(
    out: Path,
    weights: Mapping[str, Tensor],
    record: dict[str, Any],
    dataset: Path,
    manifest: Manifest,
    card: Callable[[dict[str, Any]], str],
) -> Path:
    """Write a finished model in the vocabulary of a dataset to the directory `out`, at once, and return it.

    Args:
        weights: By the names of a plain model's parameters.
        record: What config.json says but for the digest of the weights, which is added.
        card: Returns the text of README.md for the record.

    Raises:
        InputError: `out` cannot be made where it shall lie, or a weight is not a number.
        OSError: The disk is full.
    """
    if wrong := sorted(name for name, value in weights.items() if not bool(value.isfinite().all())):
        what = f"{wrong[0]} of its model holds a weight that is not a number"
        raise InputError(f"{out}: not written, {what}; try an earlier checkpoint")
    partial = out.with_name(f".{out.name}.partial")
    try:
        remove(partial)
        partial.mkdir(parents=True)
    except OSError as error:
        if error.errno in FULL:
            raise
        raise InputError(f"{out}: cannot be made ({error.strerror}: {error.filename})") from error
    try:
        save_file(dict(weights), partial / WEIGHTS_NAME, metadata={"format": "pt"})
        record = record | {"weights_sha256": sha256_of(partial / WEIGHTS_NAME)}
        values = {name: _values_of(dataset, manifest, name) for name in VOCABULARIES}
        (partial / CONFIG_NAME).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        (partial / VOCABULARY_NAME).write_text(json.dumps(values, indent=0, ensure_ascii=False), encoding="utf-8")
        (partial / CARD_NAME).write_text(card(record), encoding="utf-8")
        read_saved(partial)
        for path in [*partial.iterdir(), partial]:
            fsync(path)
        partial.rename(out)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if _is_full(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out)) from error
        raise
    fsync(out.parent)
    return out


def _values_of(dataset: Path, manifest: Manifest, name: str) -> list[str]:
    path = dataset / manifest.vocabulary_path(name)
    expected = manifest.vocabulary_sha256.get(name)
    if not path.is_file() or (expected and sha256_of(path) != expected):
        raise InputError(f"{path}: missing or damaged; --dataset may name an intact copy, or make the dataset again")
    return list(read_vocabulary(path).values)


def _is_full(error: BaseException) -> bool:
    """Return whether it says that the disk is full; safetensors says so in words alone."""
    if isinstance(error, SafetensorError):
        return any(f"(os error {code})" in str(error) for code in FULL)
    return isinstance(error, OSError) and error.errno in FULL


def read_checked(checkpoint: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint after checking every file that it lists.

    Raises:
        InputError: There is none, or it is damaged.
    """
    content = read_checkpoint_manifest(checkpoint)
    if isinstance(content, str):
        raise InputError(f"{checkpoint}: no checkpoint of a model; {content}")
    if wrong := files_problems(checkpoint, content):
        raise InputError(*(f"{checkpoint / name}: {why}" for name, why in wrong.items()))
    path, recipe = checkpoint / MANIFEST_NAME, content["recipe"]
    read_loss(path, recipe["train"].get("loss"))
    model = model_config(path, recipe.get("model"))
    total, size = count_params(model).total, sum(entry["size"] for entry in content["files"].values())
    # Before anything is built: a depth of a billion would take for ever.
    if 4 * total > size:
        raise InputError(f"{path}: its files have {size:,} bytes; its model has {total:,} parameters of 4 bytes")
    shapes = state_shapes(model, trainable=_trainable_of(checkpoint, content))
    if problem := loop_problem(checkpoint) or state_problem(checkpoint, shapes):
        raise InputError(f"{checkpoint}: {problem}")
    return content


def read_plain_weights(checkpoint: Path, content: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights of a checked checkpoint as a plain model's, with low-rank updates added in.

    Args:
        content: What `read_checked` returned.
    """
    weights = {}
    for part in sorted(checkpoint.glob(PATTERN)):
        with safe_open(part, framework="pt") as file:
            names = [key for key in file.keys() if key.startswith("weight.")]  # noqa: SIM118 - no mapping
            weights |= {key.removeprefix("weight."): file.get_tensor(key) for key in names}
    return merged(weights, _trainable_of(checkpoint, content))


def _trainable_of(checkpoint: Path, content: dict[str, Any]) -> Trainable | None:
    return read_trainable(checkpoint / MANIFEST_NAME, content["recipe"]["train"].get("trainable"))


def _record(content: dict[str, Any], manifest: Manifest, row: dict[str, Any] | None) -> dict[str, Any]:
    splits = {
        name: {"num_windows": s.num_windows, "num_targets": s.num_targets, "num_users": s.num_users}
        for name, s in manifest.splits.items()
    }
    return {
        "format": WEIGHTS_FORMAT,
        "model": content["recipe"]["model"],
        "vocabulary_sizes": manifest.vocabulary_sizes,
        "dataset": {"name": manifest.name, "fingerprint": manifest.fingerprint, "splits": splits},
        "train": content["recipe"]["train"],
        "checkpoint": {key: content[key] for key in ("name", "cursor", "config_hash", "code_version", "execution")},
        "result": {key: row[key] for key in RESULTS if key in row} if row else None,
        "behavegpt_version": behavegpt.__version__,
    }
