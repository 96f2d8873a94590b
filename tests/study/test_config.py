"""StudyConfig: every wrong field is named, all of them at once."""

from dataclasses import FrozenInstanceError, replace

import pytest

from behavegpt.errors import InputError
from behavegpt.loss.dro import DroConfig
from behavegpt.study import ladder
from behavegpt.study.config import StudyConfig


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
        "learning_rate is 0.0; it must be > 0",
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
