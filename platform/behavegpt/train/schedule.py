"""Which windows each optimiser step takes, and at what learning rate: arithmetic on (recipe, position), no state.

In: the number of scored targets of every window in stream order. Out: a `StepPlan` (the windows of each step) and the
`Leg`s of a trunk (stretches of steps between checkpoints). The same for any number of workers; any step can be resumed
from its index alone.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
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
    """Steps start .. stop (exclusive) of the plan, run from a checkpoint at `start` to one at `stop` or a branch's end.

    A branch ends exactly at its cell's num_events, within its last step if need be.
    """

    kind: Literal["trunk", "branch"]
    start: int
    stop: int
    num_events: int
    """Targets consumed at a trunk leg's end; D of the cell that a branch leg belongs to."""
    fork: int = 0
    """Step at which the branch left the trunk."""

    def ends(self, plan: StepPlan) -> bool:
        """Return whether the leg is the last one of a branch."""
        return self.kind == "branch" and int(plan.events_before[self.stop]) >= self.num_events


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
    plan: StepPlan,
    config: TrainConfig,
    num_events: list[int],
    checkpoints: set[int],
    every: int,
    within: Mapping[int, set[int]] | None = None,
    later: Collection[int] = (),
) -> list[Leg]:
    """Return the legs that give each of `num_events` its loss, using the checkpoints that exist.

    A leg starts at step 0, at a checkpoint, or where an earlier leg ended. It ends at the latest at the next multiple
    of `every` steps.

    Args:
        checkpoints: Steps of the trunk's checkpoints.
        within: Steps of the checkpoints within the branch to each num_events.
        later: Data sizes of no leg's own; a trunk leg that passes where their branches leave it ends there.
    """
    legs, known = [], {0, *checkpoints}
    forks = {branch_start(plan, target, config) for target in later}
    for target in sorted(num_events):
        fork, stop = branch_start(plan, target, config), int(np.searchsorted(plan.events_before, target))
        begun = {step for step in (within or {}).get(target, ()) if fork < step < stop}
        if not begun:
            start = max(step for step in known if step <= fork)
            trunk = [Leg("trunk", a, b, int(plan.events_before[b])) for a, b in _stretches(start, fork, every, forks)]
            legs += trunk
            known |= {leg.stop for leg in trunk}
        legs += [Leg("branch", a, b, target, fork) for a, b in _stretches(max(begun, default=fork), stop, every)]
    return legs


def _stretches(start: int, stop: int, every: int, also: Collection[int] = ()) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of stretches that end at multiples of `every`, at the steps of `also`, and at `stop`."""
    ends = sorted({stop, *range((start // every + 1) * every, stop, every), *(s for s in also if start < s < stop)})
    yield from pairwise([start, *ends] if start < stop else [])


def lr_factor(config: TrainConfig, plan: StepPlan, leg: Leg, step: int) -> float:
    """Return the learning rate of a step over the peak rate.

    Linear warm-up by step; then constant on the trunk. A wsd branch decays linearly in events to zero at its end
    (Hu et al. 2024, MiniCPM); a cosine run follows a half cosine to 0.1 (Hoffmann et al. 2022).
    """
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if leg.kind == "trunk":
        return warmup
    begin, now = int(plan.events_before[leg.fork]), int(plan.events_before[step])
    progress = (now - begin) / (leg.num_events - begin)
    if config.schedule == "cosine":
        return warmup * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))
    return warmup * (1 - progress)
