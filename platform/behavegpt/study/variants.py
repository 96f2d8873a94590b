"""What a user may ask to train, as flags, and the losses and variants that they name."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from behavegpt.errors import InputError
from behavegpt.loss.config import (
    Chi2,
    Chi2Doro,
    ClassBalanced,
    Cvar,
    Doro,
    Focal,
    Kl,
    Ldam,
    LogitAdjusted,
    Loss,
    ReferenceModel,
    SampleCvar,
    SmoothedCvar,
)
from behavegpt.study.config import Variant
from behavegpt.train.config import Schedule

LossName = Literal[
    "erm",
    "cvar",
    "smoothed-cvar",
    "kl",
    "chi2",
    "sample-cvar",
    "doro",
    "chi2-doro",
    "logit-adjusted",
    "class-balanced",
    "focal",
    "ldam",
]
_RECORDS: tuple[type[Loss], ...] = (
    *(Cvar, SmoothedCvar, Kl, Chi2),
    *(SampleCvar, Doro, Chi2Doro),
    *(LogitAdjusted, ClassBalanced, Focal, Ldam),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class LossFlags:
    """The numbers of the losses. A flag counts for every loss that has it; its default is the loss's own."""

    eps: float | None = None
    """Of cvar, smoothed-cvar, sample-cvar, doro and chi2-doro: the least share of the data that the worst case may
    shrink to; default 0.5."""
    rho: float | None = None
    """Of kl and chi2: the radius of the ball around the training distribution; default 0.5."""
    temperature: float | None = None
    """Of smoothed-cvar: nats over which a weight falls by a factor e; default 0.5."""
    outliers: float | None = None
    """Of doro and chi2-doro: the share of a batch's highest losses that is dropped; default 0.05."""
    tau: float | None = None
    """Of logit-adjusted: how far towards a balanced training set; default 1."""
    beta: float | None = None
    """Of class-balanced: 0 is plain, towards 1 inverse frequency; default 0.9999."""
    gamma: float | None = None
    """Of focal: how much less a sure target counts; default 2."""
    margin: float | None = None
    """Of ldam: the margin of the rarest class, in units of a logit; default 0.5."""
    floor: float | None = None
    """Of cvar, smoothed-cvar, kl and chi2: the share of the training distribution mixed into the worst case; default
    0.1."""
    adjust: float | None = None
    """Of the same: nats added to the loss of the rarest class before classes are compared, less to frequent ones."""
    caps: float | None = None
    """Of cvar and smoothed-cvar: the exponent of class-dependent caps, 0.5 say; default one cap for all classes."""
    baseline: Literal["none", "unigram", "markov"] | None = None
    """Of cvar, smoothed-cvar, kl and chi2: the weak model whose loss is subtracted before classes are compared."""
    baseline_model: Path | None = None
    """The same with a trained model: a directory that jobs/export.py wrote."""

    def records(self, names: tuple[LossName, ...]) -> tuple[Loss | None, ...]:
        """Return the loss of each name; None is plain cross-entropy.

        Raises:
            InputError: A number is wrong, or given to losses that have none such; every one is named.
        """
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(LossFlags)}
        problems = []
        if (path := values.pop("baseline_model")) is not None:
            if self.baseline is not None:
                problems.append("--baseline and --baseline-model exclude each other")
            from behavegpt.train.saved import read_saved  # takes torch, which planning otherwise does without

            values["baseline"] = ReferenceModel(path=path.resolve(), sha256=read_saved(path).sha256)
        given = {name: value for name, value in values.items() if value is not None}
        kinds = {record().kind: record for record in _RECORDS}
        flags_of = {kind: {f.name for f in fields(record)} for kind, record in kinds.items()}
        for flag in given:
            owners = [kind for kind in kinds if flag in flags_of[kind]]
            if not set(owners) & set(names):
                problems.append(f"--{flag} is given to {', '.join(names)}; only {', '.join(owners)} can have it")
        if problems:
            raise InputError(*problems)
        chosen = {kind: {flag: given[flag] for flag in given if flag in flags_of[kind]} for kind in kinds}
        return tuple(kinds[name](**chosen[name]) if name in kinds else None for name in names)


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantRequest(LossFlags):
    """The axis of variants."""

    loss: tuple[LossName, ...] | None = None
    """Variants, each with a law of its own. erm: plain cross-entropy; cvar, smoothed-cvar, kl, chi2: robust over
    behaviours; sample-cvar, doro, chi2-doro: robust over single targets; the others: static rivals. Default: the
    preset's."""
    schedule: Schedule = "wsd"
    """wsd: branches of shared trunks; wsd_independent, cosine: a run of its own for every cell."""

    def of(self, preset: tuple[Variant, ...]) -> tuple[Variant, ...]:
        """Return the preset's variants, or those that were named."""
        if self.loss is None:
            if given := [f.name for f in fields(LossFlags) if getattr(self, f.name) is not None]:
                raise InputError(*(f"--{name} is given without --loss; say which losses it is for" for name in given))
            return tuple(replace(variant, schedule=self.schedule) for variant in preset)
        return tuple(Variant(loss=loss, schedule=self.schedule) for loss in self.records(self.loss))
