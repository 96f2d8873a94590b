"""The model that predicts, and the vocabulary that says what its ids mean.

In: a directory that jobs/export.py wrote, and perhaps the dataset that the model was trained on. Out: a `Served`. Every
file is checked before it is read, and nothing is unpickled.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from behavegpt.data.manifest import Manifest
from behavegpt.data.vocab import folded_events, read_vocabulary
from behavegpt.errors import InputError
from behavegpt.model.attention import resolve_attention
from behavegpt.model.config import ModelConfig
from behavegpt.model.transformer import BehaveGPT
from behavegpt.schema import NUM_INPUTS, NUM_SLOTS, NUM_WEEKDAYS, VOCABULARIES
from behavegpt.train.correction import shift_note
from behavegpt.train.saved import (
    CONFIG_NAME,
    VOCABULARY_NAME,
    SavedModel,
    load_weights,
    read_saved,
    read_vocabulary_values,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """A model that is ready to predict."""

    model: BehaveGPT
    values: dict[str, list[str]]
    """Of location, event and behavior in the order of their ids, which begin at FIRST_KNOWN_ID."""
    sha256: str
    """Of the file of its weights."""
    dataset: str
    """Fingerprint of what it was trained on."""
    note: str | None
    """What a user of its probabilities should know."""

    @property
    def folded(self) -> dict[str, int]:
        """By behaviour, the id under which the model knows its events that have none of their own."""
        return folded_events(self.values["event"], set(self.values["behavior"]))


def open_model(directory: Path, dataset: tuple[Path, Manifest] | None) -> Served:
    """Return the model in `directory`, in float32 on the CPU.

    Args:
        dataset: A verified dataset, which must be the one that the model was trained on. It gives the vocabulary of a
            model that has lost its own.

    Raises:
        InputError: It is no finished model, a file of it is damaged, or the dataset is another one.
    """
    saved = read_saved(directory)
    path = directory / CONFIG_NAME
    try:
        fingerprint = str(saved.record["dataset"]["fingerprint"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: does not say on which dataset the model was trained ({error!r})") from error
    if problems := [f"{path}: {problem}" for problem in _shape_problems(saved.model)]:
        raise InputError(*problems)
    if dataset is not None and dataset[1].fingerprint != fingerprint:
        now = dataset[1].fingerprint[:12]
        raise InputError(
            f"{dataset[0]}: has fingerprint {now}; {path} says that the model was trained on {fingerprint[:12]}, "
            "whose ids mean other things"
        )
    values = _read_values(saved, dataset)
    model = BehaveGPT(saved.model, resolve_attention(saved.model.attention, "cpu"))
    model.load_state_dict(load_weights(saved))
    return Served(
        model=model.eval(), values=values, sha256=saved.sha256, dataset=fingerprint, note=shift_note(path, saved.record)
    )


def _shape_problems(model: ModelConfig) -> Iterator[str]:
    least = {"num_positions": NUM_INPUTS, "num_weekdays": NUM_WEEKDAYS, "num_slots": NUM_SLOTS}
    for name, needed in least.items():
        if getattr(model, name) < needed:
            yield f"model.{name} is {getattr(model, name)}; histories need {needed}"


def _read_values(saved: SavedModel, dataset: tuple[Path, Manifest] | None) -> dict[str, list[str]]:
    path = saved.directory / VOCABULARY_NAME
    if dataset is None:
        if not path.exists():
            raise InputError(f"{path}: missing; --dataset names the one that the model was trained on")
        return read_vocabulary_values(saved.directory)
    directory, manifest = dataset
    theirs = {name: list(read_vocabulary(directory / manifest.vocabulary_path(name)).values) for name in VOCABULARIES}
    if path.exists() and (own := read_vocabulary_values(saved.directory)) != theirs:
        wrong = ", ".join(name for name in VOCABULARIES if own[name] != theirs[name])
        raise InputError(f"{path}: {wrong} differ from the vocabulary of {directory}; export the model again")
    return theirs
