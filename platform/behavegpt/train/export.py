"""Write a finished model for people and programs: weights, configuration, vocabularies and a card; see saved.py.

In: a checkpoint (a cell's final one, or any on the way), the dataset that it was trained on, and the cell's row where
there is one. Out: a directory that appears whole or not at all.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

import behavegpt
from behavegpt.data.manifest import Manifest, read_manifest
from behavegpt.data.vocab import read_vocabulary
from behavegpt.errors import InputError
from behavegpt.files import fsync, sha256_of
from behavegpt.schema import VOCABULARIES
from behavegpt.train.card import card_text
from behavegpt.train.checkpoint_manifest import read_checkpoint_manifest
from behavegpt.train.record import MANIFEST_NAME
from behavegpt.train.saved import CONFIG_NAME, FORMAT, VOCABULARY_NAME, WEIGHTS_NAME, model_config, read_saved
from behavegpt.train.state import PATTERN, parameter_shapes, state_problem

CARD_NAME = "README.md"
RESULTS = ("loss", "loss_stderr", "train_loss", "num_events", "num_steps", "num_params", "num_params_total", "flops")
"""Of a cell's row."""


def export_model(checkpoint: Path, dataset: Path, out: Path, row: dict[str, Any] | None = None) -> Path:
    """Write the model of a checkpoint to the new directory `out` and return it.

    Args:
        row: The row of the results table that the checkpoint gave, if it gave one.

    Raises:
        InputError: The checkpoint is damaged, the dataset is another one, or `out` exists.
    """
    if out.exists():
        raise InputError(f"{out}: exists already; --out names a new directory")
    content, manifest = read_checked(checkpoint), read_manifest(dataset)
    fingerprint = content["recipe"]["dataset"]["fingerprint"]
    if manifest.fingerprint != fingerprint:
        raise InputError(
            f"{dataset}: has fingerprint {manifest.fingerprint[:12]}; {checkpoint} was trained on {fingerprint[:12]}"
        )
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _write_weights(checkpoint, partial / WEIGHTS_NAME)
        record = _record(content, manifest, row, sha256_of(partial / WEIGHTS_NAME))
        paths = {name: dataset / manifest.vocabulary_path(name) for name in VOCABULARIES}
        values = {name: list(read_vocabulary(path).values) for name, path in paths.items()}
        (partial / CONFIG_NAME).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        (partial / VOCABULARY_NAME).write_text(json.dumps(values, indent=0, ensure_ascii=False), encoding="utf-8")
        (partial / CARD_NAME).write_text(card_text(record), encoding="utf-8")
        read_saved(partial)
        for path in [*partial.iterdir(), partial]:
            fsync(path)
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    fsync(out.parent)
    return out


def read_checked(checkpoint: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint after checking every file that it lists.

    Raises:
        InputError: There is none, or it is damaged.
    """
    content = read_checkpoint_manifest(checkpoint)
    if isinstance(content, str):
        raise InputError(f"{checkpoint}: no checkpoint of a model; {content}")
    wrong = [
        name
        for name, entry in content["files"].items()
        if not (checkpoint / name).is_file() or sha256_of(checkpoint / name) != entry["sha256"]
    ]
    if wrong:
        raise InputError(*(f"{checkpoint / name}: missing or damaged" for name in wrong))
    model = model_config(checkpoint / MANIFEST_NAME, content["recipe"].get("model"))
    if problem := state_problem(checkpoint, parameter_shapes(model)):
        raise InputError(f"{checkpoint}: {problem}")
    return content


def _write_weights(checkpoint: Path, path: Path) -> None:
    weights = {}
    for part in sorted(checkpoint.glob(PATTERN)):
        with safe_open(part, framework="pt") as file:
            names = [key for key in file.keys() if key.startswith("weight.")]  # noqa: SIM118 - no mapping
            weights |= {key.removeprefix("weight."): file.get_tensor(key) for key in names}
    save_file(weights, path, metadata={"format": "pt"})


def _record(
    content: dict[str, Any], manifest: Manifest, row: dict[str, Any] | None, weights_sha256: str
) -> dict[str, Any]:
    splits = {
        name: {"num_windows": s.num_windows, "num_targets": s.num_targets, "num_users": s.num_users}
        for name, s in manifest.splits.items()
    }
    return {
        "format": FORMAT,
        "model": content["recipe"]["model"],
        "vocabulary_sizes": manifest.vocabulary_sizes,
        "dataset": {"name": manifest.name, "fingerprint": manifest.fingerprint, "splits": splits},
        "train": content["recipe"]["train"],
        "checkpoint": {key: content[key] for key in ("name", "cursor", "config_hash", "code_version", "execution")},
        "result": {key: row[key] for key in RESULTS if key in row} if row else None,
        "weights_sha256": weights_sha256,
        "behavegpt_version": behavegpt.__version__,
    }
