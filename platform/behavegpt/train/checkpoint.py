"""Checkpoints of a trunk and its branches: directories that appear complete or not at all, verified before a read.

    checkpoints/<trunk_id>/step-00000123/               of the trunk
                           branch-4000-step-00000130/   on the way of the branch to D = 4000
        manifest.json, loop.safetensors, engine-<rank>.safetensors

In: the engine and the loop's own tensors (loss and random state). Out: the same, bit for bit, on any engine, ZeRO stage
and number of workers. The manifest lists every file's size and sha256, the data cursor, the configuration, the dataset
and who wrote it; it is written last, then the directory renamed. No file is a pickle, so that a forged checkpoint can
be wrong but runs nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from behavegpt.errors import InputError
from behavegpt.files import fsync, remove, sha256_of
from behavegpt.model.config import WEIGHTS_FORMAT
from behavegpt.train.checkpoint_manifest import LOOP_NAME, checksum, files_problems, read_checkpoint_manifest
from behavegpt.train.distributed import barrier, rank
from behavegpt.train.engine import Engine
from behavegpt.train.identity import Identity, differences
from behavegpt.train.record import MANIFEST_NAME, branch_name, saved_branch_steps, saved_steps, step_name
from behavegpt.train.state import loop_problem, state_problem

KEPT = 2
"""Checkpoints on the way that are kept of a trunk and of a branch: the newest, and one should that be damaged."""


@dataclass(frozen=True, slots=True)
class Usable:
    """The valid checkpoints of a trunk."""

    trunk: set[int] = field(default_factory=set)
    """Steps."""
    branches: dict[int, set[int]] = field(default_factory=dict)
    """Steps, by the D of the branch."""
    rejected: list[str] = field(default_factory=list)
    """A sentence for each one that is not."""


@dataclass(frozen=True, slots=True)
class CheckpointStore:
    """The checkpoints of one trunk."""

    directory: Path
    identity: Identity
    shapes: Mapping[str, tuple[int, ...]]
    """Of every tensor in the engine's files, by name."""

    def path(self, name: str) -> Path:
        return self.directory / name

    def usable(self) -> Usable:
        """Return what can be resumed.

        Raises:
            InputError: A checkpoint was written for another configuration or dataset; every difference is named.
        """
        found = Usable()
        for step in sorted(saved_steps(self.directory)):
            if self._accepted(step_name(step), found.rejected):
                found.trunk.add(step)
        for num_events, steps in saved_branch_steps(self.directory).items():
            good = {step for step in sorted(steps) if self._accepted(branch_name(num_events, step), found.rejected)}
            found.branches[num_events] = good
        return found

    def _accepted(self, name: str, rejected: list[str]) -> bool:
        if problem := self.problem(self.path(name)):
            rejected.append(f"{self.path(name)}: {problem}; not used")
        return problem is None

    def problem(self, path: Path) -> str | None:
        """Return why the checkpoint at `path` must not be read, or None.

        Raises:
            InputError: It is another configuration's or dataset's.
        """
        manifest = read_checkpoint_manifest(path)
        if isinstance(manifest, str):
            return manifest
        if changed := differences(manifest["recipe"], self.identity.recipe):
            raise InputError(*(f"{path}: written for another configuration, {one} (then -> now)" for one in changed))
        if manifest["code_version"] != self.identity.code_version:
            return f"it was written by code {manifest['code_version']}, this is {self.identity.code_version}"
        if manifest["name"] != path.name:
            return f"it was saved as {manifest['name']}"
        for name, why in files_problems(path, manifest).items():
            return f"{name} is {why}"
        return loop_problem(path) or state_problem(path, self.shapes)

    def save(
        self, name: str, engine: Engine, loop_state: dict[str, Tensor], cursor: dict[str, int], fork: bool = False
    ) -> None:
        """Write a checkpoint called `name`, replacing one of that name; all ranks call this together.

        Args:
            loop_state: Rank 0's tensors are kept; random state must be the same on every rank or unused.
            cursor: Where the run is: steps taken, windows and targets consumed.
            fork: Whether a branch starts here: then it is kept.
        """
        partial = self.directory / f"{name}.partial"
        if rank() == 0:
            remove(partial)
            partial.mkdir(parents=True)
        barrier()
        engine.save(partial)
        barrier()
        if rank() == 0:
            save_file(loop_state, partial / LOOP_NAME)
            paths = sorted(partial.iterdir())
            files = {path.name: {"size": path.stat().st_size, "sha256": sha256_of(path)} for path in paths}
            content = {"name": name, "model_format": WEIGHTS_FORMAT, "cursor": cursor, "fork": fork}
            content |= {**self.identity.record(), "files": files}
            text = json.dumps({**content, "checksum": checksum(content)}, indent=1)
            (partial / MANIFEST_NAME).write_text(text, encoding="utf-8")
            for path in [*partial.iterdir(), partial]:
                fsync(path)
            remove(self.path(name))
            partial.rename(self.path(name))
            fsync(self.directory)
        barrier()

    def load(self, name: str, engine: Engine) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Restore the engine from checkpoint `name`; return the loop's tensors, and what execution wrote it."""
        manifest = read_checkpoint_manifest(self.path(name))
        assert not isinstance(manifest, str), "only usable checkpoints are loaded"
        engine.load(self.path(name))
        return load_file(self.path(name) / LOOP_NAME), manifest["execution"]

    def remove_partial(self) -> None:
        """Remove what a killed run left half-written."""
        for path in self.directory.glob("*.partial"):
            remove(path)

    def remove_passed(self, step: int, forks: set[int], keep: int = KEPT) -> None:
        """Remove the trunk checkpoints on the way up to `step`, but the last `keep` ones.

        Args:
            forks: Steps at which branches of this job start; those of other jobs on this trunk are marked as such.
        """
        passed = sorted(one for one in saved_steps(self.directory) if one <= step)
        on_the_way = [one for one in passed if one not in forks and not self._is_fork(one)]
        for one in on_the_way[: len(on_the_way) - keep]:
            remove(self.path(step_name(one)))

    def remove_branch(self, num_events: int, keep: int = 0) -> None:
        """Remove the checkpoints within a branch but the last `keep` ones."""
        steps = sorted(saved_branch_steps(self.directory).get(num_events, ()))
        for step in steps[: len(steps) - keep]:
            remove(self.path(branch_name(num_events, step)))

    def _is_fork(self, step: int) -> bool:
        manifest = read_checkpoint_manifest(self.path(step_name(step)))
        return not isinstance(manifest, str) and manifest["fork"]


def random_state() -> dict[str, Tensor]:
    """Return torch's CPU generator state, which dropout draws from on CPUs (no recipe has dropout on a GPU)."""
    return {"rng": torch.get_rng_state()}


def restore_random_state(loop_state: dict[str, Tensor]) -> None:
    """Put torch's CPU generator back to where `random_state` found it."""
    torch.set_rng_state(loop_state["rng"])
