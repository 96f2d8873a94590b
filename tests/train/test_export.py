"""A finished model leaves and comes back: the same logits with torch and safetensors alone; nothing hostile loads."""

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from behavegpt.data.manifest import read_manifest
from behavegpt.data.stream import local_tables
from behavegpt.data.vocab import read_vocabulary
from behavegpt.errors import InputError
from behavegpt.files import sha256_of
from behavegpt.train import export
from behavegpt.train.config import TrunkJob
from behavegpt.train.evaluate import evaluate, read_validation
from behavegpt.train.export import export_model
from behavegpt.train.initial import start_from
from behavegpt.train.loop import train_trunk
from behavegpt.train.saved import load_model, read_saved, read_vocabulary_values


@pytest.fixture
def job(make_job) -> TrunkJob:
    """Return a job that has been trained, its final checkpoint kept."""
    job = replace(make_job(sizes=(1_500,)), keep_final=True)
    train_trunk(job, local_tables, torch.device("cpu"))
    return job


@pytest.fixture
def exported(job, tmp_path) -> Path:
    row = json.loads((job.cell_dir / "d1500.json").read_text())
    return export_model(job.checkpoint_dir / "final-1500", job.dataset, tmp_path / "model", row)


def test_an_exported_model_has_the_cells_loss(job, exported):
    row = json.loads((job.cell_dir / "d1500.json").read_text())
    validation = read_validation(job.dataset, read_manifest(job.dataset), None)
    assert evaluate(load_model(exported), validation, torch.device("cpu")).loss == row["loss"]


def test_it_says_what_it_is(job, exported):
    assert sorted(path.name for path in exported.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "vocabulary.json",
    ]
    record = json.loads((exported / "config.json").read_text())
    manifest = read_manifest(job.dataset)
    assert record["dataset"]["fingerprint"] == manifest.fingerprint
    assert record["vocabulary_sizes"] == manifest.vocabulary_sizes
    assert (record["train"]["learning_rate"], record["model"]["width"]) == (0.01, 16)
    card = (exported / "README.md").read_text()
    for text in (manifest.fingerprint, f"{record['result']['loss']:.4f}", "## Data", "## Metrics", "## Limits"):
        assert text in card
    path = job.dataset / manifest.vocabulary_path("behavior")
    assert read_vocabulary_values(exported)["behavior"] == list(read_vocabulary(path).values)


def test_it_loads_without_deepspeed_and_ray(exported, tmp_path):
    model = load_model(exported)
    ids = [torch.full((2, 7), 2) for _ in range(4)]
    torch.save({"logits": model(*ids)}, tmp_path / "expected")
    code = f"""
import sys
from pathlib import Path
for name in ("deepspeed", "ray"):
    sys.modules[name] = None  # an import of it raises
import torch
from behavegpt.train.saved import load_model
logits = load_model(Path({str(exported)!r}))(*[torch.full((2, 7), 2) for _ in range(4)])
assert torch.equal(logits, torch.load({str(tmp_path / "expected")!r}, weights_only=True)["logits"])
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_directory_that_exists_and_another_dataset_are_refused(job, exported, tmp_path):
    with pytest.raises(InputError, match="exists already"):
        export_model(job.checkpoint_dir / "final-1500", job.dataset, exported)
    other = shutil.copytree(job.checkpoint_dir / "final-1500", tmp_path / "other")
    (other / "engine-00000.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"engine-00000.safetensors: missing or damaged"):
        export_model(other, job.dataset, tmp_path / "new")
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".new*"))


def test_a_file_that_no_manifest_lists_gives_no_weights(job, tmp_path):
    other = shutil.copytree(job.checkpoint_dir / "final-1500", tmp_path / "other")
    zeros = {name: tensor * 0 for name, tensor in load_file(other / "engine-00000.safetensors").items()}
    save_file(zeros, other / "engine-00001.safetensors")
    with pytest.raises(InputError, match=r"engine-00001.safetensors: not listed in its manifest"):
        export_model(other, job.dataset, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def forged(job, tmp_path, forge, change) -> Path:
    """Return a copy of the job's checkpoint, what its manifest says altered and all digests right."""
    other = shutil.copytree(job.checkpoint_dir / "final-1500", tmp_path / "other")
    content = json.loads((other / "manifest.json").read_text())
    change(content)
    forge(other, **{key: value for key, value in content.items() if key not in ("checksum", "files")})
    return other


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda c: c["recipe"]["model"].update(depth=10**9), "parameters of 4 bytes"),
        (lambda c: c["recipe"]["model"].update(width=4 * 10**12), "parameters of 4 bytes"),
        (lambda c: c["recipe"].pop("dataset"), "its manifest cannot be read"),
        (lambda c: c["recipe"].update(dataset="x"), "its manifest cannot be read"),
        (lambda c: c["recipe"].update(dataset={"fingerprint": 5}), "a value of another type"),
        (lambda c: c["recipe"].update(train=[]), "a value of another type"),
        (lambda c: c["recipe"]["train"].update(loss="robust"), "does not say with which loss"),
        (lambda c: c.update(cursor={}), "its manifest cannot be read"),
        (lambda c: c.update(config_hash=None), "a value of another type"),
    ],
)
def test_a_forged_manifest_is_refused_in_a_sentence_before_a_model_is_built(job, tmp_path, forge, change, word):
    other = forged(job, tmp_path, forge, change)
    with pytest.raises(InputError, match=word) as refused:
        export_model(other, job.dataset, tmp_path / "new")
    assert str(refused.value).startswith(str(other)) and not (tmp_path / "new").exists()


