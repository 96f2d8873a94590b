"""The checkpoint store on real checkpoints of a tiny model: whole or unused, and only what is passed is removed."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from behavegpt.model.transformer import BehaveGPT, initialise
from behavegpt.train.checkpoint import (
    CheckpointStore,
    random_state,
    restore_random_state,
    saved_steps,
    step_name,
)
from behavegpt.train.engine import Engine, build_engine

EXECUTION = {"trunk_id": "trunk", "engine": "torch", "zero_stage": -1, "num_workers": 1, "device": "cpu"}


def flip(content: bytes, position: int) -> bytes:
    """Return the bytes with the lowest bit of one of them flipped."""
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


def square_sum(engine: Engine) -> torch.Tensor:
    """Return a loss that moves every parameter."""
    return torch.stack([(p**2).sum() for p in engine.module.parameters()]).sum()


def trained(make_job, steps: int, seed: int = 0) -> Engine:
    """Return an engine after some steps, so that its optimiser has moments."""
    job = make_job()
    model = BehaveGPT(job.model)
    initialise(model, seed)
    engine = build_engine(model, job.train, job.execution)
    for _ in range(steps):
        engine.step(square_sum(engine), 1.0)
    return engine


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "trunk", EXECUTION)


@pytest.fixture
def saved(store, make_job) -> Path:
    """Return the directory of a checkpoint before step 3."""
    store.save(step_name(3), trained(make_job, 3), random_state())
    return store.path(step_name(3))


def names(store: CheckpointStore) -> list[str]:
    return sorted(path.name for path in store.directory.iterdir())


def test_a_checkpoint_appears_whole_and_is_usable(store, saved):
    assert names(store) == ["step-00000003"]
    assert sorted(p.name for p in saved.iterdir()) == ["engine.safetensors", "loop.safetensors", "manifest.json"]
    assert store.problem(saved) is None
    assert store.usable() == ({3}, [])


def test_what_is_restored_goes_on_bit_for_bit(store, make_job):
    engine = trained(make_job, 3)
    torch.manual_seed(5)
    store.save(step_name(3), engine, random_state() | {"dro.means": torch.tensor([0.1, 0.2])})
    drawn = torch.rand(4)
    again = trained(make_job, 1, seed=9)
    loop_state = store.load(step_name(3), again)
    restore_random_state(loop_state)
    assert torch.equal(torch.rand(4), drawn)
    assert loop_state["dro.means"].tolist() == torch.tensor([0.1, 0.2]).tolist()
    for one in (engine, again):
        for _ in range(2):
            one.step(square_sum(one), 0.5)
    for (name, expected), value in zip(engine.module.named_parameters(), again.module.parameters(), strict=True):
        assert torch.equal(expected, value), name


@pytest.mark.parametrize("name", ["engine.safetensors", "loop.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "emptied", "flipped", "deleted", "directory"])
def test_every_damaged_file_is_named_and_its_checkpoint_not_used(store, saved, name, damage):
    path = saved / name
    content = path.read_bytes()
    path.unlink()
    if damage == "directory":
        path.mkdir()
    elif damage != "deleted":
        # Of the manifest, a byte amid a digest: the first one of the engine's file.
        position = content.index(b'"sha256": "') + 20 if name == "manifest.json" else len(content) // 2
        changed = {"truncated": content[:-1], "emptied": b"", "flipped": flip(content, position)}
        path.write_bytes(changed[damage])
    whole = "engine.safetensors" if damage == "flipped" else "its manifest cannot be read"
    expected = f"{name} is missing or damaged" if name != "manifest.json" else whole
    problem = store.problem(saved)
    assert problem is not None and problem.startswith(expected)
    assert store.usable() == (set(), [f"{saved}: {problem}; not used"])


@pytest.mark.parametrize("name", ["engine.safetensors", "loop.safetensors"])
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


def test_no_byte_of_a_manifest_can_stop_the_run(store, make_job):
    store.save("step-00000003", trained(make_job, 1), {"x": torch.zeros(1)})
    saved = store.path("step-00000003")
    path = saved / "manifest.json"
    content = path.read_bytes()
    # Whatever an altered byte makes of it, the answer is a sentence; only the name, which nobody reads, may pass.
    name = content.index(b'"name"'), content.index(b'"execution"')
    for position in range(len(content)):
        path.write_bytes(flip(content, position))
        problem = store.problem(saved)
        assert problem or name[0] <= position < name[1], content[position - 9 : position + 9]


@pytest.mark.parametrize(
    "content",
    [
        [],
        3,
        None,
        {},
        {"files": {}},
        *({"execution": EXECUTION, "files": f} for f in ([], {"a": []}, {"manifest.json": 3})),
    ],
)
def test_another_content_of_the_manifest_is_a_problem_not_a_crash(store, saved, content):
    (saved / "manifest.json").write_text(json.dumps(content))
    assert store.problem(saved)
    assert store.usable()[0] == set()


@pytest.mark.parametrize(
    "change",
    [{"trunk_id": "other"}, {"engine": "deepspeed"}, {"zero_stage": 2}, {"num_workers": 2}, {"device": "cuda"}],
)
def test_another_execution_reads_no_checkpoint_and_both_are_named(store, saved, change):
    other = CheckpointStore(store.directory, EXECUTION | change)
    problem = other.problem(saved)
    [(key, value)] = change.items()
    assert problem is not None
    assert f"it was written under {EXECUTION}" in problem
    assert f"{key!r}: {value!r}" in problem.split("this run is")[1]
    assert other.usable()[0] == set()
    assert store.usable() == ({3}, [])


def test_only_trunk_checkpoints_are_steps(store):
    assert saved_steps(store.directory) == set()
    for name in ("step-00000003", "step-00000120", "step-00000004.partial", "final-2000", "step-", "step-x"):
        (store.directory / name).mkdir(parents=True)
    assert saved_steps(store.directory) == {3, 120}
    assert step_name(120) == "step-00000120"


def test_what_is_passed_is_removed_and_forks_are_kept(store, saved):
    for step in (5, 8, 13, 21):
        shutil.copytree(saved, store.path(step_name(step)))
    (store.directory / "final-2000").mkdir()
    store.remove_passed(13, keep={5, 13, 40})
    assert saved_steps(store.directory) == {5, 13, 21}
    store.remove_passed(22, keep={5})
    assert names(store) == ["final-2000", "step-00000005"]
    assert store.usable() == ({5}, [])


def test_the_newest_checkpoint_is_never_removed_by_its_own_step(store, saved):
    store.remove_passed(3, keep=set())
    assert saved_steps(store.directory) == {3}


def test_half_written_checkpoints_are_removed_alone(store, saved):
    for name in ("step-00000005.partial", "final-2000.partial"):
        shutil.copytree(saved, store.path(name))
    store.remove_partial()
    assert names(store) == ["step-00000003"]
    assert store.usable() == ({3}, [])
    CheckpointStore(store.directory / "absent", EXECUTION).remove_partial()


def test_a_save_replaces_a_damaged_checkpoint_and_what_a_killed_save_left(store, saved, make_job):
    (saved / "engine.safetensors").write_bytes(b"torn")
    (saved / "stray").write_text("of another version")
    partial = store.path("step-00000003.partial")
    partial.mkdir()
    (partial / "stray").write_text("half")
    store.save(step_name(3), trained(make_job, 3), random_state())
    assert names(store) == ["step-00000003"]
    assert not (saved / "stray").exists()
    assert store.usable() == ({3}, [])


def test_a_save_that_dies_leaves_the_checkpoint_before_it(store, saved, make_job, monkeypatch):
    class Dies:
        module = torch.nn.Identity()

        def save(self, directory: Path) -> None:
            (directory / "engine.safetensors").write_bytes(b"half")
            raise OSError(28, "No space left on device")

    before = {p.name: p.read_bytes() for p in saved.iterdir()}
    for step in (3, 4):
        with pytest.raises(OSError, match="No space left"):
            store.save(step_name(step), Dies(), random_state())  # pyright: ignore[reportArgumentType]
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before
    assert store.usable() == ({3}, [])
