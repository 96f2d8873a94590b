"""Where every way starts, parameter by parameter, and what of it moves; which verdict a difference gets."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from behavegpt.data.manifest import read_manifest
from behavegpt.errors import InputError
from behavegpt.model.config import for_width
from behavegpt.model.transformer import BehaveGPT, initialise
from behavegpt.tasks.adaptation.transfer import shape_problems, starting_weights, write_start
from behavegpt.tasks.adaptation.ways import WAYS
from behavegpt.tasks.load import Found
from behavegpt.train.config import ExecutionConfig, TrainConfig
from behavegpt.train.engine import build_engine
from behavegpt.train.lora import initialise_updates, restrict
from behavegpt.train.saved import load_model, read_saved

PHONE = {"weekday": 8, "slot": 49, "location": 40, "event": 30, "behavior": 11}
VISITS = PHONE | {"location": 9, "event": 17, "behavior": 6}
BLOCK = ("attention_norm", "attention.qkv", "attention.output", "feed_forward_norm", "feed_forward.hidden")
BLOCK = (*BLOCK, "feed_forward.output")
TRUNK = {f"blocks.{i}.{layer}.{what}" for i in (0, 1) for layer in BLOCK for what in ("weight", "bias")}
TRUNK |= {"positions", "final_norm.weight", "final_norm.bias"}
HEAD = {"head.hidden.weight", "head.hidden.bias"}
NEW = {f"embeddings.{name}.weight" for name in ("weekday", "slot", "location", "event")}
NEW |= {"head.output.weight", "head.output.bias"}
NORMS = {name for name in TRUNK if "norm" in name} | {"positions"}
UPDATES = {f"blocks.{i}.attention.qkv.{w}_{side}.weight" for i in (0, 1) for w in ("q", "v") for side in ("down", "up")}
TAKEN = {"scratch": set(), "blocks": TRUNK} | dict.fromkeys(("blocks-and-head", "lora", "ofa", "frozen"), TRUNK | HEAD)
MOVED = dict.fromkeys(("scratch", "blocks", "blocks-and-head"), TRUNK | HEAD | NEW)
MOVED |= {"lora": NEW | UPDATES, "ofa": NEW | NORMS | HEAD, "frozen": NEW}
TARGET = for_width(16, vocabulary_sizes=VISITS)


@pytest.fixture
def pretrained() -> Found:
    """Return a model that was moved away from any initialisation."""
    config = for_width(16, vocabulary_sizes=PHONE)
    model, generator = BehaveGPT(config), torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.empty(parameter.shape).normal_(generator=generator))
    return Found(
        path=Path("phone"),
        config=config,
        weights=model.state_dict(),
        seed=0,
        loss="erm",
        num_events=100,
        fingerprint="f",
        prior_correction=0.0,
        note=None,
        group="g",
    )


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_each_way_takes_its_parts_and_draws_the_rest_as_from_scratch(pretrained, way):
    scratch = BehaveGPT(TARGET)
    initialise(scratch, 3)
    drawn = scratch.state_dict()
    start = starting_weights(pretrained, TARGET, way.takes, 3)
    assert start.keys() == drawn.keys() == TRUNK | HEAD | NEW
    for name, value in start.items():
        assert torch.equal(value, (pretrained.weights if name in TAKEN[way.name] else drawn)[name]), name


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_each_way_moves_its_parts_alone(pretrained, way):
    model = BehaveGPT(TARGET)
    model.load_state_dict(starting_weights(pretrained, TARGET, way.takes, 0))
    restrict(model, way.trains)
    initialise_updates(model, 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    engine = build_engine(model, TrainConfig(learning_rate=0.01), ExecutionConfig(engine="torch"))
    for step in range(2):
        logits = engine.module(*[torch.full((2, 90), 2 + step) for _ in range(4)])
        engine.step((logits**2).sum(), 1.0)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == MOVED[way.name]
    assert way.num_trained(TARGET) == sum(before[name].numel() for name in moved)


def test_trained_parameters_in_closed_form():
    counts = {way.name: way.num_trained(TARGET) for way in WAYS}
    tables, output = (8 + 49 + 9 + 17) * 4, 16 * 5 + 5
    block = 12 * 16**2 + 13 * 16
    everything = tables + 90 * 16 + 2 * block + 2 * 16 + 16 * 16 + 16 + output
    assert counts["scratch"] == counts["blocks"] == counts["blocks-and-head"] == everything
    assert counts["frozen"] == tables + output
    assert counts["lora"] == tables + output + 2 * 2 * (8 * 16 + 16 * 8)
    assert counts["ofa"] == tables + output + 90 * 16 + 2 * 4 * 16 + 2 * 16 + 16 * 16 + 16


def test_a_start_is_a_finished_model_that_its_content_names(pretrained, generated, tmp_path):
    manifest = read_manifest(generated)
    model = for_width(16, vocabulary_sizes=manifest.vocabulary_sizes)
    takes = WAYS[2].takes
    path, sha256 = write_start(tmp_path, pretrained, model, takes, 0, generated, manifest)
    assert read_saved(path).sha256 == sha256
    expected = starting_weights(pretrained, model, takes, 0)
    for name, value in load_model(path).state_dict().items():
        assert torch.equal(value, expected[name])
    assert write_start(tmp_path, pretrained, model, takes, 0, generated, manifest) == (path, sha256)
    others = [write_start(tmp_path, pretrained, model, t, s, generated, manifest) for t, s in ((takes, 1), ((), 0))]
    assert len({path, *(other for other, _ in others)}) == len(list(tmp_path.iterdir())) == 3
    (path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"config\.json: not the configuration"):
        write_start(tmp_path, pretrained, model, takes, 0, generated, manifest)


def test_only_vocabularies_may_differ(pretrained):
    assert shape_problems(pretrained, TARGET) == []
    other = replace(TARGET, depth=3, num_heads=4)
    assert shape_problems(pretrained, other) == [
        "phone: model.depth is 2; the models that it is compared with have 3",
        "phone: model.num_heads is 1; the models that it is compared with have 4",
    ]
