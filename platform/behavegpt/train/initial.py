"""Training that starts from a finished model instead of from random weights.

In: a job, and a directory that jobs/export.py wrote. Out: the job whose recipe names that model, or what stands in the
way: a model of another shape, or ids that mean other things.
"""

from dataclasses import replace
from pathlib import Path

from behavegpt.config import plain
from behavegpt.data.manifest import read_manifest
from behavegpt.data.vocab import read_vocabulary
from behavegpt.errors import InputError
from behavegpt.schema import VOCABULARIES
from behavegpt.train.config import TrunkJob
from behavegpt.train.identity import differences
from behavegpt.train.saved import SavedModel, read_saved, read_vocabulary_values


def start_from(job: TrunkJob, directory: Path) -> TrunkJob:
    """Return the job as one that starts from the exported model in `directory`.

    Raises:
        InputError: The model is damaged, has another shape, or another vocabulary than the job's dataset.
    """
    saved = read_saved(directory)
    problems = shape_problems(saved, job)
    theirs, manifest = read_vocabulary_values(directory), read_manifest(job.dataset)
    for name in VOCABULARIES:
        ours = list(read_vocabulary(job.dataset / manifest.vocabulary_path(name)).values)
        if theirs[name] != ours:
            problems.append(f"{directory}: its {name} ids mean other things than those of {job.dataset}")
    if problems:
        raise InputError(*problems)
    return replace(job, initial=directory.resolve(), train=replace(job.train, initial=saved.sha256))


def shape_problems(saved: SavedModel, job: TrunkJob) -> list[str]:
    """Return how the exported model differs from the job's, apart from the attention kernel."""
    changed = differences(plain({"model": saved.model}), plain({"model": replace(job.model, attention="auto")}))
    return [f"{saved.directory}: cannot start this model, {one} (the export's -> this)" for one in changed]
