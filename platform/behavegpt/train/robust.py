"""The training loss of a job: cross-entropy, one of its static rivals, or weighted by a worst case.

In: logits and targets of the slices of each step's batch on this rank. Out: plain cross-entropies, which curves and
laws read, and the training losses, both per target. What a loss remembers goes through checkpoints and is the same on
every rank; nothing depends on how a batch is cut over workers and slices.
"""

import torch
from torch import Tensor

from behavegpt.data.manifest import read_manifest
from behavegpt.loss.config import (
    ClassBalanced,
    DistributionLoss,
    Focal,
    Ldam,
    LogitAdjusted,
    SampleLoss,
    StaticLoss,
)
from behavegpt.loss.counts import count_targets
from behavegpt.loss.dro import ClassState, adjustment, class_statistics, class_weights, update, weigh
from behavegpt.loss.nll import IGNORED_CLASS, token_losses
from behavegpt.loss.prior import PRIOR_SUM
from behavegpt.loss.sample_sets import SampleWeights, sample_weights
from behavegpt.loss.static import balanced_weights, class_offsets, focal, ldam, margins
from behavegpt.train.config import TrunkJob
from behavegpt.train.distributed import all_concatenate, all_sum, from_rank_0


def build_loss(job: TrunkJob, device: torch.device) -> "TrainingLoss":
    """Return the loss of a job; all ranks call this together.

    Raises:
        OSError: A shard is missing, damaged or another one; the message names it.
        InputError: The reference model of the job's loss is not there, or another one.
    """
    config = job.train.loss
    if config is None:
        return TrainingLoss()
    manifest = read_manifest(job.dataset)
    if isinstance(config, SampleLoss):
        return SampleTraining(config, job.model.num_classes, device)
    if isinstance(config, Focal):
        return StaticTraining(config, torch.ones(job.model.num_classes), device)
    counts_G = torch.from_numpy(from_rank_0(lambda: count_targets(job.dataset, manifest)))
    if isinstance(config, StaticLoss):
        return StaticTraining(config, counts_G, device)
    # Not above: a baseline may be a checkpoint, and what reads one knows families of models, which name their losses.
    from behavegpt.train.baseline import baseline_losses

    base_G = torch.from_numpy(baseline_losses(config.baseline, job, manifest, counts_G.numpy(), device))
    return DistributionTraining(config, counts_G, adjustment(counts_G, config.adjust) - base_G, device)


