"""What a checkpoint belongs to, and how two configurations differ, in words.

In: a job and its dataset's manifest. Out: an `Identity`, which a resume compares with the one that it finds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from behavegpt.config import config_hash, plain
from behavegpt.data.manifest import Manifest
from behavegpt.train.config import TrunkJob
from behavegpt.train.record import code_version

ABSENT = "absent"


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """What the numbers of a checkpoint depend on, and who writes it."""

    recipe: dict[str, Any]
    """Model, recipe and dataset fingerprint, as JSON values: another one is refused."""
    code_version: str
    """Another one is not used."""
    execution: dict[str, Any]
    """Engine, ZeRO stage, workers and device: any other can go on from it."""

    def record(self) -> dict[str, Any]:
        """Return what a checkpoint's manifest says of it."""
        return {
            "config_hash": config_hash(self.recipe),
            "recipe": self.recipe,
            "code_version": self.code_version,
            "execution": self.execution,
        }


def identity_of(job: TrunkJob, manifest: Manifest) -> Identity:
    """Return the identity of a job's checkpoints."""
    execution = job.execution
    return Identity(
        recipe=plain({"model": job.model, "train": job.train, "dataset": {"fingerprint": manifest.fingerprint}}),
        code_version=code_version(),
        execution={
            "engine": execution.engine,
            "zero_stage": execution.stage_label,
            "num_workers": execution.num_workers,
            "device": "cuda" if execution.use_gpu else "cpu",
        },
    )


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return `key: then -> now` for every value in which two nested configurations differ, by their dotted keys."""
    old, new = dict(_leaves(then)), dict(_leaves(now))
    keys = [*new, *(key for key in old if key not in new)]
    return [
        f"{key}: {old.get(key, ABSENT)} -> {new.get(key, ABSENT)}"
        for key in keys
        if old.get(key, ABSENT) != new.get(key, ABSENT)
    ]


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value
