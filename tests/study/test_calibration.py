"""The calibration of the learning rate, on losses that are parabolas in log rate with a vertex that is known."""

import math

import pytest

from behavegpt.errors import InputError
from behavegpt.study.calibration import calibrate, calibration_lines, calibration_study
from behavegpt.train.config import ExecutionConfig

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)


def rows(best: dict[int, float], seeds=(-0.01, 0.0, 0.01), factors=FACTORS) -> list[dict]:
    """Return cells whose loss is 2 + (log(rate / best))^2 / 10 and, for each seed, so much more."""
    return [
        {
            "width": width,
            "learning_rate": factor * 0.19 / width,
            "num_events": 50_000,
            "status": "completed",
            "loss": 2 + math.log(factor * 0.19 / width / rate) ** 2 / 10 + noise,
        }
        for width, rate in best.items()
        for factor in factors
        for noise in seeds
    ]


def test_the_best_rates_and_the_rule_are_found():
    # The best rate is 0.24 / width, times 1.1 and over 1.1.
    result = calibrate(rows({16: 1.1 * 0.24 / 16, 64: 0.24 / 1.1 / 64}))
    assert [one.bracketed for one in result.widths] == [True, True]
    assert [one.best_rate for one in result.widths] == pytest.approx([1.1 * 0.24 / 16, 0.24 / 1.1 / 64])
    assert result.rate_x_width == pytest.approx(0.24)
    assert result.scatter == pytest.approx(1.1)
    # From width 16 to 64 the rate falls by 4 x 1.21.
    assert result.exponent == pytest.approx(math.log(4 * 1.21) / math.log(4))
    # Three seeds at -0.01, 0 and 0.01: a variance of 1e-4.
    assert result.seed_sd == pytest.approx(0.01)


def test_the_regret_is_what_the_rules_rate_loses_to_the_best_tried():
    # The best is at twice the rule's rate.
    [one] = calibrate(rows({16: 2 * 0.19 / 16})).widths
    assert one.regret == pytest.approx(math.log(2) ** 2 / 10)
    assert list(one.losses) == list(FACTORS)


def test_a_best_rate_at_the_edge_is_a_bound_and_out_of_the_rule():
    result = calibrate(rows({16: 0.19 / 16, 64: 9 * 0.19 / 64}))
    assert [one.bracketed for one in result.widths] == [True, False]
    assert result.rate_x_width == pytest.approx(0.19)
    assert result.scatter == pytest.approx(1.0)
    assert math.isnan(result.exponent)
    assert "a bound" in calibration_lines(result)[3]


def test_a_rate_that_diverged_is_not_the_best_and_no_neighbour():
    table = rows({16: 0.19 / 16})
    for row in table:
        if row["learning_rate"] > 1.5 * 0.19 / 16:
            row |= {"status": "diverged", "loss": None}
    [one] = calibrate(table).widths
    assert one.bracketed is False
    assert math.isnan(one.losses[2.0])
    assert one.regret == 0


def test_without_the_rules_own_rate_there_is_nothing_to_compare():
    with pytest.raises(InputError, match="it must hold 1"):
        calibration_study((16,), 50_000, (0.5, 2.0), (0,), ExecutionConfig())
    with pytest.raises(InputError, match="no width completed"):
        calibrate([row | {"status": "crashed", "loss": None} for row in rows({16: 0.01})])


def test_one_seed_tells_no_noise():
    assert math.isnan(calibrate(rows({16: 0.01}, seeds=(0.0,))).seed_sd)


def test_the_study_has_a_variant_per_factor():
    config = calibration_study((16, 32), 50_000, (2.0, 0.5, 1.0), (0, 1), ExecutionConfig())
    assert [variant.name for variant in config.variants] == ["erm-rate-x0.5", "erm", "erm-rate-x2"]
    assert (config.num_events, config.seeds, len(config.sizes)) == ((50_000,), (0, 1), 2)
