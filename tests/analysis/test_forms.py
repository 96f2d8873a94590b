"""Each form's value by hand or as published, its derivatives against differences, and its change of units."""

import numpy as np
import pytest

from analysis.forms import FORM_NAMES, Coupled, Farseer, Form, Points, Repeats, Separable, SingleAxis, Tied, form_of
from analysis.forms.points import unit_points
from analysis.forms.start import variable_projection

THETA = np.array([8.0, 0.5, 27.0, 1 / 3, 1.0])
FORMS = [form_of(name) for name in FORM_NAMES]
THETAS = {
    "separable": THETA,
    "tied": [8.0, 0.5, 27.0, 1.0],
    "coupled": [*THETA, 0.6],
    "repeats": [8.0, 0.5, 9.0, 1.0, 2.0, 5.0],
    "farseer": [0.1, 0.3, -0.2, 0.7, 0.4, 0.3, -0.9, 0.2, 0.1],
    "params": [3.0, 0.4, 1.0],
    "events": [3.0, 0.4, 1.0],
    "compute": [3.0, 0.4, 1.0],
}


def one(form: Form, theta: list[float], num_params: float, num_events: float, num_epochs: float = 1.0) -> float:
    """Return the loss of one cell."""
    return float(form.value(np.array(theta), np.array([num_params]), np.array([num_events]), np.array([num_epochs]))[0])


def test_separable_by_hand():
    # 8 / sqrt(4) + 27 / 27^(1/3) + 1 = 4 + 9 + 1, and 8 / sqrt(16) + 27 / 1 + 1 = 2 + 27 + 1.
    loss = Separable().value(THETA, np.array([4.0, 16.0]), np.array([27.0, 1.0]))
    np.testing.assert_allclose(loss, [14.0, 30.0], rtol=1e-14)


def test_tied_by_hand():
    # 8 / sqrt(4) + 27 / sqrt(9) + 1.
    assert one(Tied(), [8.0, 0.5, 27.0, 1.0], 4, 9) == pytest.approx(14.0)


def test_coupled_by_hand_and_as_published():
    # (8 / sqrt(4) + 27 / 27^(1/3) - ...): the base is 4 + 9 = 13, its square root and 1 make 4.6056.
    assert one(Coupled(), [*THETA, 0.5], 4, 27) == pytest.approx(1 + 13**0.5)
    # E + A (N^-a + R D^-b)^k with A = C_N^k and R = C_D / C_N is the same law.
    a, b, k = 0.5, 1 / 3, 0.5
    assert one(Coupled(), [*THETA, k], 4, 27) == pytest.approx(1 + 8**k * (4**-a + 27 / 8 * 27**-b) ** k)


def test_coupled_holds_the_separable_law():
    assert one(Coupled(), [*THETA, 1.0], 5, 7) == pytest.approx(one(Separable(), THETA.tolist(), 5, 7))


@pytest.mark.parametrize(
    ("num_params", "num_events", "published"),
    [(6.34e9, 242e9, 2.2256440889984477), (8.67e9, 178e9, 2.2269634075087867)],
)
def test_repeats_as_published(num_params: float, num_events: float, published: float):
    # Muennighoff et al. 2023, the repository's README: 25e9 unique tokens.
    theta = [np.exp(6.255414), 0.3526596, np.exp(7.3049974), np.exp(0.6254804), 5.309743, 15.387756]
    assert one(Repeats(), theta, num_params, num_events, num_events / 25e9) == pytest.approx(published, rel=1e-12)


def test_farseer_by_hand():
    # All slopes zero: exp(log 2) + exp(log 6) 9^-exp(log .5) = 2 + 6 / 3.
    theta = [np.log(2), 0, 0.5, np.log(6), 0, 0.5, np.log(0.5), 0, 0.5]
    assert one(Farseer(), theta, 7, 9) == pytest.approx(4.0)
    # exp(0 + log(2) 4^.5) + exp(...) with no data term: 2^2.
    assert one(Farseer(), [0, np.log(2), 0.5, -80, 0, 0.5, 0, 0, 0.5], 4, 9) == pytest.approx(4.0)


@pytest.mark.parametrize(("along", "by_hand"), [("params", 1 + 3 / 2), ("events", 1 + 3 / 3), ("compute", 1 + 3 / 6)])
def test_single_axis_by_hand(along: str, by_hand: float):
    assert one(SingleAxis(along), [3.0, 0.5, 1.0], 4, 9) == pytest.approx(by_hand)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_derivatives_match_differences(form: Form):
    theta = np.array(THETAS[form.name])
    points = Points(np.array([0.3, 2.0, 9.0]), np.array([0.4, 1.5, 2.5]), np.ones(3), np.array([1.0, 4.0, 9.0]))
    value, jacobian = (array[0] for array in form.linearize(theta[None], points))
    np.testing.assert_allclose(value, form.predict(theta, points), rtol=1e-12)
    steps = 1e-6 * np.eye(len(theta))
    numeric = np.stack([(form.predict(theta + s, points) - form.predict(theta - s, points)) / 2e-6 for s in steps], -1)
    np.testing.assert_allclose(jacobian, numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_rescale_keeps_the_law(form: Form):
    theta = np.array(THETAS[form.name])
    points = Points(np.array([3.0, 50.0]), np.array([7.0, 400.0]), np.ones(2), np.array([1.0, 3.0]))
    units = (4.0, 1.0 if form.name == "farseer" else 8.0)
    scaled = form.predict(form.rescale(theta, *units), unit_points(points, units))
    np.testing.assert_allclose(scaled, form.predict(theta, points), rtol=1e-12)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_leading_axes_are_draws(form: Form):
    theta = np.array(THETAS[form.name])
    points = Points(np.array([2.0, 3.0, 4.0]), np.array([5.0, 6.0, 7.0]), np.ones(3))
    drawn = form.predict(np.broadcast_to(theta, (2, 5, len(theta))), points)
    np.testing.assert_array_equal(drawn, np.broadcast_to(form.predict(theta, points), (2, 5, 3)))


def test_variable_projection_finds_the_node_of_an_exact_law():
    num_params, num_events = (axis.ravel() for axis in np.meshgrid(np.geomspace(0.1, 10, 6), np.geomspace(0.1, 10, 6)))
    grid = np.geomspace(0.02, 2.5, 18)
    theta = np.array([2.0, grid[9], 3.0, grid[12], 0.5])
    points = Points(num_params, num_events, Separable().value(theta, num_params, num_events))
    np.testing.assert_allclose(variable_projection(points, np.ones(36))[0], theta, rtol=1e-8)
