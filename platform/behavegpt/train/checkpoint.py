"""Checkpoints of a trunk: directories that appear complete or not at all, and are verified before they are read.

    checkpoints/<trunk_id>/step-00000123/    manifest.json, loop.safetensors, and the engine's own files

In: the engine and the loop's own tensors (DRO state, random state). Out: the same, bit for bit. The manifest lists
every file's size and sha256, the step and the execution that wrote it; it is written last, then the directory renamed.
The engine's files may be pickles (DeepSpeed's are): they are read only where they match the manifest of this run.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from behavegpt.files import fsync, sha256_of
from behavegpt.train.distributed import barrier, rank
from behavegpt.train.engine import Engine
from behavegpt.train.record import MANIFEST_NAME, saved_steps, step_name

LOOP_NAME = "loop.safetensors"


@dataclass(frozen=True, slots=True)
class CheckpointStore:
    """The checkpoints of one trunk under one execution; another engine, stage or number of workers reads none."""

    directory: Path
    execution: dict[str, str | int]
    """What the files depend on: trunk_id (so the recipe), code version, engine, ZeRO stage, workers, device."""

    def path(self, name: str) -> Path:
        return self.directory / name

    def usable(self) -> tuple[set[int], list[str]]:
        """Return the steps that have a valid checkpoint, and a sentence for each one that is not."""
        steps, rejected = set(), []
        for step in sorted(saved_steps(self.directory)):
            if problem := self.problem(self.path(step_name(step))):
                rejected.append(f"{self.path(step_name(step))}: {problem}; not used")
            else:
                steps.add(step)
        return steps, rejected

    def remove_partial(self) -> None:
        """Remove what a killed run left half-written."""
        for path in self.directory.glob("*.partial"):
            shutil.rmtree(path)

    def remove_passed(self, step: int, keep: set[int]) -> None:
        """Remove the trunk checkpoints before `step` that are not in `keep`: nothing starts from them any more."""
        for passed in saved_steps(self.directory):
            if passed < step and passed not in keep:
                shutil.rmtree(self.path(step_name(passed)))

    def problem(self, path: Path) -> str | None:
        """Return why the checkpoint at `path` must not be read, or None."""
        try:
            manifest = json.loads((path / MANIFEST_NAME).read_text(encoding="utf-8"))
            execution = manifest["execution"]
            files = {str(name): (entry["size"], entry["sha256"]) for name, entry in manifest["files"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"its manifest cannot be read ({type(error).__name__})"
        if execution != self.execution:
            return f"it was written under {execution}, this run is {self.execution}"
        if LOOP_NAME not in files:
            return f"its manifest does not list {LOOP_NAME}"
        for name, (size, sha256) in files.items():
            file = path / name
            if not file.is_file() or file.stat().st_size != size or sha256_of(file) != sha256:
                return f"{name} is missing or damaged"
        return None

    def save(self, name: str, engine: Engine, loop_state: dict[str, Tensor]) -> None:
        """Write a checkpoint called `name`, replacing an invalid one; all ranks call this together.

        Args:
            loop_state: Rank 0's tensors are kept; random state must be the same on every rank or unused.
        """
        partial = self.directory / f"{name}.partial"
        if rank() == 0:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        barrier()
        engine.save(partial)
        barrier()
        if rank() == 0:
            save_file(loop_state, partial / LOOP_NAME)
            files = {
                str(p.relative_to(partial)): {"size": p.stat().st_size, "sha256": sha256_of(p)}
                for p in sorted(partial.rglob("*"))
                if p.is_file()
            }
            manifest = {"name": name, "execution": self.execution, "files": files}
            (partial / MANIFEST_NAME).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            for path in [*partial.rglob("*"), partial]:
                fsync(path)
            shutil.rmtree(self.path(name), ignore_errors=True)
            partial.rename(self.path(name))
            fsync(self.directory)
        barrier()

    def load(self, name: str, engine: Engine) -> dict[str, Tensor]:
        """Restore the engine from checkpoint `name` and return the loop's tensors."""
        engine.load(self.path(name))
        return load_file(self.path(name) / LOOP_NAME)


def random_state() -> dict[str, Tensor]:
    """Return torch's CPU generator state, which dropout draws from on CPUs (no recipe has dropout on a GPU)."""
    return {"rng": torch.get_rng_state()}


def restore_random_state(loop_state: dict[str, Tensor]) -> None:
    """Put torch's CPU generator back to where `random_state` found it."""
    torch.set_rng_state(loop_state["rng"])
