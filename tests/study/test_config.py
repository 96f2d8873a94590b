"""StudyConfig and ExecutionConfig: every wrong field is named, all of them at once."""

from dataclasses import FrozenInstanceError, replace

import pytest

from behavegpt.errors import InputError
from behavegpt.loss.config import Cvar
from behavegpt.model.config import for_width
from behavegpt.study import ladder
from behavegpt.study.config import Size, StudyConfig, Variant, of_widths
from behavegpt.study.recipe import train_config
from behavegpt.train.config import ExecutionConfig


def test_every_wrong_field_is_named_at_once():
    with pytest.raises(InputError) as caught:
        StudyConfig(
            name="bad",
            sizes=(*of_widths(6, -8), Size(width=16, depth=0), Size(width=16, num_heads=3)),
            num_events=(0, 5_000),
            seeds=(-1, -1),
            learning_rate=0.0,
            num_val_windows=1,
            max_workers=0,
        )
    assert caught.value.problems == (
        "seeds is (-1, -1); give at least one value, each once",
        "widths has 6; a width is a positive multiple of 4",
        "widths has -8; a width is a positive multiple of 4",
        "depth is 0; it must be >= 1",
        "num_heads is 3; it must divide the width, which is 16",
        "num_events has 0; a data size must be > 0",
        "seeds has -1; a seed must be >= 0",
        "learning_rate is 0.0; it must be positive and finite",
        "num_val_windows is 1; it must be >= 2",
        "max_workers is 0; it must be >= 1",
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_events", (5_000, 5_000)),
        ("num_events", (-5,)),
        ("seeds", ()),
        ("seeds", (1, 1)),
        ("seeds", (1 << 63,)),
        ("variants", ()),
        ("max_workers", -1),
        ("learning_rate", -0.1),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("num_val_windows", 0),
    ],
)
def test_one_wrong_field_gives_one_sentence_that_names_it(field, value):
    with pytest.raises(InputError) as caught:
        replace(ladder.demo(), **{field: value})
    [problem] = caught.value.problems
    assert problem.startswith(field)
    assert str(value) in problem or str(value[-1]) in problem


@pytest.mark.parametrize("widths", [(), (16, 16), (0,), (2,), (18,)])
def test_a_wrong_axis_of_models_gives_one_sentence_with_its_widths(widths):
    with pytest.raises(InputError) as caught:
        replace(ladder.demo(), sizes=of_widths(*widths))
    [problem] = caught.value.problems
    assert problem.startswith("widths")
    assert str(widths) in problem or str(widths[-1]) in problem


@pytest.mark.parametrize(
    ("changes", "given"),
    [
        ({"num_events": ()}, "none of them is given"),
        ({"events_per_param": (1, 2)}, "num_events and events_per_param"),
        ({"flop_budgets": (1e9,)}, "num_events and flop_budgets"),
    ],
)
def test_data_sizes_are_given_in_one_way(changes, given):
    with pytest.raises(InputError) as caught:
        replace(ladder.demo(), **changes)
    [problem] = caught.value.problems
    assert problem == f"data sizes: {given}; give one of num_events, events_per_param, flop_budgets"


@pytest.mark.parametrize("field", ["events_per_param", "flop_budgets"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_multiples_and_budgets_are_positive_and_finite(field, value):
    with pytest.raises(InputError) as caught:
        replace(ladder.demo(), num_events=(), **{field: (value,)})
    assert caught.value.problems == (f"{field} has {value}; it must be positive and finite",)


@pytest.mark.parametrize(
    ("variant", "name", "label"),
    [
        (Variant(), "erm", "erm"),
        (Variant(loss=Cvar(eps=0.5)), "cvar-0.5", "cvar05"),
        (Variant(schedule="wsd_independent"), "erm-wsd-independent", "ermwsdindependent"),
        (Variant(loss=Cvar(eps=0.25), schedule="cosine", rate_factor=2.0), "cvar-0.25-cosine-rate-x2", None),
    ],
)
def test_a_variant_is_named_by_what_it_changes(variant, name, label):
    assert variant.name == name
    assert label is None or variant.label == label


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_factor_is_positive_and_finite(factor):
    with pytest.raises(InputError, match="rate_factor"):
        Variant(rate_factor=factor)


def test_the_least_allowed_values_are_allowed():
    config = StudyConfig(
        name="least",
        sizes=of_widths(4),
        num_events=(1,),
        seeds=(0,),
        learning_rate=1e-9,
        num_val_windows=2,
        variants=(Variant(loss=Cvar(eps=1.0)),),
        max_workers=1,
    )
    assert config.sizes == (Size(width=4, depth=2),)


def test_a_configuration_cannot_change():
    with pytest.raises(FrozenInstanceError):
        ladder.demo().num_events = (3,)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("preset", [ladder.demo, ladder.nyc])
def test_presets_have_enough_levels_of_both_axes_for_a_law_and_rise(preset):
    config = preset()
    widths = [size.width for size in config.sizes]
    assert len(widths) >= 4
    assert len(config.num_events) >= 5
    assert widths == sorted(widths)
    assert list(config.num_events) == sorted(config.num_events)
    assert config.variants == (Variant(),)


def test_every_wrong_field_of_the_execution_is_named_at_once():
    with pytest.raises(InputError) as caught:
        ExecutionConfig(engine="torch", use_gpu=True, num_workers=0, cpus_per_worker=-1, checkpoint_steps=0)
    assert caught.value.problems == (
        "num_workers is 0; it must be >= 1",
        "cpus_per_worker is -1; it must be >= 1",
        "checkpoint_steps is 0; it must be >= 1",
        "engine is torch and use_gpu is set; the reference engine runs in fp32 on CPUs alone",
    )


def test_the_reference_engine_stays_on_cpus_and_deepspeed_may_use_gpus():
    assert ExecutionConfig(engine="torch").use_gpu is False
    assert ExecutionConfig(engine="deepspeed", use_gpu=True).stage_label == 0
    assert ExecutionConfig(num_workers=1, cpus_per_worker=1, checkpoint_steps=1).checkpoint_steps == 1


def test_the_recipe_follows_from_the_width_alone():
    sizes = {"weekday": 8, "slot": 49, "location": 30, "event": 20, "behavior": 41}
    recipes = [train_config(for_width(w, vocabulary_sizes=sizes), schedule="wsd", seed=0) for w in (10 * 4, 20 * 4)]
    # 0.19 / width, reached after 100 steps.
    assert [r.learning_rate for r in recipes] == pytest.approx([0.00475, 0.002375], rel=1e-12)
    assert {(r.warmup_steps, r.precision) for r in recipes} == {(100, "fp32")}
    assert [r.learning_rate * r.embedding_lr_factor for r in recipes] == pytest.approx([0.1, 0.1], rel=1e-12)
    of_width = {name: getattr(recipes[1], name) for name in ("learning_rate", "embedding_lr_factor")}
    assert replace(recipes[0], **of_width) == recipes[1]
