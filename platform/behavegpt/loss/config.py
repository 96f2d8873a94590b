"""Which loss is trained: one frozen record per loss, apart from the tensors so that planning needs no torch.

In: numbers, from flags or presets. Out: a record of the union `Loss`; None in its place is plain cross-entropy. The
formulas, with their sources, stand where they are computed: behavior_sets.py, sample_sets.py, static.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from behavegpt.errors import InputError, did_you_mean

_ALLOWED: dict[str, tuple[Callable[[float], bool], str]] = {
    "eps": (lambda x: 0 < x <= 1, "above 0 and at most 1"),
    "rho": (lambda x: 0 <= x < math.inf, "at least 0 and finite"),
    "temperature": (lambda x: 0 < x < math.inf, "above 0 and finite"),
    "ema": (lambda x: 0 < x <= 1, "above 0 and at most 1"),
    "floor": (lambda x: 0 <= x <= 1, "at least 0 and at most 1"),
    "warmup_steps": (lambda x: type(x) is int and x >= 0, "a whole number, at least 0"),
    "adjust": (lambda x: 0 <= x < math.inf, "at least 0 and finite"),
    "caps": (lambda x: 0 <= x < math.inf, "at least 0 and finite, or none"),
    "outliers": (lambda x: 0 <= x < 1, "at least 0 and below 1"),
    "tau": (lambda x: 0 <= x < math.inf, "at least 0 and finite"),
    "beta": (lambda x: 0 <= x < 1, "at least 0 and below 1"),
    "gamma": (lambda x: 0 <= x < math.inf, "at least 0 and finite"),
    "margin": (lambda x: 0 <= x < math.inf, "at least 0 and finite"),
}
BASELINES = ("none", "unigram", "markov")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceModel:
    """A trained model whose loss a robust loss subtracts."""

    path: Path
    """A directory that jobs/export.py wrote, of a model of the same dataset."""
    sha256: str
    """Of its weights: what the numbers depend on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LossRecord:
    """What all losses share: a check of every number, and a name."""

    def __post_init__(self) -> None:
        """Raise InputError with every problem found."""
        problems = []
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "baseline" and not isinstance(value, ReferenceModel) and value not in BASELINES:
                hint = did_you_mean(str(value), BASELINES)
                problems.append(f"loss.baseline is {value!r}; allowed: {', '.join(BASELINES)}, or a model.{hint}")
            if f.name not in _ALLOWED or (f.name == "caps" and value is None):
                continue
            allowed, words = _ALLOWED[f.name]
            if isinstance(value, bool) or not isinstance(value, int | float) or not allowed(value):
                problems.append(f"loss.{f.name} is {value!r}; it must be {words}")
        if problems:
            raise InputError(*problems)

    @property
    def name(self) -> str:
        """The name in results: the loss and its numbers, then what of the rest differs from its default."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _UNNAMED}
        changed = {f.name for f in fields(self) if f.name in _IF_CHANGED and values[f.name] != f.default}
        order = [*(n for n in values if n not in _IF_CHANGED), *(n for n in _IF_CHANGED if n in changed)]
        return "-".join(("" if name in _BY_VALUE else name) + _shown(values[name]) for name in order)


_BY_VALUE = ("kind", "eps", "rho", "tau", "beta", "gamma", "margin", "baseline")
_IF_CHANGED = ("floor", "adjust", "caps", "baseline")
_UNNAMED = ("ema", "warmup_steps")
"""No flag sets them: a study refuses two recipes under one name."""


def _shown(value: Any) -> str:
    if isinstance(value, ReferenceModel):
        return f"model{value.sha256[:8]}"
    if isinstance(value, str):
        return value
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class BehaviorLoss(LossRecord):
    """What the losses that are robust over behaviours share: how the worst case is tracked, and what it compares."""

    ema: float = 0.1
    """Share of a step's own mean loss in the running mean loss of a class, in (0, 1]."""
    floor: float = 0.1
    """Share of the training distribution that is mixed into the worst case, in [0, 1]: no class is ever dropped."""
    warmup_steps: int = 50
    """Optimiser steps over which the weights blend linearly from 1, while losses say nothing but the initialisation.

    Steps, not a share of the run: every branch of a trunk must have had the same warm-up.
    """
    baseline: Literal["none", "unigram", "markov"] | ReferenceModel = "none"
    """Whose mean loss of each class is subtracted before classes are compared; see baselining.py."""
    adjust: float = 0.0
    """Nats added to the loss of the rarest class, sqrt(n_min / n) of that to one with n targets; see dro.py."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cvar(BehaviorLoss):
    """Behaviour-level CVaR, eq. 4 of BehaveGPT: the default."""

    kind: Literal["cvar"] = field(default="cvar", init=False)
    eps: float = 0.5
    """Least share of the training data that the worst case may shrink to, in (0, 1]; 1 is plain training, exactly."""
    caps: float | None = None
    """Exponent of class-dependent caps; None gives all classes one eps. See `behavior_sets.class_eps`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SmoothedCvar(BehaviorLoss):
    """CVaR whose weights fall off smoothly below the cap instead of jumping to 0."""

    kind: Literal["smoothed-cvar"] = field(default="smoothed-cvar", init=False)
    eps: float = 0.5
    """As for Cvar; 1 is plain training, exactly."""
    temperature: float = 0.5
    """Nats over which a weight falls by a factor e; towards 0 it is CVaR, towards infinity plain training."""
    caps: float | None = None
    """As for Cvar."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kl(BehaviorLoss):
    """The worst distribution over behaviours within a Kullback-Leibler ball."""

    kind: Literal["kl"] = field(default="kl", init=False)
    rho: float = 0.5
    """Largest KL(q || p), in nats; 0 is plain training, exactly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chi2(BehaviorLoss):
    """The worst distribution over behaviours within a chi-square ball."""

    kind: Literal["chi2"] = field(default="chi2", init=False)
    rho: float = 0.5
    """Largest sum_b (q(b) - p(b))^2 / (2 p(b)); 0 is plain training, exactly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleCvar(LossRecord):
    """CVaR over the single targets of a batch, whatever their behaviour."""

    kind: Literal["sample-cvar"] = field(default="sample-cvar", init=False)
    eps: float = 0.5
    """Share of a batch's targets, those with the highest losses, that is trained on; 1 is plain training, exactly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Doro(LossRecord):
    """CVaR-DORO: sample CVaR after the very highest losses, taken for outliers, were dropped."""

    kind: Literal["doro"] = field(default="doro", init=False)
    eps: float = 0.5
    """As for SampleCvar, of what was not dropped."""
    outliers: float = 0.05
    """Share of a batch's targets that is dropped, in [0, 1)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chi2Doro(LossRecord):
    """Chi-square-DORO: the chi-square ball over single targets after the highest losses were dropped."""

    kind: Literal["chi2-doro"] = field(default="chi2-doro", init=False)
    eps: float = 0.5
    """Sets the ball's radius rho = (1 / eps - 1)^2 / 2; 1 gives all that was not dropped the same weight."""
    outliers: float = 0.05
    """Share of a batch's targets that is dropped, in [0, 1)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogitAdjusted(LossRecord):
    """Cross-entropy of logits + tau log p: the model learns what a balanced training set would teach."""

    kind: Literal["logit-adjusted"] = field(default="logit-adjusted", init=False)
    tau: float = 1.0
    """0 is plain training, exactly; 1 balances."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassBalanced(LossRecord):
    """Cross-entropy weighted by the inverse effective number of a class's targets."""

    kind: Literal["class-balanced"] = field(default="class-balanced", init=False)
    beta: float = 0.9999
    """0 is plain training, exactly; towards 1 it is inverse frequency."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Focal(LossRecord):
    """Cross-entropy that counts less the surer the model is."""

    kind: Literal["focal"] = field(default="focal", init=False)
    gamma: float = 2.0
    """0 is plain training, exactly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ldam(LossRecord):
    """Cross-entropy with a margin before the target's logit, wider for rare classes."""

    kind: Literal["ldam"] = field(default="ldam", init=False)
    margin: float = 0.5
    """Of the rarest class, in units of a logit; 0 is plain training, exactly."""


