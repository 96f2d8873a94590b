"""The rules of the next input: sources against loops, shares against a closed form, draws by hand."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from behavegpt.schema import WINDOW_LENGTH
from behavegpt.tasks.generation.inputs import (
    InputRules,
    event_sources,
    explained,
    fit_inputs,
    fit_shares,
    location_sources,
    steps_to_known,
)
from behavegpt.tasks.generation.story import COLUMNS, Story
from behavegpt.tasks.generation.tables import PairCounts, Pairs

SIZES = {"weekday": 8, "slot": 49, "location": 6, "event": 7, "behavior": 5}


def windows(seed: int, number: int = 6, length: int = 12) -> dict[str, np.ndarray]:
    """Return windows of ids; some events have no behaviour, and the last window is shorter."""
    rng = np.random.default_rng(seed)
    columns = {name: rng.integers(1, size, (number, length)) for name, size in SIZES.items()}
    columns["behavior"][rng.random((number, length)) < 0.2] = 0
    for values in columns.values():
        values[-1, length // 2 :] = 0
    return columns


def pairs_of(columns: dict[str, np.ndarray], given: str, value: str) -> Pairs:
    known = columns[given] > 0
    counts = PairCounts()
    counts.add(columns[given][known], columns[value][known])
    return counts.table()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_sources_of_an_event_are_counted_as_a_loop_counts_them(seed: int):
    columns = windows(seed)
    events, locations = pairs_of(columns, "behavior", "event"), pairs_of(columns, "event", "location")
    of_events, of_locations = event_sources(columns, events), location_sources(columns, locations)
    every = [(r, t) for r in range(len(columns["event"])) for t in range(columns["event"].shape[1])]
    places = list(zip(*explained(columns), strict=True))
    assert places == [(r, t) for r, t in every if t > 0 and columns["behavior"][r, t] > 0]

    def share(name: str, at: tuple[int, int], among: list[tuple[int, int]]) -> float | None:
        same = [columns[name][p] == columns[name][at] for p in among]
        return sum(same) / len(same) if same else None

    def trained(given: str, value: str, at: tuple[int, int]) -> float:
        others = [p for p in every if p != at and columns[given][p] == columns[given][at]]
        return share(value, at, others) or 0.0

    def part(p: tuple[int, int]) -> tuple[int, bool]:
        return (int(columns["slot"][p]) - 1) // 8, bool(columns["weekday"][p] >= 6)

    for found_event, found_place, at in zip(of_events, of_locations, places, strict=True):
        past = [(at[0], t) for t in range(at[1])]
        own = share("event", at, [p for p in past if columns["behavior"][p] == columns["behavior"][at]])
        expected = trained("behavior", "event", at)
        assert found_event == pytest.approx([expected if own is None else own, expected])
        anywhere = share("location", at, past)
        with_event = share("location", at, [p for p in past if columns["event"][p] == columns["event"][at]])
        at_moment = share("location", at, [p for p in past if part(p) == part(at)])
        expected = [anywhere if x is None else x for x in (with_event, at_moment)]
        last = float(columns["location"][past[-1]] == columns["location"][at])
        assert found_place == pytest.approx([*expected, anywhere, last, trained("event", "location", at)])


def test_shares_have_a_closed_form_where_each_observation_has_one_source():
    """Three of four come from the first; what no source explains does not count."""
    likelihood = np.array([[0.2, 0], [0.9, 0], [0.1, 0], [0, 0.3], [0, 0]])
    assert fit_shares(likelihood) == pytest.approx([0.75, 0.25])
    assert fit_shares(np.zeros((3, 2))).tolist() == [0.5, 0.5]


def test_shares_make_the_observations_likeliest():
    likelihood = np.random.default_rng(0).random((200, 3))
    shares = fit_shares(likelihood)
    best = np.log(likelihood @ shares).sum()
    for other in np.random.default_rng(1).dirichlet(np.ones(3), 200):
        assert np.log(likelihood @ other).sum() <= best + 1e-6


def test_steps_lead_to_the_next_event_that_has_a_behaviour():
    columns = {"weekday": [[1, 1, 1, 2]], "slot": [[1, 2, 3, 1]], "behavior": [[4, 0, 2, 0]]}
    now, following = steps_to_known({name: np.array(values) for name, values in columns.items()})
    assert (now.tolist(), following.tolist()) == ([0, 1], [2, 2])


def rules(**shares: list[float]) -> InputRules:
    columns = windows(0, 40, WINDOW_LENGTH)
    table = pa.table({n: pa.FixedSizeListArray.from_arrays(columns[n].ravel(), WINDOW_LENGTH) for n in COLUMNS})
    return replace(fit_inputs([table]), **{name: np.array(values) for name, values in shares.items()})


def story() -> Story:
    """One user: five events, the third without a behaviour; room for two more."""
    columns = {
        "weekday": [[1, 1, 6, 1, 1]],
        "slot": [[1, 2, 2, 40, 41]],
        "location": [[2, 3, 4, 5, 2]],
        "event": [[2, 3, 3, 2, 4]],
        "behavior": [[3, 4, 0, 3, 2]],
    }
    return Story.begin(np.array([9], np.uint64), {n: np.array(v) for n, v in columns.items()}, np.array([5]), 2)


def draw(which: InputRules, behavior: int, *u: float) -> dict[str, int]:
    drawn = which.draw(story(), np.array([behavior]), np.array([u]))
    return {name: int(values[0]) for name, values in drawn.items()}


@pytest.mark.parametrize(("behavior", "u", "event"), [(3, 0.0, 2), (4, 0.9, 3), (2, 0.5, 4)])
def test_an_event_of_the_user_with_the_behaviour(behavior: int, u: float, event: int):
    drawn = draw(rules(event_shares=[1, 0]), behavior, 0, 0.5, u, 0, 0)
    assert (drawn["event"], drawn["behavior"]) == (event, behavior)


def test_an_event_of_training_where_the_user_has_none_and_other_where_training_has_none():
    fitted = rules(event_shares=[1, 0])
    seen = windows(0, 40, WINDOW_LENGTH)
    with_behavior = set(seen["event"][:, 1:][seen["behavior"][:, 1:] == 1].tolist())
    assert draw(fitted, 1, 0, 0.5, 0.3, 0, 0)["event"] in with_behavior
    assert draw(fitted, 77, 0, 0.5, 0.3, 0, 0)["event"] == 1


@pytest.mark.parametrize(
    ("source", "u", "location"),
    [
        (0, 0.0, 2),  # event 2 was at places 2 and 5
        (0, 0.9, 5),
        (2, 0.0, 2),  # any of 2, 3, 4, 5, 2
        (2, 0.3, 3),
        (2, 0.7, 5),
        (3, 0.5, 2),  # the last one
    ],
)
def test_a_location_from_each_source(source: int, u: float, location: int):
    shares = [float(i == source) for i in range(5)]
    assert draw(rules(event_shares=[1, 0], location_shares=shares), 3, 0, 0.5, 0.0, 0.5, u)["location"] == location


def test_a_location_at_this_part_of_the_day():
    """The next event is at the slot of the last one, in the part that begins with slot 41: there it was at place 2."""
    counts = np.zeros((336, 336))
    counts[:, 0] = 1e9
    fitted = rules(event_shares=[1, 0], location_shares=[0, 1, 0, 0, 0])
    still = replace(fitted, clock=type(fitted.clock).fit(counts))
    drawn = draw(still, 3, 0.5, 0.5, 0.0, 0.5, 0.99)
    assert (drawn["weekday"], drawn["slot"], drawn["location"]) == (1, 41, 2)


def test_the_shares_are_fitted_on_what_training_shows():
    """Everyone stays where he was, and does one event only: last place and own event explain all."""
    columns = windows(3, 30, WINDOW_LENGTH)
    columns["location"] = np.repeat(np.arange(30)[:, None] + 1, WINDOW_LENGTH, axis=1)
    table = pa.table({n: pa.FixedSizeListArray.from_arrays(columns[n].ravel(), WINDOW_LENGTH) for n in COLUMNS})
    fitted = fit_inputs([table])
    assert fitted.location_shares[:4].sum() > 0.99
    assert fitted.to_json()["location"]["training with the event"] < 0.01
