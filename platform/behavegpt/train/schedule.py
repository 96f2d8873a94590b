"""Which windows each optimiser step takes, and at what learning rate: arithmetic on (recipe, position), no state.

In: the number of scored targets of every window in stream order. Out: a `StepPlan` (the windows of each step) and the
`Leg`s of a trunk (stretches of steps that start from a checkpoint). The same for any number of workers; any step can be
resumed from its index alone.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from behavegpt.train.config import TrainConfig

STEPS_AT_ONCE = 1 << 16
"""Bounds the memory of planning."""


@dataclass(frozen=True, slots=True)
class StepPlan:
    """Step t takes the windows first_window[t] .. first_window[t + 1] of the stream; T steps."""

    first_window: np.ndarray
    """(T + 1,) int64."""
    events_before: np.ndarray
    """(T + 1,) int64: targets consumed before step t."""
    window_targets: np.ndarray
    """(W,) uint8: targets of each window of the stream; all that grows with D by the window."""

    def windows_of(self, num_events: int) -> int:
        """Return how many windows hold the first `num_events` targets."""
        step = int(np.searchsorted(self.events_before, num_events)) - 1
        if step < 0:
            return 0
        return int(self.first_window[step] + np.searchsorted(self.events_after(step), num_events)) + 1

    def events_after(self, step: int) -> np.ndarray:
        """Return (windows of the step,) the targets consumed at the end of each of them."""
        targets = self.window_targets[self.first_window[step] : self.first_window[step + 1]]
        return self.events_before[step] + np.cumsum(targets, dtype=np.int64)

    def step_at(self, num_events: int) -> int:
        """Return the last step boundary with at most `num_events` targets before it."""
        return int(np.searchsorted(self.events_before, num_events, side="right")) - 1


@dataclass(frozen=True, slots=True)
class Leg:
    """Steps start .. stop (exclusive) of the plan, run from a checkpoint at `start`."""

    kind: Literal["trunk", "branch"]
    start: int
    stop: int
    num_events: int
    """Targets consumed at its end. A branch ends exactly at its cell's num_events, within its last step if need be."""


def plan_steps(targets_W: np.ndarray, batch_ramp: tuple[tuple[int, int], ...]) -> StepPlan:
    """Return the steps that consume `targets_W`, the scored targets of each window, under the batch ramp."""
    first, events = [np.zeros(1, np.int64)], [np.zeros(1, np.int64)]
    position = seen = 0
    for index, (_, size) in enumerate(batch_ramp):
        until = batch_ramp[index + 1][0] if index + 1 < len(batch_ramp) else math.inf
        while position < len(targets_W) and seen < until:
            starts = np.arange(position, min(position + size * STEPS_AT_ONCE, len(targets_W)), size)
            after = seen + np.cumsum(np.add.reduceat(targets_W[: starts[-1] + size], starts, dtype=np.int64))
            # A step is taken at this size if it begins below `until`.
            taken = int(np.searchsorted(np.concatenate([[seen], after[:-1]]), until))
            first.append(np.minimum(starts[:taken] + size, len(targets_W)))
            events.append(after[:taken])
            position, seen = int(first[-1][-1]), int(events[-1][-1])
    return StepPlan(np.concatenate(first), np.concatenate(events), targets_W)


def branch_start(plan: StepPlan, num_events: int, config: TrainConfig) -> int:
    """Return the step at which the run to `num_events` leaves the trunk.

    For cosine the rate depends on num_events from the first step, so there is no trunk to share.
    """
    if config.schedule == "cosine":
        return 0
    return plan.step_at(int((1 - config.decay_share) * num_events))


def plan_legs(
    plan: StepPlan, config: TrainConfig, num_events: list[int], checkpoints: set[int], every: int
) -> list[Leg]:
    """Return the legs that give each of `num_events` its loss, using the trunk checkpoints that exist.

    A leg starts at step 0, at a step in `checkpoints`, or where an earlier trunk leg ended. A trunk leg ends at the
    latest at the next multiple of `every` steps.
    """
    legs, known = [], {0, *checkpoints}
    for target in sorted(num_events):
        fork = branch_start(plan, target, config)
        start = max(step for step in known if step <= fork)
        while start < fork:
            stop = min(fork, (start // every + 1) * every)
            legs.append(Leg("trunk", start, stop, int(plan.events_before[stop])))
            known.add(start := stop)
        legs.append(Leg("branch", fork, int(np.searchsorted(plan.events_before, target, side="left")), target))
    return legs


def lr_factor(config: TrainConfig, plan: StepPlan, leg: Leg, step: int) -> float:
    """Return the learning rate of a step over the peak rate.

    Linear warm-up by step; then constant on the trunk. A wsd branch decays linearly in events to zero at its end
    (Hu et al. 2024, MiniCPM); a cosine run follows a half cosine to 0.1 (Hoffmann et al. 2022).
    """
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if leg.kind == "trunk":
        return warmup
    begin, now = int(plan.events_before[leg.start]), int(plan.events_before[step])
    progress = (now - begin) / (leg.num_events - begin)
    if config.schedule == "cosine":
        return warmup * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))
    return warmup * (1 - progress)
