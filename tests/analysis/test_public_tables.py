"""Golden figures of public tables: published fits, scipy's silent failures, held-out error, coverage of intervals."""

import math
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from scipy.optimize import OptimizeWarning, curve_fit

from analysis import fit_law, read_table
from analysis.bootstrap import bootstrap
from analysis.calibration import Spread, calibrate
from analysis.fit import fit, r_squared
from analysis.forms import Coupled, Farseer, Form, Points, Repeats, Separable
from analysis.ladder import candidates, compete
from analysis.refit import Method
from analysis.soundness import stalled

pytestmark = pytest.mark.real_data
TABLES = {
    "chinchilla_kyo_takano": ({},),
    "gemstones": ({"split": "hot"}, {"split": "cool_end"}),
    "gadre_openlm": ({"dataset": "c4_original"}, {"dataset": "rpj"}, {"dataset": "rw_original"}),
    "datablations_c4": ({"used_in_published_fit": 1},),
    "farseer": ({},),
}
"""Each table's rows that one law may hold."""


def error(form: Form, cheap: Points, dear: Points, method: Method = "huber") -> float:
    """Return the mean relative error on dear cells of a law of the cheap ones."""
    return float(np.abs(fit(form, cheap, method).predict(dear) / dear.loss - 1).mean())


def split(table: str, points: Points) -> tuple[Points, Points]:
    """Return the cheap and the dear cells: those that the table's authors or earlier studies held out."""
    compute = 6 * points.compute()
    dear = {
        "chinchilla_kyo_takano": compute >= 1e21,
        "gemstones": compute >= compute.max() / 10,
        "gadre_openlm": points.num_params >= 1e9,
        "datablations_c4": compute >= 2e20,
    }[table]
    return points.take(~dear), points.take(dear)


def splits(load_points: Callable[..., Points]) -> Iterator[tuple[str, Points, Points]]:
    for table, parts in TABLES.items():
        for rows in parts if table != "farseer" else ():
            yield table, *split(table, load_points(table, **rows))
    yield "farseer", load_points("farseer", split="train"), load_points("farseer", split="test")


@pytest.mark.parametrize(
    ("method", "golden"),
    [
        ("huber", (442.2, 0.3426, 1271.8, 0.3420, 1.7839)),
        ("curve_fit", (475.4, 0.3470, 1798.9, 0.3588, 1.8091)),
    ],
)
def test_chinchilla(method: Method, golden: tuple[float, ...], load_points: Callable[..., Points]):
    found = fit(Separable(), load_points("chinchilla_kyo_takano"), method)
    np.testing.assert_allclose(found.theta, golden, rtol=3e-4)
    assert found.n_used == 234


def test_besiroglus_fit_lies_within_the_intervals(load_points: Callable[..., Points]):
    # arXiv 2404.10102, their own reading of the same figure: A, alpha, B, beta, E, and standard errors by 4000 draws.
    points = load_points("chinchilla_kyo_takano")
    draws = bootstrap(points, np.arange(234), fit(Separable(), points, "huber"), num_draws=4000, seed=0)
    published = {"C_N": 482.01, "alpha": 0.3478, "C_D": 2085.4, "beta": 0.3658, "L0": 1.8169}
    for name, (low, high) in draws.intervals().items():
        assert low < published[name] < high, name
    errors = dict(zip(Separable.parameters, draws.draws[0].std(axis=0), strict=True))
    for name, theirs in (("alpha", 0.0154), ("beta", 0.0206), ("L0", 0.0257)):
        assert errors[name] == pytest.approx(theirs, rel=0.4), name


def test_gemstones_as_published(load_points: Callable[..., Points]):
    # McLeish et al. 2025, split hot, Huber 1e-3: ln A, alpha, ln B, beta, ln E.
    C_N, alpha, C_D, beta, L0 = fit(Separable(), load_points("gemstones", split="hot"), "huber").theta
    logs = [math.log(C_N), alpha, math.log(C_D), beta, math.log(L0)]
    np.testing.assert_allclose(logs, [5.36134, 0.29287, 15.41599, 0.71287, 0.76226], rtol=5e-4)


def test_the_published_repeat_law_explains_what_counting_epochs_as_data_does_not(load_points: Callable[..., Points]):
    # Muennighoff et al. report R2 .772 on 182 runs, .445 with epochs counted as data. Which 182 the table does not say;
    # those of at most 40 epochs and a loss below 5.5 are 184.
    theta = np.array([np.exp(6.255414), 0.3526596, np.exp(7.3049974), np.exp(0.6254804), 5.309743, 15.387756])
    points = load_points("datablations_c4")
    points = points.take((points.num_epochs <= 40) & (points.loss <= 5.5))
    assert r_squared(points.loss, Repeats().predict(theta, points)) == pytest.approx(0.772, abs=0.006)
    assert r_squared(points.loss, Repeats().predict(theta, points._replace(num_epochs=np.ones(())))) == pytest.approx(
        0.445, abs=0.006
    )


