"""Closed-form counts: published and hand-worked figures, the built model item by item, torch's FLOP counter."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from behavegpt.model.config import ModelConfig, for_width, paper
from behavegpt.model.sizing import count_params, flops_per_window, itemise, train_flops_per_event
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


LADDER = [(96, 3, 0.35e6), (128, 2, 0.42e6), (160, 3, 0.96e6), (256, 4, 3.24e6), (320, 8, 9.98e6), (512, 7, 22.4e6)]
"""Width, depth and non-embedding parameters, from 0.4 M to 24 M, as worked out beside the paper's."""


@pytest.mark.parametrize(("width", "depth", "expected"), [*LADDER, (448, 10, 24.4e6), (1024, 12, 152.2e6)])
def test_large_models_are_counted_as_they_are_built(width: int, depth: int, expected: float):
    """On the meta device: shapes alone, so that the paper's 12 x 1024 takes no memory."""
    config = for_width(width, depth, vocabulary_sizes=SIZES) if width < 1024 else paper(SIZES)
    counts, flops = count_params(config), flops_per_window(config)
    assert counts.non_embedding == pytest.approx(expected, rel=0.02)
    with torch.device("meta"):
        model = BehaveGPT(config)
        ids = [torch.zeros(2, 90, dtype=torch.int64) for _ in range(4)]
    assert (counts.total, counts.blocks, counts.head) == (num(model), num(model.blocks), num(model.head))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as both:
        model(*ids).sum().backward()
    assert both.get_total_flops() == 2 * flops.training


def test_items_add_up_to_the_total():
    lines = itemise(make(16, 2, 1))
    values = {line.split()[0]: int(line.split()[1].replace(",", "")) for line in lines}
    items = ("weekday", "slot", "location", "event", "positions", "blocks", "final_norm", "head")
    assert list(values) == [*items, "embedding", "non_embedding", "total", "matmul"]
    assert sum(values[name] for name in items) == values["total"] == 7_527 + 1_868
    assert lines[0].split(maxsplit=2)[2] == "8 x 4"


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
