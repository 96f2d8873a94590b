"""The checkpoint store on real checkpoints of a tiny model: whole or unused, and only what is passed is removed."""

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from behavegpt.data.manifest import read_manifest
from behavegpt.errors import InputError
from behavegpt.files import sha256_of
from behavegpt.train import checkpoint_manifest
from behavegpt.train.checkpoint import CheckpointStore, checksum, random_state, restore_random_state
from behavegpt.train.engine import Engine
from behavegpt.train.identity import differences, identity_of
from behavegpt.train.record import branch_name, saved_branch_steps, saved_steps, step_name

CURSOR = {"step": 3, "window": 3, "num_events": 270}
FILES = ["engine-00000.safetensors", "loop.safetensors"]


def flip(content: bytes, position: int) -> bytes:
    """Return the bytes with the lowest bit of one of them flipped."""
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


def square_sum(engine: Engine) -> torch.Tensor:
    """Return a loss that moves every parameter."""
    return torch.stack([(p**2).sum() for p in engine.module.parameters()]).sum()


def names(store: CheckpointStore) -> list[str]:
    return sorted(path.name for path in store.directory.iterdir())


def test_a_checkpoint_appears_whole_and_is_usable(store, saved):
    assert names(store) == ["step-00000003"]
    assert sorted(p.name for p in saved.iterdir()) == [*FILES, "manifest.json"]
    assert store.problem(saved) is None
    assert (store.usable().trunk, store.usable().rejected) == ({3}, [])
    assert json.loads((saved / "manifest.json").read_text())["cursor"] == CURSOR


def test_what_is_restored_goes_on_bit_for_bit(store, trained):
    engine = trained(3)
    torch.manual_seed(5)
    store.save(step_name(3), engine, random_state() | {"loss.means": torch.tensor([0.1, 0.2])}, CURSOR)
    drawn = torch.rand(4)
    again = trained(1, seed=9)
    loop_state, execution = store.load(step_name(3), again)
    assert execution == {"engine": "torch", "zero_stage": -1, "num_workers": 1, "device": "cpu"}
    restore_random_state(loop_state)
    assert torch.equal(torch.rand(4), drawn)
    assert loop_state["loss.means"].tolist() == torch.tensor([0.1, 0.2]).tolist()
    for one in (engine, again):
        for _ in range(2):
            one.step(square_sum(one), 0.5)
    for (name, expected), value in zip(engine.module.named_parameters(), again.module.parameters(), strict=True):
        assert torch.equal(expected, value), name


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "emptied", "zeroed", "flipped", "deleted", "directory", "pipe"])
def test_every_damaged_file_is_named_and_its_checkpoint_not_used(store, saved, name, damage):
    path = saved / name
    content = path.read_bytes()
    path.unlink()
    if damage == "directory":
        path.mkdir()
    elif damage == "pipe":
        os.mkfifo(path)
    elif damage != "deleted":
        # Of the manifest, a byte amid a digest: the first one of the engine's file.
        position = content.index(b'"sha256": "') + 20 if name == "manifest.json" else len(content) // 2
        changed = {"truncated": content[:-1], "emptied": b"", "zeroed": bytes(len(content))}
        path.write_bytes((changed | {"flipped": flip(content, position)})[damage])
    whole = "its manifest is damaged" if damage == "flipped" else "its manifest cannot be read"
    problem = store.problem(saved)
    assert problem is not None
    assert problem.startswith(f"{name} is missing or damaged" if name != "manifest.json" else whole)
    assert store.usable().trunk == set()
    assert store.usable().rejected == [f"{saved}: {problem}; not used"]


