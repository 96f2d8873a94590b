"""The model sees the past alone, starts the same from a seed, and its parameters fall into three kinds."""

import math

import pytest
import torch

from behavegpt.errors import InputError
from behavegpt.model.config import ModelConfig, for_width
from behavegpt.model.layers import Block, Head, Lookup
from behavegpt.model.transformer import (
    BehaveGPT,
    embedding_parameters,
    initialise,
    matrix_parameters,
    vector_parameters,
)

SIZES = {"weekday": 8, "slot": 49, "location": 30, "event": 20, "behavior": 40}
CONFIG = for_width(32, vocabulary_sizes=SIZES)
FEATURES = ("weekday", "slot", "location", "event")


def make_model(config: ModelConfig = CONFIG, seed: int = 0) -> BehaveGPT:
    model = BehaveGPT(config)
    initialise(model, seed)
    return model


def random_batch(num_windows: int, length: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randint(1, size, (num_windows, length), generator=generator)
        for name, size in CONFIG.table_sizes.items()
    }


@torch.no_grad()
def test_logits_have_one_class_less_than_behavior_ids():
    assert make_model()(**random_batch(3, 90)).shape == (3, 90, 39)
    assert make_model()(**random_batch(2, 7)).shape == (2, 7, 39)


@torch.no_grad()
@pytest.mark.parametrize("feature", FEATURES)
def test_no_feature_of_a_later_event_reaches_a_prediction(feature):
    """Row i scores event i + 1: neither that event nor any later one may move it; event i itself must."""
    model, length = make_model(), 90
    batch = random_batch(1, length)
    before = model(**batch)
    for cut in range(length):
        changed = {**batch, feature: batch[feature].clone()}
        changed[feature][:, cut:] = changed[feature][:, cut:] % (CONFIG.table_sizes[feature] - 1) + 1
        after = model(**changed)
        torch.testing.assert_close(after[:, :cut], before[:, :cut], atol=1e-6, rtol=0)
        assert (after[:, cut] - before[:, cut]).abs().max() > 1e-3


def test_gradient_of_a_row_reaches_exactly_its_past():
    model, length = make_model(), 12
    batch = random_batch(1, length)
    streams = []
    model.dropout.register_forward_hook(lambda module, args, output: streams.append(output))
    logits = model(**batch)
    for row in range(length):
        (gradient,) = torch.autograd.grad(logits[0, row].square().sum(), streams[0], retain_graph=True)
        reached = gradient[0].abs().amax(dim=-1) > 0
        assert reached.tolist() == [True] * (row + 1) + [False] * (length - row - 1)


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 2, 40, 89])
def test_right_padding_changes_no_real_row(length):
    model = make_model()
    short = random_batch(2, length)
    padded = {name: torch.nn.functional.pad(ids, (0, 90 - length)) for name, ids in short.items()}
    torch.testing.assert_close(model(**padded)[:, :length], model(**short), atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_window_does_not_read_its_neighbours_in_the_batch():
    model, batch = make_model(), random_batch(3, 20)
    alone = {name: ids[1:2] for name, ids in batch.items()}
    torch.testing.assert_close(model(**batch)[1:2], model(**alone), atol=1e-6, rtol=0)


@torch.no_grad()
def test_embeddings_are_concatenated_in_order_and_positions_added():
    model, batch = make_model(), random_batch(2, 5)
    streams = []
    model.dropout.register_forward_hook(lambda module, args, output: streams.append(output))
    model(**batch)
    for part, name in enumerate(FEATURES):
        columns = slice(part * 8, part * 8 + 8)
        expected = model.embeddings[name].weight[batch[name][1, 3]] + model.positions[3, columns]  # pyright: ignore
        torch.testing.assert_close(streams[0][1, 3, columns], expected)


@torch.no_grad()
def test_the_head_is_the_papers_mlp_with_two_thirds_of_its_units_fixed():
    head, stream = Head(8, 5), torch.randn(3, 7, 8)
    one, none = torch.eye(8), torch.zeros(8)
    w1 = torch.cat([head.hidden.weight, one, -one])
    b1 = torch.cat([head.hidden.bias, none, none])
    w2 = torch.cat([head.output.weight, head.output.weight, -head.output.weight], dim=1)
    expected = torch.nn.functional.gelu(stream @ w1.T + b1) @ w2.T + head.output.bias
    torch.testing.assert_close(head(stream), expected)


def test_initialisation_depends_on_its_seed_alone():
    torch.manual_seed(1)
    first, state = make_model(seed=5), torch.get_rng_state()
    initialise(first, 5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second, other = make_model(seed=5), make_model(seed=6)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.head.output.weight, other.head.output.weight)
    assert not torch.equal(first.embeddings["slot"].weight, other.embeddings["slot"].weight)  # pyright: ignore


@torch.no_grad()
def test_initial_scales():
    config = ModelConfig(width=256, depth=3, num_heads=4, num_locations=500, num_event_ids=90, num_behavior_ids=200)
    model = make_model(config)
    block = model.blocks[1]
    assert isinstance(block, Block)
    gpt2_at_256 = 0.04  # 0.02 * sqrt(1024 / 256)
    expected_stds = [
        (block.attention.qkv, gpt2_at_256),
        (block.feed_forward.hidden, gpt2_at_256),
        (model.head.output, gpt2_at_256),
        (block.attention.output, gpt2_at_256 / math.sqrt(6)),
        (block.feed_forward.output, gpt2_at_256 / 2 / math.sqrt(6)),  # fan-in 1024, so 0.02 before the depth's share
        (model.embeddings["location"], 0.3),
    ]
    for layer, std in expected_stds:
        assert float(layer.weight.std()) == pytest.approx(std, rel=0.03)  # pyright: ignore
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            expected = 1.0 if name.endswith("norm.weight") else 0.0
            assert (parameter == expected).all(), name
    assert model.positions[3, 1] / model.positions[0, 1] == pytest.approx(math.cos(3), abs=1e-5)


def test_the_three_kinds_of_parameters_are_all_of_them_once():
    model = make_model()
    kinds = [embedding_parameters(model), matrix_parameters(model), vector_parameters(model)]
    ids = [id(p) for kind in kinds for p in kind]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(p) for p in model.parameters()}
    assert len(kinds[0]) == 4
    assert len(kinds[1]) == 2 * 4 + 2
    assert all(p.ndim == 2 for p in kinds[1])
    assert [p is model.positions for p in kinds[2] if p.ndim == 2] == [True]


