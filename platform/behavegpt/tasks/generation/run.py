"""A whole run: read the histories, generate batch by batch, set the result beside rivals and real users, write it.

In: a `Request`. Out: the directory `out` and its `Report`. A run that was killed goes on with its finished batches.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import behavegpt
from behavegpt.config import config_hash
from behavegpt.data.manifest import Manifest
from behavegpt.data.staging import find_out_problems
from behavegpt.data.vocab import read_vocabulary
from behavegpt.errors import InputError
from behavegpt.model.transformer import BehaveGPT
from behavegpt.schema import FIRST_KNOWN_ID, VOCABULARIES
from behavegpt.tasks.generation.figures import Behaviors, figures, real_halves
from behavegpt.tasks.generation.histories import Histories, blocks, read_histories
from behavegpt.tasks.generation.inputs import InputRules, fit_inputs
from behavegpt.tasks.generation.loop import Generated, generate, repeat_history
from behavegpt.tasks.generation.oracle import OracleVoice, is_generated
from behavegpt.tasks.generation.parts import (
    RESULT_NAME,
    finished,
    open_run,
    read_part,
    write_part,
    write_whole,
)
from behavegpt.tasks.generation.report import HALVES, ORACLE, REAL, Report, ReportRow, to_json, to_markdown
from behavegpt.tasks.generation.sampling import Sampling
from behavegpt.tasks.generation.story import COLUMNS
from behavegpt.tasks.generation.voices import ModelVoice, SystemVoice, Voice
from behavegpt.tasks.system import System
from behavegpt.tasks.targets import read_tables

REPORT_NAME = "report.md"
LEAST_USERS = 2
"""For halves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What to generate, and where to."""

    dataset: Path
    manifest: Manifest
    name: str
    """Of the model, in the table."""
    model: BehaveGPT
    systems: tuple[str, ...]
    """Names of the rivals."""
    fit_systems: Callable[[], Sequence[System]]
    out: Path
    num_users: int
    num_behaviors: int
    users_per_batch: int
    sampling: Sampling
    progress: Callable[[str], None]

    def __post_init__(self) -> None:
        least = {"num_users": LEAST_USERS, "num_behaviors": 1, "users_per_batch": 1}
        if problems := [
            f"{name} is {getattr(self, name)}; it must be at least {low}"
            for name, low in least.items()
            if getattr(self, name) < low
        ]:
            raise InputError(*problems)

    def identity(self) -> dict[str, Any]:
        """Return all that the result depends on."""
        return {
            "behavegpt": behavegpt.__version__,
            "dataset": self.manifest.fingerprint,
            "model": self.name,
            "weights": weights_sha256(self.model),
            "num_users": self.num_users,
            "num_behaviors": self.num_behaviors,
            "sampling": self.sampling,
            "systems": self.systems,
        }


def run(request: Request) -> Report | None:
    """Generate, write, and return the report; None where `out` holds this run's result already.

    Raises:
        InputError: No user can be generated for, or nothing can be written at `out`.
        DirectoryBusyError: Another live run writes there.
    """
    identity = request.identity()
    if finished(request.out, identity):
        return None
    if problems := find_out_problems(request.out):
        raise InputError(*problems)
    histories = read_histories(request.dataset, request.manifest, request.num_users, request.num_behaviors)
    if len(histories) < LEAST_USERS:
        raise InputError(
            f"{request.dataset}: only {len(histories)} user has {request.num_behaviors} behaviours in the test split; "
            f"the comparison needs {LEAST_USERS}"
        )
    with open_run(request.out, identity, request.users_per_batch) as partial:
        request.progress("fit the rules of the inputs")
        rules = fit_inputs(read_tables(request.dataset, request.manifest, "train", COLUMNS))
        generated = _generate_batches(request, histories, rules, partial)
        report = _report(request, identity, histories, rules, generated)
        vocabularies = {
            name: read_vocabulary(request.dataset / request.manifest.vocabulary_path(name)) for name in VOCABULARIES
        }
        texts = {RESULT_NAME: json.dumps(to_json(report), indent=1) + "\n", REPORT_NAME: to_markdown(report)}
        write_whole(partial, request.out, histories, generated, vocabularies, texts)
    return report


def weights_sha256(model: BehaveGPT) -> str:
    """Return what tells these weights from all others."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def _generate_batches(request: Request, histories: Histories, rules: InputRules, partial: Path) -> Generated:
    voice, parts, done = ModelVoice(request.model), [], 0
    for index, block in enumerate(blocks(histories, request.users_per_batch)):
        part = read_part(partial, index, (len(block), request.num_behaviors))
        if part is None:
            part = generate(voice, block, rules, request.sampling, request.num_behaviors)
            write_part(partial, index, part)
        parts.append(part)
        done += len(block)
        request.progress(f"generated for {done:,} of {len(histories):,} users")
    return Generated.join(parts)


def _of_rival(request: Request, histories: Histories, rules: InputRules, voice: Voice) -> Behaviors:
    """Return what a rival says; it is drawn again where a run goes on."""
    parts = [
        generate(voice, block, rules, request.sampling, request.num_behaviors)
        for block in blocks(histories, request.users_per_batch)
    ]
    return _behaviors(Generated.join(parts))


def _report(
    request: Request, identity: dict[str, Any], histories: Histories, rules: InputRules, generated: Generated
) -> Report:
    truth, num_ids = histories.truth, request.manifest.vocabulary_sizes["behavior"]
    said: dict[str, Behaviors] = {request.name: _behaviors(generated)}
    said["repeat-week"] = repeat_history(histories, request.num_behaviors)
    for system in request.fit_systems():
        request.progress(f"generate with {system.name}")
        said[system.name] = _of_rival(request, histories, rules, SystemVoice(system))
    if is_generated(request.manifest):
        request.progress(f"generate with the {ORACLE}")
        said[ORACLE] = _of_rival(request, histories, rules, OracleVoice(request.dataset, request.manifest))
    request.progress("compare")
    means, deviations = real_halves(truth, num_ids, request.sampling.seed)
    rows = [ReportRow(name=name, figures=figures(one, truth, num_ids)) for name, one in said.items()]
    rows.append(ReportRow(name=HALVES, figures=means, deviations=deviations))
    rows.append(ReportRow(name=REAL, figures=figures(truth, truth, num_ids)))
    return Report(
        run=config_hash(identity),
        dataset=request.manifest.name,
        fingerprint=request.manifest.fingerprint,
        model=request.name,
        weights_sha256=identity["weights"],
        sampling=request.sampling,
        num_users=len(histories),
        num_test_users=request.manifest.splits["test"].num_users,
        num_behaviors=request.num_behaviors,
        mean_history=float(np.mean(histories.length)),
        num_other=int((generated.behavior < FIRST_KNOWN_ID).sum()),
        shares=rules.to_json(),
        rows=tuple(rows),
    )


def _behaviors(generated: Generated) -> Behaviors:
    return {"behavior": generated.behavior, "slot": generated.slot}
