"""Where an adapted model starts: parts of a pretrained model, the rest drawn anew, in the target's vocabulary.

In: directories of pretrained models, and the target's model. Out: `Source`s, checked, and for each start the directory
of a finished model that the training loop can start from (TrainConfig.initial).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from behavegpt.config import config_hash, plain
from behavegpt.data.manifest import Manifest
from behavegpt.errors import InputError
from behavegpt.model.config import WEIGHTS_FORMAT, ModelConfig
from behavegpt.model.transformer import BehaveGPT, initialise
from behavegpt.tasks.ablation.runs import ERM
from behavegpt.tasks.load import Found, names_of, read_found
from behavegpt.train.export import write_saved
from behavegpt.train.saved import read_saved
from behavegpt.train.trainable import Part, part_of

VOCABULARY = {"num_locations", "num_event_ids", "num_behavior_ids", "num_weekdays", "num_slots"}
"""What may differ between a pretrained model and the target's: it shapes the parts that are new."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A pretrained model, in one or several seeds."""

    name: str
    """Its loss, and what else tells it from the others."""
    models: tuple[Found, ...]
    """Equal but for the seed."""

    def model(self, run: int) -> Found:
        """Return the model from which the target's run of this number starts."""
        return self.models[run % len(self.models)]


def read_sources(directories: Sequence[Path], target: Manifest) -> tuple[Source, ...]:
    """Return the pretrained models, those with plain cross-entropy first; seeds of one recipe are one source.

    Raises:
        InputError: A directory holds no finished model, a damaged one or one of the target itself, or two have blocks
            of different shapes; each is named.
    """
    problems: list[str] = []
    groups: dict[str, list[Found]] = {}
    for directory in directories:
        try:
            found = read_found(directory)
        except InputError as error:
            problems += error.problems
            continue
        if found.fingerprint == target.fingerprint:
            problems.append(f"{directory}: trained on {target.name} itself; give models of another dataset")
        group = groups.setdefault(found.group, [])
        problems += [f"{directory}: the same model and seed as {f.path}" for f in group if f.seed == found.seed]
        group.append(found)
    every = [found for group in groups.values() for found in group]
    problems += [problem for found in every[1:] for problem in shape_problems(found, every[0].config)]
    if problems:
        raise InputError(*problems)
    ordered = sorted(groups.values(), key=lambda group: group[0].loss != ERM)
    names = names_of([group[0] for group in ordered])
    return tuple(
        Source(name=name.removeprefix("behavegpt-"), models=tuple(group))
        for name, group in zip(names, ordered, strict=True)
    )


def shape_problems(found: Found, target: ModelConfig) -> list[str]:
    """Return a sentence for each way in which the blocks of a pretrained model are not those of another model."""
    keys = [field.name for field in fields(ModelConfig) if field.name not in {*VOCABULARY, "attention"}]
    pairs = {key: (getattr(found.config, key), getattr(target, key)) for key in keys}
    return [
        f"{found.path}: model.{key} is {mine}; the models that it is compared with have {theirs}"
        for key, (mine, theirs) in pairs.items()
        if mine != theirs
    ]


def starting_weights(source: Found, target: ModelConfig, takes: Iterable[Part], seed: int) -> dict[str, Tensor]:
    """Return the weights of the target's model: the parts `takes` are the source's, the others are drawn from the seed.

    What is drawn does not depend on `takes`: it is what a run from scratch with this seed starts from.
    """
    model = BehaveGPT(target)
    initialise(model, seed)
    drawn, taken = model.state_dict(), set(takes)
    return {name: source.weights[name] if part_of(name) in taken else value for name, value in drawn.items()}


def write_start(
    out: Path, source: Found, model: ModelConfig, takes: tuple[Part, ...], seed: int, dataset: Path, manifest: Manifest
) -> tuple[Path, str]:
    """Write a start into a directory of `out` that its content names, unless it is there; return it and its digest.

    Raises:
        InputError: What is there is damaged.
    """
    weights = starting_weights(source, model, takes, seed)
    record = {
        "format": WEIGHTS_FORMAT,
        "model": plain(model) | {"attention": "auto"},
        "vocabulary_sizes": manifest.vocabulary_sizes,
        "dataset": {"name": manifest.name, "fingerprint": manifest.fingerprint},
        "transfer": {"from": source.group, "dataset": source.fingerprint, "parts": list(takes), "seed": seed},
    }
    path = out / config_hash({"record": record, "weights": hashlib.sha256(save(weights)).hexdigest()})
    if not path.exists():
        write_saved(path, weights, record, dataset, manifest, lambda record: _CARD)
    return path, read_saved(path).sha256


_CARD = """# The start of an adapted model

Parts of a pretrained model, the rest drawn anew: see `transfer` in config.json.
"""
