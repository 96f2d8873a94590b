"""What jobs/adapt.py new-behavior is asked for, checked before anything is written.

In: the flags. Out: a `Task`: the dataset's survey, the behaviours to hold out, the few shots, and given models.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from behavegpt.data.manifest import MANIFEST_NAME, Manifest
from behavegpt.data.verify import verify_dataset
from behavegpt.errors import InputError
from behavegpt.tasks.adaptation.new_behavior_data import Derivation
from behavegpt.tasks.adaptation.new_behavior_request import NewBehavior
from behavegpt.tasks.adaptation.new_behavior_survey import Survey, choose_behaviors, survey
from behavegpt.train.saved import SavedModel, read_saved, read_vocabulary_values


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A request that was checked."""

    request: NewBehavior
    manifest: Manifest
    survey: Survey
    behaviors: dict[str, str]
    """Those that are added, one at a time, each with its label."""
    held_out: tuple[str, ...]
    """All that pretraining did not see: these, and whatever else given models do not know."""
    models: tuple[SavedModel, ...]
    """Given ones."""

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.request.seeds[: len(self.models)] if self.models else self.request.seeds

    def pretraining(self) -> Derivation:
        """Return the dataset without any of the new behaviours."""
        return self._without(None)

    def few_shots(self, new: str) -> Derivation:
        """Return the dataset that has one new behaviour, and of training the few shots alone."""
        request, shots = self.request, self.survey.shots
        chosen = {"user_share": request.user_share, "days": request.days, "seed": request.shots_seed}
        chosen |= {"num_users": len(shots.users), "since": shots.since}
        return self._without(new, shots=chosen, passes=request.passes)

    def _without(self, new: str | None, **shots: Any) -> Derivation:
        without = tuple(sorted(name for name in self.held_out if name != new))
        return Derivation(
            dataset=self.request.dataset, manifest=self.manifest, survey=self.survey, without=without, **shots
        )


def open_task(request: NewBehavior) -> Task:
    """Return the task after checking all that can be checked without writing.

    Raises:
        InputError: A flag, the dataset or a model is wrong.
    """
    if problems := [*_flag_problems(request)]:
        raise InputError(*problems)
    manifest = verify_dataset(request.dataset)
    if empty := [split for split in ("train", "val", "test") if not manifest.splits[split].num_targets]:
        raise InputError(*(f"{request.dataset}: its {split} split has no targets" for split in empty))
    found = survey(request.dataset, manifest, user_share=request.user_share, days=request.days, seed=request.shots_seed)
    models = tuple(read_saved(path) for path in request.models)
    unknown = _unknown(found, models)
    if models and not unknown:
        raise InputError("--models know every behaviour of the dataset; none is new to them")
    behaviors = choose_behaviors(found, request.behaviors or unknown)
    if problems := [*_model_problems(models, tuple(behaviors))]:
        raise InputError(*problems)
    return Task(
        request=request,
        manifest=manifest,
        survey=found,
        behaviors=behaviors,
        held_out=unknown or tuple(behaviors),
        models=models,
    )


def _unknown(found: Survey, models: tuple[SavedModel, ...]) -> tuple[str, ...]:
    """Return the behaviours of the dataset that no given model knows; none where no model is given."""
    known = {name for model in models for name in read_vocabulary_values(model.directory)["behavior"]}
    return tuple(name for name in found.behaviors.values if name not in known) if models else ()


def _flag_problems(request: NewBehavior) -> Iterator[str]:
    if request.user_share is not None and not 0 < request.user_share <= 1:
        yield f"--user-share is {request.user_share:g}; it must be above 0 and at most 1"
    for name, value in (("--days", request.days), ("--passes", request.passes)):
        if value < 1:
            yield f"{name} is {value}; it must be >= 1"
    if not request.rates or len(set(request.rates)) < len(request.rates):
        yield f"--rates is {request.rates}; give at least one value, each once"
    for rate in request.rates:
        if not 0 < rate < math.inf:
            yield f"--rates has {rate:g}; it must be positive and finite"
    if len(request.seeds) < len(request.models):
        yield f"--seeds has {len(request.seeds)} for {len(request.models)} models; give one a model"
    if request.execution.use_gpu and not request.use_ray:
        yield "--use-gpu trains on the cluster alone; give --use-ray"
    if request.out.exists() and not request.out.is_dir():
        yield f"--out {request.out}: is a file; it names a directory"
    if around := next((p for p in request.out.absolute().parents if (p / MANIFEST_NAME).is_file()), None):
        yield f"--out {request.out}: lies inside the dataset {around}; choose another --out"


def _model_problems(models: tuple[SavedModel, ...], names: tuple[str, ...]) -> Iterator[str]:
    for model in models:
        known = set(read_vocabulary_values(model.directory)["behavior"])
        for name in names:
            if name in known:
                yield f"--models {model.directory}: knows {name!r} already; name behaviours that are new to it"
        if model.model != models[0].model:
            yield f"--models {model.directory}: has another shape than {models[0].directory}"
        if model.sha256 in {other.sha256 for other in models if other is not model}:
            yield f"--models {model.directory}: the same weights as another model"
