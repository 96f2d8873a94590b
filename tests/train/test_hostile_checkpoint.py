"""A checkpoint that somebody else wrote or altered, its digests put right, may be wrong but runs nothing."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from behavegpt.train.checkpoint import checksum

FILES = ["engine-00000.safetensors", "loop.safetensors"]


class Bomb:
    """A pickle of it makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("forged", [False, True])
@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_pickle_in_place_of_a_file_is_refused_and_runs_nothing(store, saved, forge, tmp_path, name, forged, form):
    marker = tmp_path / "executed"
    if form == "pickle":
        (saved / name).write_bytes(pickle.dumps(Bomb(marker)))
    else:
        torch.save({"step": Bomb(marker)}, saved / name)
    if forged:
        forge(saved)
    assert store.usable().trunk == set()
    [sentence] = store.usable().rejected
    assert name in sentence and ("no safetensors file" in sentence) == forged
    assert not marker.exists()


@pytest.mark.parametrize(
    "name", ["mp_rank_00_model_states.pt", "latest", "engine-00001.safetensors", "sub/engine-00001.safetensors"]
)
def test_a_file_that_the_manifest_does_not_list_is_refused_and_runs_nothing(store, saved, tmp_path, name):
    marker = tmp_path / "executed"
    (saved / name).parent.mkdir(exist_ok=True)
    (saved / name).write_bytes(pickle.dumps(Bomb(marker)))
    assert store.problem(saved) == f"{name.split('/')[0]} is not listed in its manifest"
    assert not marker.exists()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda t: t.pop("exp_avg.positions"), "exp_avg.positions"),
        (lambda t: t.update({"weight.stranger": torch.zeros(2)}), "weight.stranger"),
        (lambda t: t.update({"weight.positions": torch.zeros(3, 3)}), "weight.positions"),
        (lambda t: t.update({"weight.positions": t["weight.positions"].half()}), "F16"),
        (lambda t: t.pop("adamw_step"), "adamw_step"),
    ],
)
def test_a_forged_state_of_another_model_is_named_and_not_used(store, saved, forge, change, word):
    tensors = load_file(saved / FILES[0])
    change(tensors)
    save_file(tensors, saved / FILES[0])
    forge(saved)
    problem = store.problem(saved)
    assert problem is not None and word in problem


def test_a_tensor_in_two_files_is_named_and_its_checkpoint_not_used(store, saved, forge):
    zeros = {name: tensor * 0 for name, tensor in load_file(saved / FILES[0]).items()}
    save_file(zeros, saved / "engine-00001.safetensors")
    forge(saved)
    problem = store.problem(saved)
    assert problem is not None and problem.startswith("engine-00001.safetensors has ")
    assert problem.endswith(", which another file has too")


@pytest.mark.parametrize("rng", [torch.zeros(5, dtype=torch.uint8), torch.zeros(5_056, dtype=torch.uint8)])
def test_a_random_state_that_is_none_is_named_and_not_used(store, saved, forge, rng):
    save_file({"rng": rng}, saved / FILES[1])
    forge(saved)
    assert store.problem(saved) == "loop.safetensors has no random state"


def test_a_manifest_with_a_name_that_no_file_can_have_is_a_problem_not_a_crash(store, saved):
    content = json.loads((saved / "manifest.json").read_text())
    del content["checksum"]
    content["files"]["x" * 300] = {"size": 1, "sha256": ""}
    (saved / "manifest.json").write_text(json.dumps({**content, "checksum": checksum(content)}))
    assert store.problem(saved) == f"{'x' * 300} is unreadable (File name too long)"