DistributionLoss = Cvar | SmoothedCvar | Kl | Chi2
"""Robust over behaviours: the worst distribution over classes."""
SampleLoss = SampleCvar | Doro | Chi2Doro
"""Robust over the targets of a batch."""
StaticLoss = LogitAdjusted | ClassBalanced | Focal | Ldam
"""A fixed function of logits and class counts."""
Loss = DistributionLoss | SampleLoss | StaticLoss
_PLAIN_AT = {"eps": 1, "rho": 0, "tau": 0, "beta": 0}
"""Value at which a loss with this number is plain cross-entropy, exactly, as long as it drops no outliers."""


def shifts_prior(loss: Loss | None) -> bool:
    """Return whether a loss trains under other class frequencies than the data's; None is plain cross-entropy.

    Focal loss and LDAM weigh targets by more than their class: there is no other frequency to correct for.
    """
    if loss is None or isinstance(loss, Focal | Ldam):
        return False
    name = next(name for name in _PLAIN_AT if hasattr(loss, name))
    return getattr(loss, name) != _PLAIN_AT[name] or getattr(loss, "outliers", 0) > 0


def read_loss(path: Path, given: Any) -> Loss | None:
    """Return the loss that a file describes; None is plain cross-entropy.

    Raises:
        InputError: It describes none.
    """
    if given is None:
        return None
    try:
        values = dict(given)
        kinds = {f.default: record for record in get_args(Loss) for f in fields(record) if f.name == "kind"}
        kind = kinds[values.pop("kind")]
        if isinstance(baseline := values.get("baseline"), dict):
            values["baseline"] = ReferenceModel(path=Path(baseline["path"]), sha256=baseline["sha256"])
        return kind(**values)
    except (TypeError, KeyError, ValueError, InputError) as error:
        raise InputError(f"{path}: its recipe does not say with which loss it was trained ({error!r})") from error
