"""The loop: each behaviour becomes the next input, a model's cache changes nothing, nor does the company of a user."""

from pathlib import Path

import numpy as np
import pytest
import torch

from behavegpt.data.manifest import read_manifest
from behavegpt.model.config import for_width
from behavegpt.model.sizing import count_params
from behavegpt.model.transformer import BehaveGPT, initialise
from behavegpt.tasks.generation.histories import Histories, blocks, read_histories
from behavegpt.tasks.generation.inputs import InputRules, fit_inputs
from behavegpt.tasks.generation.loop import Generated, generate, repeat_history
from behavegpt.tasks.generation.sampling import Sampling
from behavegpt.tasks.generation.story import COLUMNS, Story
from behavegpt.tasks.generation.voices import CONTEXT, PER_READING, ModelVoice, SystemVoice
from behavegpt.tasks.models import ModelSystem
from behavegpt.tasks.targets import read_tables

NUM = 52
"""Two readings and the begin of a third."""


@pytest.fixture(scope="module")
def model(generated: Path) -> BehaveGPT:
    model = BehaveGPT(for_width(16, vocabulary_sizes=read_manifest(generated).vocabulary_sizes))
    initialise(model, 0)
    return model.eval()


@pytest.fixture(scope="module")
def rules(generated: Path) -> InputRules:
    return fit_inputs(read_tables(generated, read_manifest(generated), "train", COLUMNS))


@pytest.fixture(scope="module")
def histories(generated: Path) -> Histories:
    """Return 37 users of the training split's ids, with 1 to 90 events each."""
    found = read_histories(generated, read_manifest(generated), 8, 1)
    rng = np.random.default_rng(0)
    length = np.array([1, 2, 66, 67, 89, 90, *rng.integers(1, 91, 31)])
    source = rng.integers(0, len(found), len(length))
    inside = np.arange(90) < length[:, None]
    return Histories(
        user=rng.permutation(len(length)).astype(np.uint64) * np.uint64(10**16),
        columns={name: np.where(inside, values[source], 0) for name, values in found.columns.items()},
        length=length,
        truth={name: values[source] for name, values in found.truth.items()},
    )


def same(one: Generated, other: Generated) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in Generated.__slots__)


def take(generated: Generated, rows: slice | np.ndarray) -> Generated:
    return Generated(**{name: getattr(generated, name)[rows] for name in Generated.__slots__})


def test_a_user_gets_the_same_in_any_batch_and_any_order(model, rules, histories):
    sampling = Sampling(seed=5)
    whole = generate(ModelVoice(model), histories, rules, sampling, NUM)
    for size, number in ((1, 3), (3, 9), (36, 37)):
        some = histories.take(slice(0, number))
        parts = [generate(ModelVoice(model), block, rules, sampling, NUM) for block in blocks(some, size)]
        assert same(Generated.join(parts), take(whole, slice(0, number))), size
    order = np.random.default_rng(1).permutation(len(histories))
    shuffled = generate(ModelVoice(model), histories.take(order), rules, sampling, NUM)
    assert same(shuffled, take(whole, order))
    assert not same(generate(ModelVoice(model), histories, rules, Sampling(seed=6), NUM), whole)


def test_the_cache_gives_what_reading_everything_each_time_gives(model, rules, histories):
    """The same events drawn for both, so that the logits of every step are of the same history."""
    story = Story.begin(histories.user, {n: histories.columns[n] for n in COLUMNS}, histories.length, NUM)
    cached = ModelVoice(model)
    whole = SystemVoice(ModelSystem("whole", model, count_params(model.config), torch.device("cpu")))
    for step in range(NUM):
        ask = ["go_on", "read"][step % PER_READING == 0]
        logits, expected = (getattr(voice, ask)(story) for voice in (cached, whole))
        np.testing.assert_allclose(logits, expected, atol=1e-5)
        drawn = expected.argmax(axis=1) + 1
        story.append(rules.draw(story, drawn, np.full((len(drawn), 5), 0.3)))


class Counts:
    """Says that the next behaviour is surely the last one plus one, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, np.ndarray]] = []

    def read(self, story: Story) -> np.ndarray:
        return self._say("read", story)

    def go_on(self, story: Story) -> np.ndarray:
        return self._say("go on", story)

    def _say(self, how: str, story: Story) -> np.ndarray:
        self.asked.append((how, story.length.copy()))
        logits = np.full((len(story.length), 200), -1e3)
        # Class c is behaviour c + 1, so the class of the next behaviour is the id of the last one.
        logits[np.arange(len(logits)), story.last("behavior")] = 0
        return logits


def test_each_behaviour_is_the_next_input(rules, histories):
    voice = Counts()
    found = generate(voice, histories, rules, Sampling(), 30)
    first = histories.columns["behavior"][np.arange(len(histories)), histories.length - 1]
    assert np.array_equal(found.behavior, first[:, None] + np.arange(1, 31))
    assert found.probability.tolist() == np.ones((len(histories), 30)).tolist()
    assert [how for how, _ in voice.asked] == ["read", *["go on"] * 24, "read", *["go on"] * 4]
    for step, (_, length) in enumerate(voice.asked):
        assert np.array_equal(length, histories.length + step)
    assert found.weekday.min() >= 1
    assert found.weekday.max() <= 7
    assert found.slot.min() >= 1
    assert found.slot.max() <= 48


def test_a_model_is_never_given_more_than_it_can_hold():
    assert CONTEXT + PER_READING - 1 == 90


def history(seconds: list[int], behaviors: list[int]) -> Histories:
    columns = {n: np.zeros((1, 90), np.int64) for n in (*COLUMNS, "timestamp")}
    columns["timestamp"][0, : len(seconds)] = seconds
    columns["behavior"][0, : len(seconds)] = behaviors
    columns["slot"][0, : len(seconds)] = np.arange(len(seconds)) + 1
    return Histories(user=np.zeros(1, np.uint64), columns=columns, length=np.array([len(seconds)]), truth={})


HOUR, DAY = 3_600, 86_400


@pytest.mark.parametrize(
    ("seconds", "behaviors", "repeated"),
    [
        # Eight days: what is less than a week old comes again, without the event that has no behaviour.
        ([0, DAY, 2 * DAY, 5 * DAY, 8 * DAY], [2, 3, 4, 0, 6], [4, 6, 4, 6, 4]),
        # Exactly a week before the last event: that one was repeated by it.
        ([0, DAY, 7 * DAY], [2, 3, 4], [3, 4, 3, 4, 3]),
        # Two days and an hour: the period is two days.
        ([0, 2 * HOUR, DAY, 2 * DAY + HOUR], [2, 3, 4, 5], [3, 4, 5, 3, 4]),
        # Less than a day: all of it.
        ([0, HOUR, 2 * HOUR], [2, 3, 4], [2, 3, 4, 2, 3]),
        # No behaviour at all: the most frequent one of training.
        ([0, HOUR], [0, 0], [2, 2, 2, 2, 2]),
    ],
)
def test_the_user_does_again_what_the_user_did_a_week_before(seconds, behaviors, repeated):
    found = repeat_history(history(seconds, behaviors), 5)
    assert found["behavior"].tolist() == [repeated]
    if 0 not in behaviors:
        assert found["slot"].tolist() == [[behaviors.index(b) + 1 for b in repeated]]
