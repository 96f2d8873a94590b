"""Read a finished model that export.py wrote, with torch and safetensors alone: neither DeepSpeed nor Ray.

In: a directory with config.json, model.safetensors and vocabulary.json. Out: the model, or one sentence for each thing
that is wrong with it. Nothing is unpickled, and no tensor is made before the file's own header was found to fit.
"""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from behavegpt.errors import InputError, did_you_mean
from behavegpt.files import sha256_of
from behavegpt.model.config import WEIGHTS_FORMAT, ModelConfig, other_format
from behavegpt.model.sizing import count_params
from behavegpt.model.transformer import BehaveGPT
from behavegpt.schema import FIRST_KNOWN_ID, VOCABULARIES
from behavegpt.train.state import parameter_shapes

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
VOCABULARY_NAME = "vocabulary.json"
MAX_CONFIG_BYTES = 1 << 20
MAX_VOCABULARY_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class SavedModel:
    """What config.json says of a finished model, checked against its weights' header."""

    directory: Path
    model: ModelConfig
    record: dict[str, Any]
    """All of config.json."""

    @property
    def sha256(self) -> str:
        """Of the weights: names the model wherever it lies."""
        return self.record["weights_sha256"]


def read_saved(directory: Path) -> SavedModel:
    """Return what `directory` holds, without its weights.

    Raises:
        InputError: It is no finished model, or its files contradict each other.
    """
    record = _read_json(directory / CONFIG_NAME, MAX_CONFIG_BYTES)
    if not isinstance(record, dict) or type(record.get("format")) is not int:
        raise InputError(f"{directory / CONFIG_NAME}: not the configuration of a model that jobs/export.py wrote")
    if record["format"] != WEIGHTS_FORMAT:
        raise InputError(f"{directory / CONFIG_NAME}: weights of {other_format(record['format'])}")
    model = model_config(directory / CONFIG_NAME, record.get("model"))
    weights = directory / WEIGHTS_NAME
    if problems := _weight_problems(weights, model):
        raise InputError(*(f"{weights}: {problem}" for problem in problems))
    if sha256_of(weights) != record.get("weights_sha256"):
        raise InputError(f"{weights}: its sha256 is not the one in {CONFIG_NAME}; export it again")
    return SavedModel(directory, model, record)


def load_model(directory: Path) -> BehaveGPT:
    """Return the model in `directory`, in float32 on the CPU and ready to predict.

    Raises:
        InputError: As for `read_saved`, or a weight is not a number.
    """
    saved = read_saved(directory)
    model = BehaveGPT(saved.model)
    model.load_state_dict(load_weights(saved))
    return model.eval()


def load_weights(saved: SavedModel) -> dict[str, torch.Tensor]:
    """Return the weights by name.

    Raises:
        InputError: A weight is not a number.
    """
    weights = load_file(saved.directory / WEIGHTS_NAME)
    if wrong := sorted(name for name, value in weights.items() if not bool(value.isfinite().all())):
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise InputError(f"{saved.directory / WEIGHTS_NAME}: {wrong[0]}{more} holds a weight that is not a number")
    return weights


def read_vocabulary_values(directory: Path) -> dict[str, list[str]]:
    """Return the values of location, event and behavior in the order of their ids, which begin at FIRST_KNOWN_ID.

    Raises:
        InputError: The file is missing or does not fit the model.
    """
    path = directory / VOCABULARY_NAME
    values, model = _read_json(path, MAX_VOCABULARY_BYTES), read_saved(directory).model
    sizes = dict(zip(VOCABULARIES, (model.num_locations, model.num_event_ids, model.num_behavior_ids), strict=True))
    for name, size in sizes.items():
        known = values.get(name) if isinstance(values, dict) else None
        if not isinstance(known, list) or not all(isinstance(value, str) for value in known):
            raise InputError(f"{path}: {name} is no list of values")
        if len(known) != size - FIRST_KNOWN_ID:
            raise InputError(f"{path}: {name} has {len(known)} values; the model has {size - FIRST_KNOWN_ID}")
    return values


def _read_json(path: Path, most: int) -> Any:
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: cannot be read (not a regular file)")  # a device or a pipe would have no end
        size = path.stat().st_size
        text = path.read_text(encoding="utf-8") if size <= most else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__}); jobs/export.py writes it") from error
    if size > most:
        raise InputError(f"{path}: has {size:,} bytes; at most {most:,} are read")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no JSON ({type(error).__name__})") from error


def model_config(path: Path, given: Any) -> ModelConfig:
    """Return the model that a file describes, with the attention kernel left for this machine to choose.

    Raises:
        InputError: A key is missing or unknown, or a value is not allowed.
    """
    if not isinstance(given, dict):
        raise InputError(f"{path}: model is {type(given).__name__}; it must be an object")
    allowed = {field.name for field in fields(ModelConfig)}
    problems = [f"{path}: model.{k} is no key.{did_you_mean(k, allowed)}" for k in given if k not in allowed]
    problems += [f"{path}: model.{key} is missing" for key in sorted(allowed - given.keys())]
    if problems:
        raise InputError(*problems)
    try:
        return replace(ModelConfig(**given), attention="auto")
    except InputError as error:
        raise InputError(*(f"{path}: {problem}" for problem in error.problems)) from error
    except TypeError as error:
        raise InputError(f"{path}: a value of model has the wrong type ({error})") from error


def _weight_problems(path: Path, model: ModelConfig) -> list[str]:
    total = count_params(model).total
    try:
        size = path.stat().st_size
        # Before anything is built: a depth of a billion would take for ever, a width of a billion all memory.
        if 4 * total > size:
            return [f"has {size:,} bytes; the model of {CONFIG_NAME} has {total:,} parameters of 4 bytes"]
        with safe_open(path, framework="pt") as file:
            parts = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            found = {key: (part.get_dtype(), tuple(part.get_shape())) for key, part in parts.items()}
    except OSError as error:
        return [f"cannot be read ({error.strerror or error})"]
    except Exception as error:  # safetensors' own errors share no base class
        return [f"no safetensors file ({error})"]
    expected = parameter_shapes(model)
    problems = [f"{key} is missing" for key in expected if key not in found]
    problems += [f"{key} is no parameter of the model" for key in found if key not in expected]
    problems += [
        f"{key} is {found[key][0]} of shape {found[key][1]}; it must be F32 of shape {shape}"
        for key, shape in expected.items()
        if key in found and found[key] != ("F32", shape)
    ]
    return problems
