"""A model that is extended: row by row, and biases worked by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from behavegpt.config import plain
from behavegpt.data.manifest import read_manifest
from behavegpt.data.vocab import read_vocabulary
from behavegpt.errors import InputError
from behavegpt.files import sha256_of
from behavegpt.model.config import WEIGHTS_FORMAT, ModelConfig
from behavegpt.model.transformer import BehaveGPT, initialise
from behavegpt.tasks.adaptation.new_behavior_weights import extend, extend_bias, extend_weights, source_rows
from behavegpt.train.saved import load_model, read_saved

OLD = {"location": ["home", "work"], "event": ["call", "chat", "mail"], "behavior": ["talk", "read"]}
NEW = {"location": ["home", "work"], "event": ["chat", "pay", "call", "mail"], "behavior": ["talk", "buy", "read"]}
COUNTS = np.array([0, 8, 2, 4])
"""Of other, talk, buy and read."""


def shape(values: dict[str, list[str]]) -> ModelConfig:
    sizes = {name: len(known) + 2 for name, known in values.items()}
    return ModelConfig(
        width=16,
        depth=1,
        num_heads=1,
        num_locations=sizes["location"],
        num_event_ids=sizes["event"],
        num_behavior_ids=sizes["behavior"],
    )


def old_model() -> BehaveGPT:
    model = BehaveGPT(shape(OLD))
    initialise(model, 3)
    with torch.no_grad():
        model.head.output.bias.copy_(torch.tensor([0.5, 1.0, 0.0]))
    return model


def test_known_values_keep_their_rows_wherever_they_are_now():
    assert source_rows(OLD["event"], NEW["event"]).tolist() == [0, 1, 3, -1, 2, 4]
    before = old_model().state_dict()
    rows = {column: source_rows(OLD[column], NEW[column]) for column in OLD}
    after = extend_weights(before, rows, COUNTS, 0)
    events, old_events = after["embeddings.event.weight"], before["embeddings.event.weight"]
    # padding, other, chat, pay, call, mail
    for new, old in ((0, 0), (1, 1), (2, 3), (4, 2), (5, 4)):
        assert torch.equal(events[new], old_events[old])
    assert events.shape == (6, 4)
    head, old_head = after["head.output.weight"], before["head.output.weight"]
    # Classes: other, talk, buy, read; they were other, talk, read.
    for new, old in ((0, 0), (1, 1), (3, 2)):
        assert torch.equal(head[new], old_head[old])
        assert after["head.output.bias"][new] == before["head.output.bias"][old]
    assert head.shape == (4, 16)
    moved = {"embeddings.event.weight", "head.output.weight", "head.output.bias"}
    for name, weight in before.items():
        assert torch.equal(after[name], weight) is (name not in moved)


def test_new_rows_have_the_scale_of_an_initialised_model_and_the_seed_draws_them():
    new = {"location": ["home", "work"], "event": ["call", *map(str, range(4_000))]}
    new["behavior"] = ["talk", *(f"b{i}" for i in range(1_000))]
    rows = {column: source_rows(OLD[column], new[column]) for column in OLD}
    counts = np.arange(1_002)
    first, again, other = (extend_weights(old_model().state_dict(), rows, counts, seed) for seed in (0, 0, 1))
    for name, std in (("embeddings.event.weight", 0.3), ("head.output.weight", 0.02 * math.sqrt(1024 / 16))):
        fresh = first[name][3:] if "event" in name else first[name][2:]
        assert float(fresh.std()) == pytest.approx(std, rel=0.03)
        assert abs(float(fresh.mean())) < std / 20
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], other[name])


def test_the_bias_of_a_new_class_by_hand():
    # other (never a target) 0.5, talk 1.0, read 0.0; talk occurs 8 times, buy, which is new, twice, read 4 times.
    # Over talk and read the mean of b - log n is (1 - 3 log 2 + 0 - 2 log 2) / 2; buy adds log 2.
    bias = extend_bias(torch.tensor([0.5, 1.0, 0.0]), np.array([0, 1, -1, 2]), COUNTS)
    assert bias.tolist() == pytest.approx([0.5, 1.0, 0.5 - 1.5 * math.log(2), 0.0])
    # Four times as often is log 4 more; twice the shots of everything is the same.
    more = extend_bias(torch.tensor([0.5, 1.0, 0.0]), np.array([0, 1, -1, 2]), np.array([0, 8, 8, 4]))
    assert float(more[2] - bias[2]) == pytest.approx(math.log(4))
    twice = extend_bias(torch.tensor([0.5, 1.0, 0.0]), np.array([0, 1, -1, 2]), 2 * COUNTS)
    assert twice.tolist() == pytest.approx(bias.tolist())


@pytest.fixture
def exported(tmp_path: Path, generated: Path) -> Path:
    """Return a model of the generated dataset that lacks its last two behaviours and all events but three."""
    manifest = read_manifest(generated)
    values = {c: list(read_vocabulary(generated / manifest.vocabulary_path(c)).values) for c in OLD}
    values = {**values, "event": values["event"][:3], "behavior": values["behavior"][:-2]}
    model = BehaveGPT(shape(values))
    initialise(model, 0)
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors")
    record = {
        "format": WEIGHTS_FORMAT,
        "model": plain(model.config),
        "weights_sha256": sha256_of(folder / "model.safetensors"),
    }
    (folder / "config.json").write_text(json.dumps(record))
    (folder / "vocabulary.json").write_text(json.dumps(values))
    return folder


def test_the_extended_model_is_a_model_of_the_dataset(exported: Path, generated: Path, tmp_path: Path):
    manifest = read_manifest(generated)
    counts = np.arange(1, manifest.vocabulary_sizes["behavior"])
    out = extend(read_saved(exported), generated, manifest, counts, 0, tmp_path / "extended")
    model = load_model(out)
    assert model.config.num_event_ids == manifest.vocabulary_sizes["event"]
    assert model.head.output.weight.shape[0] == len(counts)
    old, new = load_file(exported / "model.safetensors"), load_file(out / "model.safetensors")
    assert torch.equal(new["embeddings.event.weight"][:5], old["embeddings.event.weight"])
    assert torch.equal(new["head.output.weight"][:-2], old["head.output.weight"])
    assert torch.equal(new["blocks.0.attention_norm.weight"], old["blocks.0.attention_norm.weight"])
    before = sha256_of(out / "config.json")
    assert extend(read_saved(exported), generated, manifest, counts, 0, out) == out
    assert sha256_of(out / "config.json") == before


def test_a_model_whose_vocabulary_does_not_fit_is_refused(exported: Path, generated: Path, tmp_path: Path):
    (exported / "vocabulary.json").write_text(json.dumps({"location": [], "event": [], "behavior": []}))
    with pytest.raises(InputError, match="location has 0 values"):
        extend(read_saved(exported), generated, read_manifest(generated), np.ones(39), 0, tmp_path / "extended")
    assert not (tmp_path / "extended").exists()
