"""Finished BehaveGPT models as rows of a comparison: runs that differ by their seed alone are one row.

In: directories that jobs/export.py or jobs/pretrain.py left. Out: `Row`s. Every file is compared with its digest before
it is read, and nothing is unpickled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from behavegpt.config import config_hash
from behavegpt.data.manifest import Manifest
from behavegpt.errors import InputError
from behavegpt.model.attention import resolve_attention
from behavegpt.model.config import ModelConfig
from behavegpt.model.sizing import count_params
from behavegpt.model.transformer import BehaveGPT
from behavegpt.tasks.models import ModelSystem
from behavegpt.tasks.next_behavior import Row
from behavegpt.train.correction import shift_note
from behavegpt.train.export import read_checked, read_plain_weights
from behavegpt.train.record import MANIFEST_NAME
from behavegpt.train.saved import CONFIG_NAME, load_weights, model_config, read_saved

FINAL = "final-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One finished model, checked."""

    path: Path
    config: ModelConfig
    weights: dict[str, Tensor]
    seed: int
    loss: str
    num_events: int
    fingerprint: str
    """Of the dataset that it was trained on."""
    prior_correction: float
    """How much of its training's class prior was taken out, 0 .. 1."""
    note: str | None
    """What a user of its probabilities should know."""
    group: str
    """Of all that its numbers depend on but the seed."""


def read_rows(directories: Sequence[Path], manifest: Manifest, device: torch.device) -> list[Row]:
    """Return the rows of the models, in the order of the directories.

    Raises:
        InputError: A directory holds no finished model, a damaged one, or one of another dataset; each is named.
    """
    problems: list[str] = []
    groups: dict[str, list[Found]] = {}
    for directory in directories:
        try:
            found = read_found(directory)
            _check_dataset(found, manifest)
        except InputError as error:
            problems += error.problems
            continue
        group = groups.setdefault(found.group, [])
        problems += [f"{directory}: the same model and seed as {f.path}" for f in group if f.seed == found.seed]
        group.append(found)
    if problems:
        raise InputError(*problems)
    names = names_of([group[0] for group in groups.values()])
    return [_row(name, group, device) for name, group in zip(names, groups.values(), strict=True)]


def read_found(directory: Path) -> Found:
    """Return the finished model that a directory holds, of whichever dataset.

    Raises:
        InputError: There is none, or it is damaged.
    """
    if (directory / CONFIG_NAME).is_file() and not (directory / "checkpoints").is_dir():
        saved = read_saved(directory)
        record = saved.record
        return _found(directory, record, saved.model, load_weights(saved))
    path = _final_checkpoint(directory)
    content = read_checked(path)
    config = model_config(path / MANIFEST_NAME, content["recipe"]["model"])
    return _found(path, content["recipe"] | {"checkpoint": content}, config, read_plain_weights(path, content))


def _check_dataset(found: Found, manifest: Manifest) -> None:
    if found.fingerprint != manifest.fingerprint:
        then, now = found.fingerprint[:12], manifest.fingerprint[:12]
        raise InputError(f"{found.path}: trained on dataset {then}, this is {now}, whose ids mean other things")


def _final_checkpoint(directory: Path) -> Path:
    """Return the one finished checkpoint that the directory of a run holds, or is."""
    if directory.name.startswith(FINAL) and directory.is_dir():
        return directory
    paths = [path for path in sorted(directory.glob(f"checkpoints/*/{FINAL}*")) if path.suffix != ".partial"]
    if not paths:
        raise InputError(f"{directory}: no finished model (no {CONFIG_NAME}, nor checkpoints/*/{FINAL}*)")
    if len(paths) > 1:
        raise InputError(f"{directory}: holds {len(paths)} finished models; name one: {', '.join(map(str, paths))}")
    return paths[0]


def _found(path: Path, record: dict[str, Any], config: ModelConfig, weights: dict[str, Tensor]) -> Found:
    """Return a model from the record of what trained it."""
    try:
        fingerprint, train = str(record["dataset"]["fingerprint"]), dict(record["train"])
        seed, loss = int(train.pop("seed")), train["loss"]["kind"] if train["loss"] else "erm"
        num_events = int(record["checkpoint"]["name"].removeprefix(FINAL))
        correction = float(record.get("prior_correction", 0.0))
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: does not say what it was trained on and how ({error!r})") from error
    identity = {"model": config, "train": train, "events": num_events, "dataset": fingerprint, "prior": correction}
    return Found(
        path=path,
        config=config,
        weights=weights,
        seed=seed,
        loss=loss,
        num_events=num_events,
        fingerprint=fingerprint,
        prior_correction=correction,
        note=shift_note(path, record),
        group=config_hash(identity),
    )


def names_of(groups: Sequence[Found]) -> list[str]:
    """Return a name for each group: its loss, and what else tells it from the others."""
    ways = [
        _loss_name,
        lambda f: f"{_loss_name(f)}-w{f.config.width}x{f.config.depth}",
        lambda f: f"{_loss_name(f)}-w{f.config.width}x{f.config.depth}-d{f.num_events}",
        lambda f: f"{_loss_name(f)}-w{f.config.width}x{f.config.depth}-d{f.num_events}-{f.group[:6]}",
    ]
    return next(names for way in ways if len(set(names := [way(f) for f in groups])) == len(groups))


def _loss_name(found: Found) -> str:
    return f"behavegpt-{found.loss}" + (f"-corrected{found.prior_correction:g}" if found.prior_correction else "")


def _row(name: str, group: Sequence[Found], device: torch.device) -> Row:
    runs = []
    for found in group:
        model = BehaveGPT(found.config, resolve_attention(found.config.attention, device))
        model.load_state_dict(found.weights)
        runs.append(ModelSystem(name, model.to(device), count_params(found.config), device))
    seeds = tuple(found.seed for found in group)
    return Row(
        name=name, runs=tuple(runs), seeds=seeds, num_events=group[0].num_events, is_model=True, note=group[0].note
    )
