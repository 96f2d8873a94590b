"""The rules without parameters: against loops over dictionaries of counts."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from behavegpt.baselines.context import last_behaviors
from behavegpt.baselines.markov import Markov
from behavegpt.baselines.most_frequent import MostFrequent
from behavegpt.baselines.repeat_last import RepeatLast
from behavegpt.baselines.user_slot import UserSlot
from behavegpt.data.batches import Batch
from behavegpt.tasks.targets import TargetBatch


def walk(batch):
    """Yield (user, slot, last, last but one, class) of every target by plain loops; 0 where there is no behaviour."""
    for window in range(len(batch.user)):
        for at in range(batch.behavior.shape[1]):
            if batch.inputs.targets[window, at] < 0:
                continue
            known = [b for b in batch.behavior[window, : at + 1] if b]
            last, before = ([0, 0, *known])[-1], ([0, 0, *known])[-2]
            slot = int(batch.inputs.features["slot"][window, at])
            yield int(batch.user[window]), slot, int(last), int(before), int(batch.inputs.targets[window, at])


def expected(training, batch, contexts):
    """Return (T, V) probabilities by Witten and Bell's back-off along a chain of contexts."""
    num_classes = training.num_classes
    unigram = Counter()
    counts = [defaultdict(Counter) for _ in contexts]
    for one in training.targets():
        for *seen, target in walk(one):
            unigram[target] += 1
            for context, table in zip(contexts, counts, strict=True):
                if (key := context(*seen)) is not None:
                    table[key][target] += 1
    total = sum(unigram.values())
    rows = []
    for *seen, _ in walk(batch):
        p = np.array([(unigram[c] + 0.5) / (total + num_classes / 2) for c in range(num_classes)])
        for context, table in zip(contexts, counts, strict=True):
            followed = table.get(context(*seen))
            if followed:
                distinct, n = len(followed), sum(followed.values())
                p = np.array([(followed[c] + distinct * p[c]) / (n + distinct) for c in range(num_classes)])
        rows.append(p)
    return np.array(rows)


@pytest.mark.parametrize(
    ("kind", "contexts"),
    [
        (MostFrequent, []),
        (
            Markov,
            [lambda u, s, last, before: last or None, lambda u, s, last, before: (before, last) if before else None],
        ),
        (UserSlot, [lambda u, s, last, before: u, lambda u, s, last, before: (u, s)]),
    ],
)
def test_equal_to_dictionaries_of_counts(kind, contexts, make_training, batch):
    system, training = kind(), make_training()
    system.fit(training)
    assert np.exp(system.scores(batch)) == pytest.approx(expected(training, batch, contexts), abs=1e-12)


def test_a_user_that_training_does_not_know_gets_the_most_frequent(make_training, batch):
    system, plain, training = UserSlot(), MostFrequent(), make_training()
    system.fit(training)
    plain.fit(training)
    stranger = TargetBatch(inputs=batch.inputs, behavior=batch.behavior, user=batch.user + np.uint64(10**6))
    assert system.scores(stranger) == pytest.approx(plain.scores(stranger))


def test_the_last_behavior_ranks_first_and_the_others_by_frequency(make_training, batch):
    system, training = RepeatLast(), make_training()
    system.fit(training)
    scores = system.scores(batch)
    last, _ = last_behaviors(batch)
    assert (last > 0).all()
    assert (scores.argmax(axis=1) == last - 1).all()
    counts = Counter(target for one in training.targets() for *_, target in walk(one))
    order = sorted(range(training.num_classes), key=lambda c: -counts[c])
    for row, first in zip(scores[:50], last[:50] - 1, strict=True):
        rest = [c for c in order if c != first]
        assert list(np.argsort(-row, kind="stable")[1:]) == pytest.approx(rest)


def test_repeating_is_as_likely_as_training_repeated(make_training, batch):
    """The weight is the maximum of the training likelihood: a little more or less is worse."""
    system, training = RepeatLast(), make_training()
    system.fit(training)
    same = [(last - 1, target) for one in training.targets() for _, _, last, _, target in walk(one) if last]
    p = system._unigram

    def likelihood(w):
        return sum(np.log(w * (a == b) + (1 - w) * p[b]) for a, b in same)

    best = likelihood(system._weight)
    assert 0 < system._weight < 1
    assert likelihood(system._weight + 0.01) < best > likelihood(max(0, system._weight - 0.01))
    assert softmax(log_softmax(system.scores(batch), axis=1), axis=1).sum() == pytest.approx(len(batch.targets))


def test_last_behaviors_skip_events_without_one():
    behavior = np.zeros((2, 90), np.int64)
    behavior[0, :6] = [3, 0, 5, 0, 0, 2]
    targets = np.full((2, 90), -1)
    targets[0, :6] = targets[1, 0] = 1
    batch = TargetBatch(
        inputs=Batch({"slot": np.ones((2, 90), np.int64)}, targets, np.zeros(2, np.uint64)),
        behavior=behavior,
        user=np.zeros(2, np.uint64),
    )
    last, before = last_behaviors(batch)
    assert last.tolist() == [3, 3, 5, 5, 5, 2, 0]
    assert before.tolist() == [0, 0, 3, 3, 3, 5, 0]
