"""An exported model that was forged or damaged is refused in a sentence, and runs nothing."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from behavegpt.errors import InputError
from behavegpt.files import sha256_of
from behavegpt.train.saved import load_model, read_vocabulary_values


class Bomb:
    """A pickle of it makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def reweigh(directory: Path, change) -> None:
    """Alter the weights and put the digest right."""
    weights = load_file(directory / "model.safetensors")
    change(weights)
    save_file(weights, directory / "model.safetensors")
    reconfigure(directory, lambda r: r.update(weights_sha256=sha256_of(directory / "model.safetensors")))


def reconfigure(directory: Path, change) -> None:
    record = json.loads((directory / "config.json").read_text())
    change(record)
    (directory / "config.json").write_text(json.dumps(record))


def shape(key: str, value: object):
    return lambda d: reconfigure(d, lambda r: r["model"].update({key: value}))


def nan(weights: dict[str, torch.Tensor]) -> None:
    weights["positions"][3, 1] = float("nan")


HOSTILE = {
    "absurd depth": (shape("depth", 10**9), "parameters of 4 bytes"),
    "absurd width": (shape("width", 4 * 10**12), "parameters of 4 bytes"),
    "absurd table": (shape("num_locations", 10**15), "parameters of 4 bytes"),
    "another width": (shape("width", 12), "positions is F32 of shape"),
    "negative": (shape("depth", -1), "model.depth is -1"),
    "text": (shape("width", "16"), "model.width is '16'"),
    "float": (shape("width", 16.0), "model.width is 16.0"),
    "a dropout of text": (shape("dropout", "high"), "wrong type"),
    "unknown key": (shape("widht", 16), "model.widht is no key. Did you mean 'width'?"),
    "missing key": (lambda d: reconfigure(d, lambda r: r["model"].pop("depth")), "model.depth is missing"),
    "another format": (
        lambda d: reconfigure(d, lambda r: r.update(format=9)),
        "weights of format 9, where this version",
    ),
    "no format": (lambda d: reconfigure(d, lambda r: r.pop("format")), "not the configuration"),
    "no model": (lambda d: reconfigure(d, lambda r: r.update(model=[])), "it must be an object"),
    "no JSON": (lambda d: (d / "config.json").write_bytes(b"\x80\x04."), "cannot be read"),
    "deep JSON": (lambda d: (d / "config.json").write_text("[" * 100_000), "no JSON"),
    "huge JSON": (lambda d: (d / "config.json").write_text(" " * (2 << 20)), "at most 1,048,576 are read"),
    "no config": (lambda d: (d / "config.json").unlink(), "cannot be read"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "cannot be read"),
    "a directory": (lambda d: ((d / "config.json").unlink(), (d / "config.json").mkdir()), "cannot be read"),
    "a pipe": (
        lambda d: ((d / "config.json").unlink(), os.mkfifo(d / "config.json")),
        "cannot be read (not a regular file)",
    ),
    "NaN": (lambda d: reweigh(d, nan), "positions holds a weight that is not a number"),
    "missing tensor": (lambda d: reweigh(d, lambda w: w.pop("positions")), "parameters of 4 bytes"),
    "stranger": (lambda d: reweigh(d, lambda w: w.update(x=torch.zeros(1))), "x is no parameter of the model"),
    "half": (
        lambda d: reweigh(d, lambda w: w.update(positions=w["positions"].half(), x=w["positions"])),
        "positions is F16",
    ),
    "damaged": (lambda d: flip_last(d / "model.safetensors"), "its sha256 is not the one"),
    "truncated": (lambda d: (d / "model.safetensors").write_bytes(b"\xff" * 10**6), "no safetensors file"),
}


def flip_last(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(("change", "word"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_export_is_refused_in_a_sentence(exported, change, word):
    change(exported)
    with pytest.raises(InputError) as refused:
        load_model(exported)
    assert word in str(refused.value)
    assert all(problem.startswith(str(exported)) for problem in refused.value.problems)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocabulary.json"])
def test_a_pickle_under_any_name_is_refused_and_runs_nothing(exported, tmp_path, name):
    marker = tmp_path / "executed"
    if name == "model.safetensors":
        torch.save({"pad": torch.zeros(10**6), "bomb": Bomb(marker)}, exported / name)
        reconfigure(exported, lambda r: r.update(weights_sha256=sha256_of(exported / name)))
    else:
        (exported / name).write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        (read_vocabulary_values if name == "vocabulary.json" else load_model)(exported)
    assert not marker.exists()
