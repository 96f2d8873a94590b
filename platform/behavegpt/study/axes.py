"""The data sizes of each model, from whichever way a study gives them, and the grid that a total budget buys.

In: a StudyConfig, the models, and the targets of the dataset's windows in stream order. Out: for each model its data
sizes, exact; nothing is run. FLOPs are those of the windows that hold the targets: what the model computes on.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from behavegpt.errors import InputError
from behavegpt.model.config import ModelConfig, for_width
from behavegpt.model.sizing import count_params, flops_per_window
from behavegpt.study.config import Size, StudyConfig, Variant, of_widths
from behavegpt.study.recipe import DECAY_SHARE

LADDER = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Widths to choose from; N about doubles from one to the next."""
RATIO = 20.0
"""D / N around which IsoFLOP sizes are chosen: Chinchilla's optimum (Hoffmann et al. 2022). The demo's law puts its
optimum at 12 to 24, and the valley is flat: only the choice of sizes depends on it."""
SPREAD = 16.0
"""D / N of the sizes of one budget lies within RATIO / SPREAD and RATIO x SPREAD: N within a factor of four."""
LEAST_SIZES, LEAST_EVENTS = 4, 5
"""Levels of the two axes of the smallest grid that a total budget may buy."""


def model_of(size: Size, vocabulary_sizes: Mapping[str, int]) -> ModelConfig:
    """Return the model of a size on a dataset."""
    model = for_width(size.width, size.depth, vocabulary_sizes=vocabulary_sizes)
    return model if size.num_heads is None else replace(model, num_heads=size.num_heads)


def data_sizes(config: StudyConfig, model: ModelConfig, targets_W: np.ndarray) -> tuple[int, ...]:
    """Return the model's data sizes, rising; some may be beyond the dataset.

    Args:
        targets_W: Scored targets of each window of the stream; beyond them, windows are taken to be like the average.
    """
    if config.num_events:
        return tuple(sorted(config.num_events))
    if config.events_per_param:
        num_params = count_params(model).non_embedding
        return tuple(sorted({round(ratio * num_params) for ratio in config.events_per_param}))
    windows = [int(budget // flops_per_window(model).training) for budget in config.flop_budgets]
    return tuple(sorted({_events_of(num, targets_W) for num in windows if num}))


def _events_of(num_windows: int, targets_W: np.ndarray) -> int:
    """Return the targets of the first windows of the stream."""
    known = targets_W[:num_windows]
    return int(known.sum(dtype=np.int64)) + round((num_windows - len(known)) * float(targets_W.mean()))


def iso_flop_sizes(
    budgets: tuple[float, ...], vocabulary_sizes: Mapping[str, int], events_per_window: float
) -> tuple[Size, ...]:
    """Return the sizes of the ladder that lie around the optimum of at least one budget.

    Raises:
        InputError: A budget has no such size.
    """
    sizes, problems = set(), []
    for budget in budgets:
        around = [
            size
            for size in of_widths(*LADDER)
            if RATIO / SPREAD <= _ratio(model_of(size, vocabulary_sizes), budget, events_per_window) <= RATIO * SPREAD
        ]
        if not around:
            problems.append(
                f"flop_budgets has {budget:.3g}; no width from {LADDER[0]} to {LADDER[-1]} has {RATIO / SPREAD:g} to "
                f"{RATIO * SPREAD:g} events a parameter there; name widths"
            )
        sizes |= set(around)
    if problems:
        raise InputError(*problems)
    return tuple(sorted(sizes, key=lambda size: size.width))


def _ratio(model: ModelConfig, budget: float, events_per_window: float) -> float:
    events = budget / flops_per_window(model).training * events_per_window
    return events / count_params(model).non_embedding


def grid_within(
    config: StudyConfig,
    total_flops: float,
    vocabulary_sizes: Mapping[str, int],
    *,
    events_per_window: float,
    available: int,
    least: int,
) -> StudyConfig:
    """Return the study with the widest grid that a total budget of training FLOPs buys, shared trunks priced as such.

    The rule: begin with LEAST_SIZES widths of the ladder, from its smallest, and LEAST_EVENTS doublings of D, from
    `least`. Then the axis with the shorter lever arm, last over first, grows by one step, as long as the whole stays
    within the budget and D within the dataset; when that axis cannot grow any more, the other one does.

    Args:
        available: Unique training targets of the dataset.
        least: The least data size.

    Raises:
        InputError: The budget does not buy the smallest grid; the message says what that costs.
    """
    models = [model_of(size, vocabulary_sizes) for size in of_widths(*LADDER)]
    per_event = np.cumsum([flops_per_window(model).training / events_per_window for model in models])
    params = [count_params(model).non_embedding for model in models]

    def cost(num_sizes: int, num_doublings: int) -> float:
        events = [least * 2**k for k in range(num_doublings)]
        trained = sum(_events_trained(events, variant) for variant in config.variants)
        return trained * float(per_event[num_sizes - 1]) * len(config.seeds)

    def fits(grid: tuple[int, int]) -> bool:
        return grid[0] <= len(LADDER) and least * 2 ** (grid[1] - 1) <= available and cost(*grid) <= total_flops

    grid = LEAST_SIZES, LEAST_EVENTS
    if not fits(grid):
        largest = least * 2 ** (LEAST_EVENTS - 1)
        raise InputError(
            f"total_flops is {total_flops:.3g}; the smallest grid, {LEAST_SIZES} sizes by {LEAST_EVENTS} data sizes "
            f"from {least:,} to {largest:,} events, costs {cost(*grid):.3g} (the dataset has {available:,} events)"
        )
    while True:
        larger_model, more_data = (grid[0] + 1, grid[1]), (grid[0], grid[1] + 1)
        short_of_models = params[grid[0] - 1] / params[0] < 2 ** (grid[1] - 1)
        steps = (larger_model, more_data) if short_of_models else (more_data, larger_model)
        if (grown := next(filter(fits, steps), None)) is None:
            events = tuple(least * 2**k for k in range(grid[1]))
            return replace(config, sizes=of_widths(*LADDER[: grid[0]]), num_events=events)
        grid = grown


def _events_trained(events: list[int], variant: Variant) -> float:
    """Return the targets that one trunk with its branches trains on, about."""
    if variant.schedule != "wsd":
        return sum(events)
    return (1 - DECAY_SHARE) * max(events) + DECAY_SHARE * sum(events)
