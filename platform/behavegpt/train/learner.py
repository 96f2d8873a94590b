"""What training moves, and one step of it: the engine's weights and optimiser, and the memory of the loss.

In: the micro-batches of a step on this rank. Out: the loss and the gradient norm of the global batch; neither depends
on how the batch is cut over micro-batches and workers.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from behavegpt.data.batches import Batch
from behavegpt.errors import InputError
from behavegpt.loss.nll import mean_loss
from behavegpt.model.attention import Backend, resolve_attention
from behavegpt.train.checkpoint import random_state, restore_random_state
from behavegpt.train.config import TrunkJob
from behavegpt.train.distributed import all_concatenate, all_sum, world_size
from behavegpt.train.engine import Engine, build_engine
from behavegpt.train.evaluate import features
from behavegpt.train.family import family_of
from behavegpt.train.initial import shape_problems
from behavegpt.train.lora import initialise_updates, restrict
from behavegpt.train.robust import TrainingLoss
from behavegpt.train.saved import load_weights, read_saved


class DivergedError(RuntimeError):
    """The loss or the gradient stopped being a number at `step`; weights and optimiser are those before it."""

    def __init__(self, what: str, step: int, windows: list[int] | None = None) -> None:
        named = ", ".join(map(str, windows[:8])) if windows else ""
        more = f" and {len(windows) - 8} more" if windows and len(windows) > 8 else ""
        super().__init__(f"{what} at step {step}" + (f", windows {named}{more}" if windows else ""))
        self.step = step
        self.windows = windows or []
        """Of the global batch, all of them."""


class StepEnd(NamedTuple):
    """What one step gave."""

    loss_sum: float
    """Plain cross-entropies of the global batch, summed over targets."""
    grad_norm: float
    """Before clipping."""


@dataclass(frozen=True, slots=True)
class Learner:
    """An engine and a loss; after a DivergedError they are thrown away."""

    engine: Engine
    loss: TrainingLoss
    device: torch.device
    attention: Backend
    """The kernel that was chosen."""

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps besides the engine's own state."""
        return random_state() | self.loss.tensors()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` returned."""
        restore_random_state(tensors)
        self.loss.restore(tensors)

    def take_step(self, slices: list[Batch], num_targets: int, step: int, lr_factor: float) -> StepEnd:
        """Take one optimiser step over the slices; all ranks call this together, with as many slices each.

        Args:
            num_targets: Of the global batch.

        Raises:
            DivergedError: The loss or the gradient is not a number.
        """
        if self.loss.needs_look and len(slices) > 1:
            self._look(slices)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for index, batch in enumerate(slices):
            targets = torch.from_numpy(batch.targets).to(self.device)
            plain, losses = self.loss(self.engine.module(*features(batch, self.device)), targets, step)
            # The engines average gradients over workers, and each worker holds its share of the global mean.
            loss = mean_loss(losses, num_targets) * world_size()
            total += plain.detach().double().sum()
            if index < len(slices) - 1:
                self.engine.accumulate(loss)
                continue
            loss_sum = float(all_sum(total))
            if not math.isfinite(loss_sum):
                raise DivergedError(f"loss {loss_sum}", step, _windows(slices))
            norm = self.engine.step(loss, lr_factor)
            if not math.isfinite(norm):
                raise DivergedError(f"gradient norm {norm}", step, _windows(slices))
            self.loss.finish_step()
            return StepEnd(loss_sum, norm)
        raise AssertionError("a step has at least one slice")

    @torch.no_grad()
    def _look(self, slices: list[Batch]) -> None:
        # The second pass draws what the first one drew.
        before = torch.get_rng_state()
        for batch in slices:
            logits = self.engine.module(*features(batch, self.device))
            self.loss.look(logits, torch.from_numpy(batch.targets).to(self.device))
        torch.set_rng_state(before)


def build_learner(job: TrunkJob, device: torch.device) -> Learner:
    """Return a learner at its initialisation; all ranks call this together."""
    dtype = torch.bfloat16 if job.train.precision == "bf16" else torch.float32
    family = family_of(job)
    attention = resolve_attention(job.model.attention, device, dtype)
    model = family.module(job.model, attention)
    family.initialise(model, job.train.seed)
    if job.execution.recompute:
        model.recompute = True
    if job.train.initial is not None:
        model.load_state_dict(_initial_weights(job))
    restrict(model, job.train.trainable)
    initialise_updates(model, job.train.seed)
    engine = build_engine(model.to(device), job.train, job.execution)
    return Learner(engine, family.loss(job, device), device, attention)


def _initial_weights(job: TrunkJob) -> dict[str, Tensor]:
    """Return the weights that the job starts from.

    Raises:
        InputError: The exported model is damaged, is not the one that the recipe names, or has another shape.
    """
    assert job.initial is not None, "a recipe that names a model comes with its directory"
    saved = read_saved(job.initial)
    if saved.sha256 != job.train.initial:
        raise InputError(f"{job.initial}: is not the model that the recipe starts from, but {saved.sha256[:12]}")
    if problems := shape_problems(saved, job):
        raise InputError(*problems)
    return load_weights(saved)


def _windows(slices: list[Batch]) -> list[int]:
    mine = torch.tensor([int(one) for batch in slices for one in batch.window_id], dtype=torch.int64)
    return all_concatenate(mine).tolist()