@pytest.mark.parametrize("name", FILES)
def test_a_byte_anywhere_in_a_file_counts(store, saved, name):
    path = saved / name
    content = path.read_bytes()
    for position in {0, 7, 8, len(content) // 3, len(content) - 1}:
        path.write_bytes(flip(content, position))
        assert store.problem(saved) == f"{name} is missing or damaged"
    path.write_bytes(content + b"\0")
    assert store.problem(saved) == f"{name} is missing or damaged"
    path.write_bytes(content)
    assert store.problem(saved) is None


def test_no_byte_of_a_manifest_can_be_altered_unseen_or_stop_the_run(store, saved):
    path = saved / "manifest.json"
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(flip(content, position))
        assert store.problem(saved), content[position - 9 : position + 9]


@pytest.mark.parametrize(
    "content", [[], 3, None, {}, {"files": {}}, *({"files": f, "fork": True} for f in ([], {"a": []}, {"../x": {}}))]
)
def test_another_content_of_the_manifest_is_a_problem_not_a_crash(store, saved, content):
    if isinstance(content, dict):
        content |= {"checksum": checksum(content)}
    (saved / "manifest.json").write_text(json.dumps(content))
    assert store.problem(saved)
    assert store.usable().trunk == set()


def test_another_execution_goes_on_from_a_checkpoint(store, saved):
    other = store.identity.execution | {"engine": "deepspeed", "zero_stage": 2, "num_workers": 2, "device": "cuda"}
    assert replace(store, identity=replace(store.identity, execution=other)).usable().trunk == {3}


def test_other_code_reads_no_checkpoint_and_both_are_named(store, saved):
    other = replace(store, identity=replace(store.identity, code_version="2+b"))
    assert other.problem(saved) == f"it was written by code {store.identity.code_version}, this is 2+b"
    assert other.usable().trunk == set()


def test_weights_of_another_format_are_no_weights_of_this_model(store, saved, forge):
    for found in (1, 3, "2"):
        forge(saved, model_format=found)
        assert store.problem(saved) == (
            f"its weights are of format {found}, where this version computes with format 2; "
            "train the model again with this version"
        )


def test_another_configuration_or_dataset_is_refused_with_every_difference(store, saved, make_job):
    job = make_job(learning_rate=0.02, seed=3)
    manifest = replace(read_manifest(job.dataset), fingerprint="f" * 64)
    other = replace(store, identity=identity_of(job, manifest))
    with pytest.raises(InputError) as refused:
        other.usable()
    then = read_manifest(job.dataset).fingerprint
    assert list(refused.value.problems) == [
        f"{saved}: written for another configuration, {change} (then -> now)"
        for change in (
            f"dataset.fingerprint: {then} -> {'f' * 64}",
            "train.learning_rate: 0.01 -> 0.02",
            "train.seed: 0 -> 3",
        )
    ]


def test_differences_name_what_is_only_on_one_side():
    assert differences({"a": {"b": 1, "c": 2}, "d": None}, {"a": {"b": 1, "e": 3}, "d": {"x": 1}}) == [
        "a.e: absent -> 3",
        "d.x: absent -> 1",
        "a.c: 2 -> absent",
        "d: None -> absent",
    ]


def test_only_trunk_checkpoints_are_steps(store):
    assert saved_steps(store.directory) == set()
    others = ("step-00000004.partial", "final-2000", "step-", "step-x", "branch-9-step-x", "branch-9-step-1.partial")
    misspelt = ("step-5", "step-0000000\u0663", "branch-9-step-1", "branch-09-step-00000130")
    for name in ("step-00000003", "step-00000120", "branch-2000-step-00000130", *others, *misspelt):
        (store.directory / name).mkdir(parents=True)
    assert saved_steps(store.directory) == {3, 120}
    assert saved_branch_steps(store.directory) == {2000: {130}}
    assert (step_name(120), branch_name(2000, 130)) == ("step-00000120", "branch-2000-step-00000130")


def test_two_checkpoints_on_the_way_and_all_forks_are_kept(store, saved, forge):
    for step in (5, 8, 13, 21, 34):
        shutil.copytree(saved, store.path(step_name(step)))
    forge(store.path(step_name(8)), fork=True)  # of another job on this trunk
    (store.directory / "final-2000").mkdir()
    store.remove_passed(21, forks={5, 40})
    assert saved_steps(store.directory) == {5, 8, 13, 21, 34}
    store.remove_passed(34, forks={5}, keep=0)
    assert names(store) == ["final-2000", "step-00000005", "step-00000008"]


def test_two_checkpoints_of_a_branch_are_kept_until_it_ends(store, trained):
    engine = trained(3)
    store.save(step_name(3), engine, random_state(), CURSOR)
    for num_events, step in ((2000, 130), (2000, 140), (2000, 150), (4000, 130)):
        store.save(branch_name(num_events, step), engine, random_state(), CURSOR)
    store.remove_branch(2000, keep=2)
    assert saved_branch_steps(store.directory) == {2000: {140, 150}, 4000: {130}}
    assert store.usable().branches == {2000: {140, 150}, 4000: {130}}
    store.remove_branch(2000)
    assert saved_branch_steps(store.directory) == {4000: {130}}
    assert saved_steps(store.directory) == {3}


def test_half_written_checkpoints_are_removed_alone(store, saved):
    for name in ("step-00000005.partial", "final-2000.partial"):
        shutil.copytree(saved, store.path(name))
    store.remove_partial()
    assert names(store) == ["step-00000003"]
    assert store.usable().trunk == {3}
    replace(store, directory=store.directory / "absent").remove_partial()


def in_place_of(path: Path, kind: str) -> None:
    if kind == "file":
        path.write_bytes(b"no directory")
    else:
        path.symlink_to(path.with_name("absent" if kind == "dangling link" else "elsewhere"))


@pytest.mark.parametrize("kind", ["file", "dangling link", "link"])
def test_what_lies_in_place_of_a_checkpoint_is_named_replaced_and_removed(store, saved, trained, kind):
    aside = saved.rename(saved.with_name("elsewhere"))
    in_place_of(saved, kind)
    assert (store.usable().trunk, len(store.usable().rejected)) == (({3}, 0) if kind == "link" else (set(), 1))
    in_place_of(store.path("step-00000008.partial"), kind)
    store.remove_partial()
    in_place_of(store.path("step-00000003.partial"), kind)
    store.save(step_name(3), trained(3), random_state(), CURSOR)
    assert (store.usable().trunk, store.usable().rejected) == ({3}, [])
    in_place_of(store.path(step_name(5)), kind)
    store.remove_passed(5, forks={3}, keep=0)
    assert names(store) == ["elsewhere", "step-00000003"]
    assert sorted(p.name for p in aside.iterdir()) == [*FILES, "manifest.json"]  # a link's target is somebody else's


def test_a_checkpoint_of_another_step_is_named_and_not_used(store, saved):
    shutil.copytree(saved, store.path(step_name(5)))
    assert store.usable().trunk == {3}
    assert store.usable().rejected == [f"{store.path(step_name(5))}: it was saved as step-00000003; not used"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_read_is_named_and_not_used(store, saved, monkeypatch, name):
    def refuse(path: Path) -> str:
        if path.name == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return sha256_of(path)

    monkeypatch.setattr(checkpoint_manifest, "sha256_of", refuse)
    assert store.usable().rejected == [f"{saved}: {name} is unreadable (Input/output error); not used"]


def test_a_save_replaces_a_damaged_checkpoint_and_what_a_killed_save_left(store, saved, trained):
    (saved / FILES[0]).write_bytes(b"torn")
    (saved / "stray").write_text("of another version")
    partial = store.path("step-00000003.partial")
    partial.mkdir()
    (partial / "stray").write_text("half")
    store.save(step_name(3), trained(3), random_state(), CURSOR)
    assert names(store) == ["step-00000003"]
    assert not (saved / "stray").exists()
    assert store.usable().trunk == {3}


def test_a_save_that_dies_leaves_the_checkpoint_before_it(store, saved):
    class Dies:
        module = torch.nn.Identity()

        def save(self, directory: Path) -> None:
            (directory / FILES[0]).write_bytes(b"half")
            raise OSError(28, "No space left on device")

    before = {p.name: p.read_bytes() for p in saved.iterdir()}
    for step in (3, 4):
        with pytest.raises(OSError, match="No space left"):
            store.save(step_name(step), Dies(), random_state(), CURSOR)  # pyright: ignore[reportArgumentType]
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before
    assert store.usable().trunk == {3}
