"""A finished model leaves and comes back: the same logits with torch and safetensors alone; nothing hostile loads."""

import errno
import json
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
from behavegpt.train import export
from behavegpt.train.evaluate import evaluate, read_validation
from behavegpt.train.export import export_model
from behavegpt.train.initial import start_from
from behavegpt.train.loop import train_trunk
from behavegpt.train.saved import load_model, read_saved, read_vocabulary_values


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


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x")])
def test_a_vocabulary_that_is_missing_or_damaged_is_named(job, tmp_path, damage):
    dataset = tmp_path / "copy"
    shutil.copytree(job.dataset, dataset)
    damage(dataset / "vocab" / "location.parquet")
    with pytest.raises(InputError, match=r"location.parquet: missing or damaged"):
        export_model(job.checkpoint_dir / "final-1500", dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()


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