@torch.no_grad()
def test_dropout_acts_in_training_alone():
    config = ModelConfig(
        width=32, depth=1, num_heads=2, num_locations=30, num_event_ids=20, num_behavior_ids=40, dropout=0.5
    )
    model, batch = make_model(config), random_batch(1, 20)
    assert not torch.equal(model(**batch), model(**batch))
    model.eval()
    assert torch.equal(model(**batch), model(**batch))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputed_activations_change_no_bit(dropout: float):
    config = ModelConfig(
        width=32, depth=3, num_heads=2, num_locations=30, num_event_ids=20, num_behavior_ids=40, dropout=dropout
    )
    batch, results, kept = random_batch(2, 30), [], []
    for recompute in (False, True):
        model = make_model(config)
        model.recompute = recompute
        torch.manual_seed(4)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):  # noqa: B023
            loss = model(**batch).square().mean()
        loss.backward()
        results.append([loss, *(p.grad for p in model.parameters())])
        kept.append(sum(sizes))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
    assert kept[1] < kept[0] / 3, "the activations of the blocks are not kept"


@pytest.mark.parametrize(("rows", "columns"), [(3, 1), (500, 16)])
def test_lookup_has_the_values_and_gradients_of_torchs_embedding(rows: int, columns: int):
    ours, torchs = Lookup(rows, columns), torch.nn.Embedding(rows, columns)
    torchs.load_state_dict(ours.state_dict())
    generator = torch.Generator().manual_seed(5)
    ids, weights = torch.randint(rows, (4, 90), generator=generator), torch.randn(4, 90, columns, generator=generator)
    for table in (ours, torchs):
        (table(ids) * weights).sum().backward()
    assert torch.equal(ours(ids), torchs(ids))
    assert ours.weight.grad is not None and torchs.weight.grad is not None
    assert torch.equal(ours.weight.grad, torchs.weight.grad)


def test_flash_is_refused_by_a_model_that_was_given_no_backend():
    config = ModelConfig(
        width=16, depth=1, num_heads=1, num_locations=4, num_event_ids=4, num_behavior_ids=4, attention="flash"
    )
    with pytest.raises(InputError, match="flash-attn needs CUDA"):
        BehaveGPT(config)
