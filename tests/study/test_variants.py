"""Flags to losses: each number reaches the losses that have it, and none is dropped in silence."""

import json
from typing import get_args

import pytest
from safetensors.torch import save_file

from behavegpt.config import plain
from behavegpt.errors import InputError
from behavegpt.files import sha256_of
from behavegpt.loss.config import Chi2, Cvar, Doro, Focal, Kl, Loss, ReferenceModel, SmoothedCvar
from behavegpt.model.config import WEIGHTS_FORMAT, for_width
from behavegpt.model.transformer import BehaveGPT
from behavegpt.study.config import Variant
from behavegpt.study.variants import LossFlags, LossName, VariantRequest


def test_every_name_gives_its_own_record_and_every_record_has_a_name():
    names = get_args(LossName)
    records = LossFlags().records(names)
    assert [record.kind if record else "erm" for record in records] == list(names)
    assert {type(record) for record in records if record} == set(get_args(Loss))


def test_a_number_reaches_all_the_losses_that_have_it():
    flags = LossFlags(eps=0.2, rho=0.1, temperature=0.3, outliers=0.0, floor=0.0, caps=0.5, baseline="markov")
    assert flags.records(("erm", "cvar", "smoothed-cvar", "kl", "chi2", "doro", "focal")) == (
        None,
        Cvar(eps=0.2, floor=0.0, caps=0.5, baseline="markov"),
        SmoothedCvar(eps=0.2, temperature=0.3, floor=0.0, caps=0.5, baseline="markov"),
        Kl(rho=0.1, floor=0.0, baseline="markov"),
        Chi2(rho=0.1, floor=0.0, baseline="markov"),
        Doro(eps=0.2, outliers=0.0),
        Focal(),
    )


def test_a_number_that_no_loss_has_is_refused_with_those_that_do():
    with pytest.raises(InputError) as caught:
        LossFlags(gamma=1.0, rho=0.3, eps=0.4).records(("erm", "cvar"))
    assert caught.value.problems == (
        "--rho is given to erm, cvar; only kl, chi2 can have it",
        "--gamma is given to erm, cvar; only focal can have it",
    )
    with pytest.raises(InputError, match="--eps is given without --loss"):
        VariantRequest(eps=0.4).of((Variant(),))


def test_a_reference_model_is_known_by_its_weights(tmp_path):
    config = for_width(
        4, depth=1, vocabulary_sizes={"weekday": 8, "slot": 49, "location": 3, "event": 3, "behavior": 3}
    )
    save_file(BehaveGPT(config).state_dict(), tmp_path / "model.safetensors")
    digest = sha256_of(tmp_path / "model.safetensors")
    record = {"format": WEIGHTS_FORMAT, "model": config, "weights_sha256": digest}
    (tmp_path / "config.json").write_text(json.dumps(plain(record)))
    [loss] = LossFlags(baseline_model=tmp_path).records(("kl",))
    assert loss == Kl(baseline=ReferenceModel(path=tmp_path, sha256=digest))
    with pytest.raises(InputError, match=r"nowhere/config\.json: cannot be read"):
        LossFlags(baseline_model=tmp_path / "nowhere").records(("kl",))
    with pytest.raises(InputError, match="--baseline and --baseline-model exclude each other"):
        LossFlags(baseline_model=tmp_path, baseline="unigram").records(("kl",))


def test_the_preset_stays_where_no_loss_is_named():
    preset = (Variant(), Variant(loss=Cvar(eps=0.5)))
    assert VariantRequest().of(preset) == preset
    assert VariantRequest(schedule="cosine").of(preset) == tuple(
        Variant(loss=v.loss, schedule="cosine") for v in preset
    )
    named = VariantRequest(loss=("kl", "erm")).of(preset)
    assert [variant.name for variant in named] == ["kl-0.5", "erm"]
