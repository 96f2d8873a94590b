"""StudyConfig and ExecutionConfig: every wrong field is named, all of them at once."""

from dataclasses import FrozenInstanceError, replace

import pytest

from behavegpt.errors import InputError
from behavegpt.loss.dro import DroConfig
from behavegpt.model.config import for_width
from behavegpt.study import ladder
from behavegpt.study.config import StudyConfig
from behavegpt.study.recipe import train_config
from behavegpt.train.config import ExecutionConfig


def test_every_wrong_field_is_named_at_once():
    with pytest.raises(InputError) as caught:
        StudyConfig(
            name="bad",
            widths=(6, -8, 16),
            num_events=(0, 5_000),
            depth=0,
            seeds=(-1, -1),
            learning_rate=0.0,
            num_val_windows=1,
        )
    assert caught.value.problems == (
        "seeds is (-1, -1); give at least one value, each once",
        "widths has 6; a width is a positive multiple of 4",
        "widths has -8; a width is a positive multiple of 4",
        "num_events has 0; a data size must be > 0",
        "seeds has -1; a seed must be >= 0",
        "seeds has -1; a seed must be >= 0",
        "depth is 0; it must be >= 1",
        "learning_rate is 0.0; it must be positive and finite",
        "num_val_windows is 1; it must be >= 2",
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("widths", ()),
        ("widths", (16, 16)),
        ("widths", (0,)),
        ("widths", (2,)),
        ("widths", (18,)),
        ("num_events", ()),
        ("num_events", (5_000, 5_000)),
        ("num_events", (-5,)),
        ("seeds", ()),
        ("seeds", (1, 1)),
        ("depth", -1),
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


def test_the_least_allowed_values_are_allowed():
    config = StudyConfig(
        name="least",
        widths=(4,),
        num_events=(1,),
        depth=1,
        seeds=(0,),
        learning_rate=1e-9,
        num_val_windows=2,
        dro=DroConfig(eps=1.0),
    )
    assert config.widths == (4,)


def test_a_configuration_cannot_change():
    with pytest.raises(FrozenInstanceError):
        ladder.demo().depth = 3  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("preset", [ladder.demo, ladder.nyc])
def test_presets_have_enough_levels_of_both_axes_for_a_law_and_rise(preset):
    config = preset()
    assert len(config.widths) >= 4
    assert len(config.num_events) >= 5
    assert list(config.widths) == sorted(config.widths)
    assert list(config.num_events) == sorted(config.num_events)
    assert config.dro is None


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
    assert replace(recipes[0], learning_rate=recipes[1].learning_rate) == recipes[1]
