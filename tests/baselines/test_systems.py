"""What holds for every system: it is found, it is a distribution, it sees nothing of what it predicts."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax

from behavegpt.baselines import choose_systems, find_systems
from behavegpt.errors import InputError
from behavegpt.tasks.outcomes import score

NAMES = sorted(find_systems())


def test_every_file_of_the_package_that_states_a_system_is_found():
    assert NAMES == ["markov", "most-frequent", "repeat-last", "sasrec", "sasrec-bce", "user-slot"]


def test_an_unknown_system_is_named_with_the_nearest_one():
    with pytest.raises(InputError) as caught:
        choose_systems(("markow", "sasrec", "nothing"))
    assert len(caught.value.problems) == 2
    assert "systems has 'markow'" in caught.value.problems[0]
    assert "Did you mean 'markov'?" in caught.value.problems[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_target_is_scored_by_what_comes_before_it_alone(name, make_training, batch):
    """Everything from the target on is replaced by something else; the scores stay to the last bit."""
    [kind] = choose_systems((name,))
    system = kind()
    system.fit(make_training())
    before = system.scores(batch)
    window, position = batch.places
    for cut in (0, 17, 63):
        features = {n: values.copy() for n, values in batch.inputs.features.items()}
        for values in features.values():
            values[:, cut + 1 :] = values[::-1, :0:-1][:, : values.shape[1] - cut - 1]
        behavior = batch.behavior.copy()
        behavior[:, cut + 1 :] = 1 + (behavior[:, cut + 1 :] + 1) % 7
        changed = replace(batch, inputs=replace(batch.inputs, features=features), behavior=behavior)
        after = system.scores(changed)
        assert np.array_equal(before[position <= cut], after[position <= cut])
        assert name == "most-frequent" or not np.array_equal(before[position > cut], after[position > cut])
    assert len(window) == len(before)


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_of_every_class_and_the_same_in_any_batch(name, make_training, batch, part):
    [kind] = choose_systems((name,))
    system = kind()
    training = make_training()
    system.fit(training)
    whole = system.scores(batch)
    assert whole.shape == (len(batch.targets), training.num_classes)
    assert np.isfinite(log_softmax(whole, axis=1)).all()
    parts = np.concatenate([system.scores(part(batch, slice(i, i + 5))) for i in range(0, 24, 5)])
    assert parts == pytest.approx(whole, abs=1e-4)
    assert score(system, [batch]).rank.shape == batch.targets.shape