class TrainingLoss:
    """Plain cross-entropy, and what the loop calls. A step: `look` at every slice where that is asked for and there is
    more than one, then call for every slice, then `finish_step`."""

    needs_look = False
    """Whether weights depend on all losses of the global batch, so that slices need a forward pass before the first
    backward pass."""

    def look(self, logits_BIV: Tensor, targets_BI: Tensor) -> None:
        """Take note of a slice before any slice of the step is weighed."""

    def __call__(self, logits_BIV: Tensor, targets_BI: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return plain cross-entropies and training losses (B, I), 0 where nothing is scored; uses the logits up."""
        losses_BI = token_losses(logits_BIV, targets_BI)
        return losses_BI, losses_BI

    def finish_step(self) -> None:
        """Move the state by the step's global batch; all ranks call this together."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the state for a checkpoint."""
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` returned, and forget the slices of a step that was not finished."""


class StaticTraining(TrainingLoss):
    """A fixed function of logits and class counts."""

    def __init__(self, config: StaticLoss, counts_G: Tensor, device: torch.device) -> None:
        self._config = config
        match config:
            case LogitAdjusted():
                constants_G = class_offsets(counts_G, config.tau)
            case ClassBalanced():
                constants_G = balanced_weights(counts_G, config.beta)
            case Ldam():
                constants_G = margins(counts_G, config.margin)
            case Focal():
                constants_G = counts_G
        self._constants_G = constants_G.float().to(device)

    def __call__(self, logits_BIV: Tensor, targets_BI: Tensor, step: int) -> tuple[Tensor, Tensor]:
        if isinstance(self._config, LogitAdjusted):
            plain_BI = token_losses(logits_BIV.detach(), targets_BI)
            # In place: a copy of the logits is what a step has least memory for.
            return plain_BI, token_losses(logits_BIV.float().add_(self._constants_G), targets_BI)
        plain_BI = token_losses(logits_BIV, targets_BI)
        match self._config:
            case ClassBalanced():
                return plain_BI, weigh(plain_BI, targets_BI, self._constants_G)
            case Focal():
                return plain_BI, focal(plain_BI, self._config.gamma)
            case Ldam():
                return plain_BI, ldam(plain_BI, targets_BI, self._constants_G)


class DistributionTraining(TrainingLoss):
    """Each target's cross-entropy times the weight of its behaviour in the worst distribution over behaviours."""

    def __init__(self, config: DistributionLoss, counts_G: Tensor, shifts_G: Tensor, device: torch.device) -> None:
        self._config = config
        self._counts_G = counts_G
        self._shifts_G = shifts_G
        self._state = ClassState(len(counts_G))
        self._device = device
        self._begin_step()

    def _begin_step(self) -> None:
        self._weights_G: Tensor | None = None
        self._statistics_2G = torch.zeros(2, len(self._counts_G), dtype=torch.float64, device=self._device)

    def __call__(self, logits_BIV: Tensor, targets_BI: Tensor, step: int) -> tuple[Tensor, Tensor]:
        losses_BI = token_losses(logits_BIV, targets_BI)
        if self._weights_G is None:
            self._weights_G = class_weights(self._state, self._counts_G, self._shifts_G, self._config, step)
            self._device_weights_G = self._weights_G.float().to(self._device)
        self._statistics_2G += class_statistics(losses_BI, targets_BI, len(self._counts_G))
        return losses_BI, weigh(losses_BI, targets_BI, self._device_weights_G)

    def finish_step(self) -> None:
        assert self._weights_G is not None, "every rank weighs at least one slice of a step"
        prior_G = self._counts_G.double() / self._counts_G.sum() * self._weights_G
        update(self._state, all_sum(self._statistics_2G), prior_G, self._config.ema)
        self._begin_step()

    def tensors(self) -> dict[str, Tensor]:
        return {f"loss.{name}": tensor for name, tensor in self._state.state_dict().items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self._state.load_state_dict({name: tensors[f"loss.{name}"] for name in self._state.state_dict()})
        self._begin_step()


class SampleTraining(TrainingLoss):
    """Each target's cross-entropy times its own weight among all targets of the global batch."""

    needs_look = True

    def __init__(self, config: SampleLoss, num_classes: int, device: torch.device) -> None:
        self._config = config
        self._device = device
        self._prior_sum_G = torch.zeros(num_classes, dtype=torch.float64)
        self._begin_step()

    def _begin_step(self) -> None:
        self._looked_at: list[Tensor] = []
        self._rule: SampleWeights | None = None
        self._statistics_2G = torch.zeros(2, len(self._prior_sum_G), dtype=torch.float64, device=self._device)

    @torch.no_grad()
    def look(self, logits_BIV: Tensor, targets_BI: Tensor) -> None:
        losses_BI = token_losses(logits_BIV, targets_BI)
        self._looked_at.append(losses_BI[targets_BI != IGNORED_CLASS].cpu())

    def __call__(self, logits_BIV: Tensor, targets_BI: Tensor, step: int) -> tuple[Tensor, Tensor]:
        losses_BI = token_losses(logits_BIV, targets_BI)
        scored_BI = targets_BI != IGNORED_CLASS
        if self._rule is None:
            mine = self._looked_at or [losses_BI.detach()[scored_BI].cpu()]
            self._rule = sample_weights(all_concatenate(torch.cat(mine)), self._config)
        weights_BI = torch.zeros_like(losses_BI)
        weights_BI[scored_BI] = self._rule.of(losses_BI[scored_BI])
        self._statistics_2G += class_statistics(weights_BI, targets_BI, len(self._prior_sum_G))
        return losses_BI, losses_BI * weights_BI

    def finish_step(self) -> None:
        sums_G = all_sum(self._statistics_2G)[0].cpu()
        self._prior_sum_G += sums_G / sums_G.sum()
        self._begin_step()

    def tensors(self) -> dict[str, Tensor]:
        return {PRIOR_SUM: self._prior_sum_G.clone()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self._prior_sum_G = tensors[PRIOR_SUM].clone()
        self._begin_step()
