"""The named domains: long tails, rhythm, habits of users, and what the domains share."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.stats import chi2, chisquare

from behavegpt.data.synthetic.config import GeneratorConfig
from behavegpt.data.synthetic.domains import app, demo, mobility, phone
from behavegpt.data.synthetic.generator import Generated, generate
from behavegpt.data.synthetic.oracle import true_probabilities
from behavegpt.data.synthetic.world import make_world, zipf

Domain = Callable[[], GeneratorConfig]
DOMAINS = pytest.mark.parametrize("domain", [phone, app, mobility])


@cache
def log_of(domain: Domain) -> Generated:
    """Return 180,000 training targets of 500 users."""
    return generate(replace(domain(), num_users=500, num_train_events=180_000, num_val_windows=2, num_test_windows=1))


def test_domains_have_the_sizes_of_the_papers_table() -> None:
    sizes = [(c.num_behaviors, c.num_event_types, c.num_places) for c in (phone(), app(), mobility())]
    assert sizes == [(39, 114, 2000), (2000, 2000, 2000), (14, 140, 24_435)]
    assert demo() == phone() == GeneratorConfig()
    assert demo().num_train_events == 828_000


@DOMAINS
@pytest.mark.parametrize("world_seed", [0, 1, 2])
def test_head_to_tail_exceeds_300_in_expectation(domain: Domain, world_seed: int) -> None:
    """The mean of p* over training windows is each behaviour's frequency without the luck of its last draw."""
    log = generate(replace(domain(), world_seed=world_seed, num_users=100, num_train_events=9_000, num_val_windows=2))
    train = log.values["train"]
    parts = [
        true_probabilities(log.world, train.take(np.arange(s, s + 10))).sum(axis=(0, 1)) for s in range(0, 100, 10)
    ]
    expected = np.sum(parts, axis=0) / 9000
    assert expected.sum() == pytest.approx(1)
    assert expected.max() / expected.min() > 300
    assert expected.max() < 0.75


def test_drawn_behaviours_are_long_tailed_and_most_appear() -> None:
    for domain in (phone, mobility):
        counts = log_of(domain).vocabularies["behavior"].counts
        assert counts[0] / counts[-1] > 250
        assert len(counts) == domain().num_behaviors
    counts = log_of(app).vocabularies["behavior"].counts
    assert counts[0] > 300 * counts[700]
    assert len(counts) > 1000


@DOMAINS
def test_an_event_has_one_behaviour(domain: Domain) -> None:
    windows = log_of(domain).values["train"]
    pairs = set(zip(windows.event.ravel().tolist(), windows.behavior.ravel().tolist(), strict=True))
    assert len(pairs) == len({event for event, _ in pairs})
    if domain is app:
        assert all(event == behavior for event, behavior in pairs)


@DOMAINS
def test_days_and_weeks_have_a_rhythm(domain: Domain) -> None:
    windows = log_of(domain).values["train"]
    hour, behavior = (windows.slot[:, :90].astype(int) - 1) // 2, windows.behavior[:, 1:]
    per_hour = np.bincount(hour.ravel(), minlength=24)
    assert chisquare(per_hour).pvalue < 1e-12
    assert per_hour[:5].sum() < 0.05 * per_hour.sum()
    assert per_hour[19] > 10 * per_hour[3]
    weekend = windows.weekday[:, :90] >= 6
    morning = (hour >= 7) & (hour < 9)
    assert (morning & ~weekend).sum() / 5 > 2 * (morning & weekend).sum() / 2
    most = np.minimum(behavior, 12)
    for groups in (np.where(hour < 14, 0, 1), weekend.astype(int)):
        table = np.zeros((2, 13))
        np.add.at(table, (groups, most), 1)
        assert dependence(table) > chi2.isf(1e-6, 12)


def dependence(table: np.ndarray) -> float:
    """Return the chi-square statistic of rows and columns being independent."""
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    return float(((table - expected) ** 2 / expected).sum())


@DOMAINS
def test_users_have_habits_through_their_own_places(domain: Domain) -> None:
    """Who is at home does what home makes likely: users differ from one another far beyond chance."""
    windows = log_of(domain).values["train"]
    users = windows.user < 40
    following, user = windows.behavior[users][:, 1:], windows.user[users].astype(int)
    table = np.zeros((40, 4))
    np.add.at(table, (user[:, None], np.minimum(following, 3)), 1)
    assert dependence(table) > chi2.isf(1e-20, 39 * 3)


def test_domains_share_the_clock_and_the_profiles_of_the_day() -> None:
    worlds = {domain: make_world(replace(domain(), world_seed=4)) for domain in (phone, app, mobility)}
    shapes = {}
    for domain, world in worlds.items():
        base = zipf(world.num_behaviors, domain().behavior_exponent)
        profile = np.log(world.rhythm / base)
        shapes[domain] = profile - profile[:, :1]  # each moment's own normalisation cancels
    np.testing.assert_allclose(shapes[app][:, :39], shapes[phone], atol=1e-9)
    np.testing.assert_allclose(shapes[mobility], shapes[phone][:, :14], atol=1e-9)
    np.testing.assert_allclose(shapes[app][:, 39:78], shapes[app][:, :39], atol=1e-9)
    assert np.ptp(shapes[phone], axis=0)[1:].min() > 0.1
    per_event = {domain: world.week_rate / world.week_rate.sum() for domain, world in worlds.items()}
    np.testing.assert_allclose(per_event[app], per_event[phone])
    np.testing.assert_allclose(per_event[mobility], per_event[phone])
    assert worlds[app].weights.tolist() == worlds[phone].weights.tolist() == worlds[mobility].weights.tolist()
