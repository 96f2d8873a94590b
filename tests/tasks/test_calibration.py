"""Reliability bins and the calibration error, by hand and by a plain loop."""

import numpy as np
import pytest

from behavegpt.tasks.metrics.calibration import NUM_BINS, bin_of, reliability


def test_by_hand():
    confidence, right = np.array([0.95, 0.95, 0.95, 0.50]), np.array([True, True, False, False])
    bins = reliability(confidence, right)
    assert bins.count[14] == 3  # (14/15, 1]
    assert bins.count[7] == 1
    assert bins.error() == pytest.approx((abs(2 - 2.85) + 0.5) / 4)


def test_bins_are_closed_above():
    assert bin_of(np.array([1 / 15, 1 / 15 + 1e-9, 1.0, 0.0])).tolist() == [0, 1, 14, 0]


def test_equal_to_a_plain_loop():
    rng = np.random.default_rng(0)
    confidence = rng.random(500)
    right = rng.random(500) < confidence**2
    expected = 0.0
    for i in range(NUM_BINS):
        inside = [j for j in range(500) if i / NUM_BINS < confidence[j] <= (i + 1) / NUM_BINS]
        if inside:
            expected += len(inside) / 500 * abs(right[inside].mean() - confidence[inside].mean())
    assert reliability(confidence, right).error() == pytest.approx(expected, abs=1e-12)


def test_a_system_that_knows_how_sure_to_be_has_no_error():
    confidence = np.repeat([0.25, 0.75], 100)
    right = np.concatenate([np.arange(100) < 25, np.arange(100) < 75])
    assert reliability(confidence, right).error() == pytest.approx(0, abs=1e-12)