def test_repeats_beat_counting_epochs_as_data(load_points: Callable[..., Points]):
    cheap, dear = split("datablations_c4", load_points("datablations_c4", used_in_published_fit=1))
    assert error(Repeats(), cheap, dear) < 0.8 * min(error(Separable(), cheap, dear), error(Coupled(), cheap, dear))


def test_farseers_targets(load_points: Callable[..., Points]):
    cheap, dear = load_points("farseer", split="train"), load_points("farseer", split="test")
    assert len(dear.loss) == 7
    assert error(Separable(), cheap, dear) == pytest.approx(0.0299, abs=2e-4)
    assert error(Separable(), cheap, dear, "curve_fit") == pytest.approx(0.0324, abs=2e-4)
    assert error(Coupled(), cheap, dear, "curve_fit") == pytest.approx(0.0062, abs=2e-4)
    assert error(Farseer(), cheap, dear) < 0.0035


def test_farseers_separable_fit_is_flagged(shared_dir):
    path = shared_dir / "tables" / "farseer.csv"
    table = read_table(path, params_column="N", events_column="D", loss_column="loss")
    law = fit_law(table, method="huber", form="separable", num_draws=0)
    assert any("Lack of fit of the form" in warning and "farseer" in warning for warning in law.warnings)
    assert any("Extrapolation misses" in warning for warning in law.warnings)


@pytest.mark.parametrize("table", TABLES)
def test_scipys_silent_failures_are_caught(table: str, load_points: Callable[..., Points]):
    # As people call it: no start, no bounds, no gradient. What it returns is no optimum, and only a warning says so.
    def law(x: np.ndarray, *theta: float) -> np.ndarray:
        return Separable().value(np.array(theta), x[0], x[1])

    for rows in TABLES[table]:
        points = load_points(table, **rows)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", OptimizeWarning)
            try:
                theirs = curve_fit(law, np.stack(points[:2]), points.loss, p0=np.ones(5))[0]
            except RuntimeError:
                continue  # loud: nothing to catch
        ours = fit(Separable(), points, "curve_fit")
        squares = float(((law(np.stack(points[:2]), *theirs) - points.loss) ** 2).sum())
        failed = stalled(Separable(), points, np.ones(5), theirs)
        assert bool(failed) == (squares > ours.objective * (1 + 1e-6)), (rows, theirs, failed)
        assert not any("stopped" in why or "handed" in why or "gave up" in why for why in ours.failures)


@pytest.mark.slow
def test_the_chosen_form_is_no_worse_than_separable_and_coupled_on_cells_it_never_saw(load_points):
    errors: dict[str, list[np.ndarray]] = {}
    for table, cheap, dear in splits(load_points):
        chosen = compete(candidates(cheap), cheap, np.arange(len(cheap.loss)), "huber").chosen
        three = [error(form, cheap, dear) for form in (chosen, Separable(), Coupled())]
        errors.setdefault(table, []).append(len(dear.loss) * np.array(three))
    for table, parts in errors.items():
        ours, separable, coupled = np.sum(parts, axis=0)
        assert ours <= min(separable, coupled) * (1 + 1e-9), table


@pytest.mark.slow
def test_calibrated_intervals_cover_cells_they_never_saw(load_points: Callable[..., Points]):
    # One run, nominal 95 %; form, law and calibration see the cheap cells only. Measured: 98.6 % of
    # 284 held-out cells, the bootstrap alone 86.6 %; Chinchilla 83 (74), gemstones 100 (87), farseer 100 (57).
    covered: dict[str, list[bool]] = {}
    for table, cheap, dear in splits(load_points):
        rows = np.arange(len(cheap.loss))
        contest = compete(candidates(cheap), cheap, rows, "huber")
        found = fit(contest.chosen, cheap, "huber")
        draws = bootstrap(cheap, rows, found, num_draws=300, seed=0)
        steps = contest.steps[contest.chosen.name]
        for name, told in (("calibrated", calibrate(steps, 0.95, 0)), ("bootstrap", None)):
            low, high = Spread(draws=draws, calibration=told).run_band(found, dear)
            held = ((low <= dear.loss) & (dear.loss <= high)).tolist()
            covered.setdefault(name, []).extend(held)
            covered.setdefault(f"{name}, {table}", []).extend(held)
    print({name: f"{np.mean(held):.3f} of {len(held)}" for name, held in covered.items()})
    assert np.mean(covered["calibrated"]) >= 0.85
