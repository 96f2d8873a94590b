"""The predictor against the plain model, one user at a time, and against counts by hand."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch

from behavegpt.model.config import for_width
from behavegpt.model.transformer import BehaveGPT, initialise
from behavegpt.schema import FEATURES, NUM_INPUTS
from behavegpt.tasks.prediction.histories import to_table
from behavegpt.tasks.prediction.predictor import WINDOWS_PER_BATCH, Predictor

SIZES = {"weekday": 8, "slot": 49, "location": 30, "event": 20, "behavior": 9}
BEHAVIORS = [f"b{i}" for i in range(2, 9)]
"""Names of the ids 2 .. 8."""
LENGTHS = np.array([1, 2, 14, 15, 16, 45, 89, 90] + [90, 31, 7] * 14)


@pytest.fixture
def model() -> BehaveGPT:
    torch.set_num_threads(1)
    model = BehaveGPT(for_width(32, depth=3, vocabulary_sizes=SIZES))
    initialise(model, 0)
    return model.eval()


@pytest.fixture
def histories() -> pa.Table:
    """Return the histories of 50 users; what lies behind an end is 0."""
    rng = np.random.default_rng(0)
    inside = np.arange(NUM_INPUTS) < LENGTHS[:, None]
    ids = {name: rng.integers(1, SIZES[name], inside.shape).astype(np.uint8) * inside for name in FEATURES}
    return to_table(pa.array([f"u{i}" for i in range(len(LENGTHS))]), ids, LENGTHS)


def plain(histories: pa.Table, call: Callable[[list[torch.Tensor]], torch.Tensor]) -> list[torch.Tensor]:
    """Return what `call` gives at the last event of each user, alone and without padding."""
    found = []
    for row in histories.to_pylist():
        ids = [torch.tensor([row[name][: row["length"]]]) for name in FEATURES]
        with torch.no_grad():
            found.append(call(ids)[0, -1])
    return found


def test_behaviors_and_probabilities_are_those_of_the_plain_model(model, histories):
    predicted = Predictor(model, BEHAVIORS, 3)(histories)
    assert predicted["user"].to_pylist() == [f"u{i}" for i in range(50)]
    for row, logits in zip(predicted.to_pylist(), plain(histories, lambda ids: model(*ids)), strict=True):
        # Class c is behaviour id c + 1; class 0, `other`, has its share of the probability and no name.
        probability = logits.softmax(0)
        named = {f"b{c + 1}": float(probability[c]) for c in range(1, 8)}
        expected = sorted(named, key=lambda name: -named[name])[:3]
        assert row["behaviors"] == expected
        assert row["probabilities"] == pytest.approx([named[name] for name in expected], abs=1e-6)


def test_embeddings_are_the_final_hidden_states(model, histories):
    predicted = Predictor(model, BEHAVIORS, None)(histories)
    seen = {}
    model.final_norm.register_forward_hook(lambda module, inputs, output: seen.update(state=output))

    def state(ids: list[torch.Tensor]) -> torch.Tensor:
        model(*ids)
        return seen["state"]

    expected = torch.stack(plain(histories, state)).numpy()
    np.testing.assert_allclose(np.array(predicted["embedding"].to_pylist()), expected, atol=2e-5)


@pytest.mark.parametrize("top_k", [7, None])
def test_a_users_row_has_the_same_bits_in_any_company(model, histories, top_k):
    predictor = Predictor(model, BEHAVIORS, top_k)
    together = predictor(histories)
    backwards = pa.array(np.arange(len(LENGTHS))[::-1])
    assert predictor(histories.take(backwards)) == together.take(backwards)
    assert predictor(pa.concat_tables([histories] * 3)) == pa.concat_tables([together] * 3)
    for size in (1, 7, WINDOWS_PER_BATCH + 1):
        parts = [predictor(histories.slice(first, size)) for first in range(0, len(LENGTHS), size)]
        assert pa.concat_tables(parts) == together


def test_equals_are_ranked_by_frequency_and_other_is_never_named(model, histories):
    with torch.no_grad():
        model.head.output.weight.zero_()
        model.head.output.bias.zero_()
        model.head.output.bias[0] = 3.0
    predicted = Predictor(model, BEHAVIORS, 7)(histories)
    share = 1 / (np.exp(3.0) + 7)
    for row in predicted.to_pylist():
        assert row["behaviors"] == BEHAVIORS
        assert row["probabilities"] == pytest.approx([share] * 7, rel=1e-5)


def test_counts_of_what_the_model_does_not_know(model):
    ids = {name: np.zeros((2, NUM_INPUTS), np.uint16) for name in FEATURES}
    ids["weekday"][0, :4], ids["weekday"][1, :2] = 3, 7
    ids["slot"][0, :4], ids["slot"][1, :2] = 20, 48
    ids["event"][0, :4], ids["event"][1, :2] = [1, 5, 1, 2], [2, 3]
    ids["location"][0, :4], ids["location"][1, :2] = [0, 0, 9, 1], [0, 4]
    predicted = Predictor(model, BEHAVIORS, 1)(to_table(pa.array([7, 8], pa.uint64()), ids, np.array([4, 2])))
    counted = [[row[name] for name in predicted.column_names[-4:]] for row in predicted.to_pylist()]
    assert predicted.column_names[-4:] == ["num_events", "unknown_events", "unknown_locations", "missing_locations"]
    assert counted == [[4, 2, 1, 2], [2, 0, 0, 1]]
