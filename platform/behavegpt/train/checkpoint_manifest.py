"""What a checkpoint's manifest.json says, as far as it can be trusted to be whole; and whose run a directory holds.

In: a checkpoint's directory, or a run's with all its checkpoints. Out: the manifest or why there is none, and every
difference between the run and the one that is asked for. Imports no torch: it is asked before a cluster is.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from behavegpt.data.manifest import Manifest
from behavegpt.files import sha256_of
from behavegpt.model.config import WEIGHTS_FORMAT, other_format
from behavegpt.train.config import TrunkJob
from behavegpt.train.identity import differences, identity_of
from behavegpt.train.record import MANIFEST_NAME

LOOP_NAME = "loop.safetensors"


def resume_problems(job: TrunkJob, manifest: Manifest) -> list[str]:
    """Return every difference between the job and the runs whose checkpoints its directory already holds."""
    recipe, problems = identity_of(job, manifest).recipe, []
    for trunk in sorted((job.study_dir / "checkpoints").glob("*")):
        found = [read_checkpoint_manifest(path) for path in sorted(trunk.glob("*")) if path.is_dir()]
        whole = [content for content in found if not isinstance(content, str)]
        changed = differences(whole[-1]["recipe"], recipe) if whole else []
        problems += [f"{trunk}: a run with another configuration, {one} (then -> now)" for one in changed]
    return problems


def read_checkpoint_manifest(path: Path) -> dict[str, Any] | str:
    """Return the manifest of the checkpoint at `path`, or why there is none that can be trusted to be whole."""
    file = path / MANIFEST_NAME
    try:
        if file.exists() and not file.is_file():
            return "its manifest cannot be read (not a regular file)"  # a device or a pipe would have no end
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if content.pop("checksum") != checksum(content):
            return "its manifest is damaged"
        names = [str(name) for name in content["files"]]
        if LOOP_NAME not in names or any(Path(name).name != name for name in names):
            return "its manifest lists other files than a checkpoint has"
        if (found := content.get("model_format", 1)) != WEIGHTS_FORMAT:
            return f"its weights are of {other_format(found)}"
        if not _is_typed(content):
            return "its manifest has a value of another type"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"its manifest cannot be read ({type(error).__name__})"
    return content


def files_problems(path: Path, content: Mapping[str, Any]) -> dict[str, str]:
    """Return what each file of the checkpoint at `path` that is not as its manifest says is instead, by its name."""
    found = {name: why for name, entry in content["files"].items() if (why := _file_problem(path / name, entry))}
    strange = sorted({file.name for file in path.iterdir()} - {*content["files"], MANIFEST_NAME})
    return found | dict.fromkeys(strange, "not listed in its manifest")


def _file_problem(file: Path, entry: Mapping[str, Any]) -> str | None:
    try:
        whole = file.is_file() and file.stat().st_size == entry["size"] and sha256_of(file) == entry["sha256"]
    except OSError as error:
        return f"unreadable ({error.strerror})"
    return None if whole else "missing or damaged"


def _is_typed(content: dict[str, Any]) -> bool:
    types = {"recipe": dict, "execution": dict, "code_version": str, "fork": bool, "cursor": dict}
    types |= {"name": str, "config_hash": str}
    if not all(isinstance(content[key], kind) for key, kind in types.items()):
        return False
    recipe, cursor, entries = content["recipe"], content["cursor"], content["files"].values()
    return (
        isinstance(recipe["train"], dict)
        and isinstance(recipe["dataset"]["fingerprint"], str)
        and all(type(cursor[key]) is int for key in ("step", "window", "num_events"))
        and all(type(entry["size"]) is int and isinstance(entry["sha256"], str) for entry in entries)
    )


def checksum(content: Mapping[str, Any]) -> str:
    """Return the sha256 of the manifest's own content, which tells damage; no secret, whoever edits can compute it."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
