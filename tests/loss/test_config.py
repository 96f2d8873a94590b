"""Records of losses: every wrong number is named with what is allowed; names and hashes tell any two apart."""

from dataclasses import replace
from pathlib import Path

import pytest

from behavegpt.config import config_hash, plain
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

MODEL = ReferenceModel(path=Path("final-1"), sha256="0123456789abcdef")
NAMES: dict[str, Loss] = {
    "cvar-0.5": Cvar(),
    "cvar-0.25": Cvar(eps=0.25),
    "cvar-1": Cvar(eps=1),
    "cvar-0.1234567": Cvar(eps=0.1234567),
    "cvar-0.5-floor0.2-adjust1-caps0.5-markov": Cvar(floor=0.2, adjust=1.0, caps=0.5, baseline="markov"),
    "cvar-0.5-unigram": Cvar(baseline="unigram"),
    "cvar-0.5-model01234567": Cvar(baseline=MODEL),
    "smoothed-cvar-0.5-temperature0.5": SmoothedCvar(),
    "kl-0.5": Kl(),
    "chi2-0.5": Chi2(),
    "sample-cvar-0.5": SampleCvar(),
    "doro-0.5-outliers0.05": Doro(),
    "chi2-doro-0.5-outliers0.05": Chi2Doro(),
    "logit-adjusted-1": LogitAdjusted(),
    "class-balanced-0.9999": ClassBalanced(),
    "focal-2": Focal(),
    "ldam-0.5": Ldam(),
}


@pytest.mark.parametrize(("name", "loss"), NAMES.items())
def test_names(name, loss):
    assert loss.name == name


def test_any_two_losses_hash_apart():
    """Of kl and chi2, and of doro and chi2-doro, the numbers alone are the same."""
    records = [*NAMES.values(), Cvar(ema=0.2), Cvar(warmup_steps=3)]
    assert len({config_hash(record) for record in records}) == len(records)
    assert plain(Kl())["kind"] == "kl"


@pytest.mark.parametrize(
    ("make", "problems"),
    [
        (
            lambda: Cvar(eps=0.0, ema=1.5, floor=-0.1, warmup_steps=-1, adjust=float("inf"), caps=-1.0),
            ["ema", "floor", "warmup_steps", "adjust", "eps", "caps"],
        ),
        (lambda: Cvar(eps=1.0000001), ["eps"]),
        (lambda: Cvar(eps=float("nan")), ["eps"]),
        (lambda: Cvar(eps=True), ["eps"]),
        (lambda: Cvar(eps="half"), ["eps"]),  # pyright: ignore[reportArgumentType]
        (lambda: Cvar(warmup_steps=2.0), ["warmup_steps"]),  # pyright: ignore[reportArgumentType]
        (lambda: SmoothedCvar(eps=0.0, temperature=0.0), ["eps", "temperature"]),
        (lambda: Kl(rho=-1.0), ["rho"]),
        (lambda: Chi2(rho=float("inf")), ["rho"]),
        (lambda: SampleCvar(eps=0.0), ["eps"]),
        (lambda: Doro(eps=2.0, outliers=1.0), ["eps", "outliers"]),
        (lambda: Chi2Doro(eps=0.0, outliers=-0.1), ["eps", "outliers"]),
        (lambda: LogitAdjusted(tau=-1.0), ["tau"]),
        (lambda: ClassBalanced(beta=1.0), ["beta"]),
        (lambda: Focal(gamma=-1.0), ["gamma"]),
        (lambda: Ldam(margin=float("nan")), ["margin"]),
    ],
)
def test_every_wrong_number_is_named_with_what_is_allowed(make, problems):
    with pytest.raises(InputError) as caught:
        make()
    assert [p.split()[0] for p in caught.value.problems] == [f"loss.{name}" for name in problems]
    assert all("; it must be " in p for p in caught.value.problems)


def test_a_baseline_is_named_with_the_nearest():
    with pytest.raises(InputError) as caught:
        Cvar(baseline="unigramm")  # pyright: ignore[reportArgumentType]
    [problem] = caught.value.problems
    assert problem == (
        "loss.baseline is 'unigramm'; allowed: none, unigram, markov, or a model. Did you mean 'unigram'?"
    )


def test_the_edges_are_allowed():
    Cvar(eps=1, ema=1, floor=1, warmup_steps=0, adjust=0, caps=0)
    assert (replace(Kl(), rho=0).rho, Doro(outliers=0).outliers, LogitAdjusted(tau=0).tau) == (0, 0, 0)
    assert (ClassBalanced(beta=0).beta, Focal(gamma=0).gamma, Ldam(margin=0).margin) == (0, 0, 0)
