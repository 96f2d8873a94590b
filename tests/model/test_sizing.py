"""Closed-form counts: published and hand-worked figures, the built model item by item, torch's FLOP counter."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from behavegpt.model.config import ModelConfig, for_width, paper
from behavegpt.model.sizing import count_params, flops_per_window, train_flops_per_event
from behavegpt.model.transformer import BehaveGPT, matrix_parameters

SIZES = {"weekday": 8, "slot": 49, "location": 30, "event": 20, "behavior": 40}
SHAPES = [(16, 2, 1), (24, 1, 3), (32, 3, 2), (64, 2, 4)]


def make(width: int, depth: int, num_heads: int) -> ModelConfig:
    return ModelConfig(
        width=width, depth=depth, num_heads=num_heads, num_locations=30, num_event_ids=20, num_behavior_ids=40
    )


def num(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("width", "expected"),
    [(12, 4_455), (16, 7_527), (24, 16_071), (32, 27_815), (48, 60_903), (64, 106_791), (96, 236_967)],
)
def test_non_embedding_count_of_the_ladder(width, expected):
    assert count_params(for_width(width, vocabulary_sizes=SIZES)).non_embedding == expected


def test_counts_by_hand():
    counts = count_params(make(16, 2, 1))
    assert (counts.weekday, counts.slot, counts.location, counts.event) == (8 * 4, 49 * 4, 30 * 4, 20 * 4)
    assert counts.positions == 90 * 16
    assert counts.blocks == 2 * (12 * 256 + 13 * 16)
    assert counts.head == 16 * 16 + 16 + 16 * 39 + 39
    assert counts.matmul == 2 * 12 * 256 + 256 + 16 * 39
    assert counts.embedding == 32 + 196 + 120 + 80 + 1440
    assert counts.total == 7_527 + 1_868


def test_paper_block_count():
    assert count_params(paper(SIZES)).blocks == 12 * 12_596_224


@pytest.mark.parametrize("shape", SHAPES)
def test_counts_equal_the_built_model(shape):
    config = make(*shape)
    model, counts = BehaveGPT(config), count_params(config)
    for name in ("weekday", "slot", "location", "event"):
        assert getattr(counts, name) == num(model.embeddings[name])
    assert counts.positions == model.positions.numel()
    assert counts.blocks == num(model.blocks)
    assert counts.final_norm == num(model.final_norm)
    assert counts.head == num(model.head)
    assert counts.total == num(model)
    assert counts.matmul == sum(p.numel() for p in matrix_parameters(model))


@pytest.mark.parametrize("length", [90, 37])
@pytest.mark.parametrize("shape", SHAPES)
def test_flops_equal_torch_counter(shape, length):
    config = make(*shape)
    model, num_windows = BehaveGPT(config), 3
    ids = {name: torch.zeros(num_windows, length, dtype=torch.int64) for name in config.table_sizes}
    flops = flops_per_window(config, length)
    # The counter knows the products of the written-out attention; it has no entry for the CPU's fused kernel.
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            model(**ids)
        with FlopCounterMode(display=False) as both:
            model(**ids).sum().backward()
    assert forward.get_total_flops() == num_windows * flops.forward
    assert both.get_total_flops() == num_windows * flops.training


def test_flops_by_hand():
    flops = flops_per_window(make(16, 2, 1))
    assert flops.projections == 2 * 90 * 2 * 4 * 256
    assert flops.attention == 2 * (2 * 90 * 90 * 16 + 2 * 90 * 90 * 16)
    assert flops.feed_forward == 2 * 90 * 2 * (16 * 64 + 64 * 16)
    assert flops.head == 90 * 2 * (16 * 16 + 16 * 39)


def test_training_flops_are_six_per_weight_and_event_plus_attention():
    config = make(32, 3, 2)
    attention = 3 * 3 * 4 * 90 * 32
    assert train_flops_per_event(config) == 6 * count_params(config).matmul + attention