def test_weights_that_are_no_numbers_are_not_exported(job, tmp_path, forge):
    other = forged(job, tmp_path, forge, lambda content: None)
    weights = load_file(other / "engine-00000.safetensors")
    weights["weight.positions"][3, 1] = float("nan")
    save_file(weights, other / "engine-00000.safetensors")
    forge(other)
    with pytest.raises(InputError, match="positions of its model holds a weight that is not a number"):
        export_model(other, job.dataset, tmp_path / "new")
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".new*"))


def test_a_place_where_nothing_can_be_written_is_named(job, tmp_path):
    final = job.checkpoint_dir / "final-1500"
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file" / "new", tmp_path / ("x" * 250), Path("/proc/new")):
        with pytest.raises(InputError, match=f"^{out}: cannot be made"):
            export_model(final, job.dataset, out)
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    with pytest.raises(InputError, match="link: exists already"):
        export_model(final, job.dataset, tmp_path / "link")
    (tmp_path / ".new.partial").write_text("what something else left")
    export_model(final, job.dataset, tmp_path / "new")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left (os error 28)")],
)
def test_a_full_disk_is_named_and_leaves_nothing(job, tmp_path, monkeypatch, error):
    def full(*arguments, **flags):
        raise error

    monkeypatch.setattr(export, "save_file", full)
    with pytest.raises(OSError) as refused:
        export_model(job.checkpoint_dir / "final-1500", job.dataset, tmp_path / "new")
    assert (refused.value.errno, refused.value.filename) == (errno.ENOSPC, str(tmp_path / "new"))
    assert not list(tmp_path.glob("*new*"))


def test_a_trunk_can_start_from_it(job, exported, make_job):
    again = start_from(make_job("again", sizes=(2_000,)), exported)
    assert (again.train.initial, again.initial) == (read_saved(exported).sha256, exported)
    train_trunk(again, local_tables, torch.device("cpu"))
    plain = make_job("plain", sizes=(2_000,))
    train_trunk(plain, local_tables, torch.device("cpu"))
    first = [json.loads(job.curve_path.read_text().splitlines()[0])["loss"] for job in (again, plain)]
    assert first[0] < first[1]  # it knows something from its first step
    with pytest.raises(InputError, match="is not the model"):
        train_trunk(replace(make_job("wrong", initial="0" * 64), initial=exported), local_tables, torch.device("cpu"))


def test_a_model_of_another_shape_or_vocabulary_starts_no_trunk(exported, make_job, tmp_path):
    job = make_job("again", sizes=(2_000,))
    wider = replace(job, model=replace(job.model, width=32))
    with pytest.raises(InputError, match=r"cannot start this model, model.width: 16 -> 32"):
        start_from(wider, exported)
    values = json.loads((exported / "vocabulary.json").read_text())
    values["event"] = values["event"][::-1]
    (exported / "vocabulary.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=f"its event ids mean other things than those of {job.dataset}"):
        start_from(job, exported)


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
    "a pipe": (lambda d: ((d / "config.json").unlink(), os.mkfifo(d / "config.json")), "cannot be read (no file)"),
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
