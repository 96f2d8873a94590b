"""Distributionally robust weights of behaviours: min_theta sup_q sum_b q(b) L_b(theta), as batches stream by.

In: per-target losses and targets of each step (nll.token_losses). Out: a weight per class that multiplies them. A step:

    weights_G = class_weights(state, counts_G, shifts_G, config, step)
    loss = mean_loss(weigh(losses, targets, weights_G), num_targets)
    statistics_2G = class_statistics(losses, targets, num_classes)    # summed over slices and workers by the caller
    update(state, statistics_2G, probs_G * weights_G, config.ema)

The weight q(b) / p(b) of a sample keeps the batch an unbiased estimate of sum_b q(b) L_b even where a rare class is
absent from it; q is held constant in the gradient (Danskin) and comes from the steps before, so that a weight depends
neither on the losses that it multiplies nor on how a batch is cut into slices. Running means and importance weights are
those of Oren et al. 2019 and Sagawa et al. 2020 (GroupDRO), with behaviours for groups. Legend: G groups, here the
model's classes.
"""

import torch
from torch import Tensor

from behavegpt.errors import InputError
from behavegpt.loss.behavior_sets import class_eps, worst_chi2, worst_cvar, worst_kl, worst_smoothed_cvar
from behavegpt.loss.config import Chi2, Cvar, DistributionLoss, Kl
from behavegpt.loss.nll import IGNORED_CLASS


class ClassState:
    """What a robust loss remembers, on the CPU: it goes through checkpoints, and is the same on every rank."""

    def __init__(self, num_classes: int) -> None:
        self.mean_loss_G = torch.zeros(num_classes, dtype=torch.float32)
        """Running mean loss of every class."""
        self.seen_G = torch.zeros(num_classes, dtype=torch.bool)
        self.prior_sum_G = torch.zeros(num_classes, dtype=torch.float64)
        """Sum over the steps of the class distribution under which each trained; see prior.py."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of the tensors, by name."""
        tensors = {"mean_loss": self.mean_loss_G, "seen": self.seen_G, "prior_sum": self.prior_sum_G}
        return {name: tensor.clone() for name, tensor in tensors.items()}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            InputError: The tensors are those of another number of classes.
        """
        if tensors["mean_loss"].shape != self.mean_loss_G.shape:
            got, expected = tensors["mean_loss"].numel(), self.mean_loss_G.numel()
            raise InputError(f"the checkpoint's robust loss has {got} classes, the model has {expected}")
        self.mean_loss_G.copy_(tensors["mean_loss"])
        self.seen_G.copy_(tensors["seen"])
        self.prior_sum_G.copy_(tensors["prior_sum"])


def class_statistics(values: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Return the sum of the values and the number of the targets of each class, (2, G) float64.

    In float64, so that neither the order of additions on a GPU nor the split over workers shows in the float32 state.

    Args:
        values: Any shape; no gradient flows from them.
        targets: Same shape; IGNORED_CLASS where nothing is scored.
    """
    scored = targets != IGNORED_CLASS
    # Ignored positions add 0 to class 0: selecting the scored ones instead would wait for the GPU.
    classes = torch.where(scored, targets, 0).flatten()
    zeros = torch.zeros(num_classes, dtype=torch.float64, device=values.device)
    sums_G = zeros.index_add(0, classes, torch.where(scored, values.detach(), 0.0).flatten().double())
    return torch.stack([sums_G, zeros.index_add(0, classes, scored.flatten().double())])


def update(state: ClassState, statistics_2G: Tensor, prior_G: Tensor, ema: float) -> None:
    """Move the state, in place, by one global batch.

    A class takes its first mean as it is, and (1 - ema) old + ema new afterwards; an absent class stays.

    Args:
        prior_G: Class distribution under which the batch was trained.
    """
    sums_G, counts_G = statistics_2G.cpu()
    present_G = counts_G > 0
    mean_G = (sums_G / counts_G.clamp(min=1)).float()
    moved_G = torch.where(state.seen_G, torch.lerp(state.mean_loss_G, mean_G, ema), mean_G)
    state.mean_loss_G.copy_(torch.where(present_G, moved_G, state.mean_loss_G))
    state.seen_G.logical_or_(present_G)
    state.prior_sum_G.add_(prior_G)


def adjustment(counts_G: Tensor, adjust: float) -> Tensor:
    """Return what is added to the losses before classes are compared (G,): C / sqrt(n) with C = adjust sqrt(n_min).

    The generalisation adjustment of Sagawa, Koh, Hashimoto, Liang, "Distributionally robust neural networks" (ICLR
    2020, section 3.3): the fewer targets a class has, the less is known of its loss. C is relative to the rarest class,
    so that the same number means as much on any dataset.
    """
    least = counts_G[counts_G > 0].min().double()
    return adjust * (least / counts_G.clamp(min=least)).sqrt()


def worst_case(scores_G: Tensor, probs_G: Tensor, counts_G: Tensor, config: DistributionLoss) -> Tensor:
    """Return the worst q (G,) of the loss's uncertainty set around `probs_G`."""
    if isinstance(config, Kl):
        return worst_kl(scores_G, probs_G, config.rho)
    if isinstance(config, Chi2):
        return worst_chi2(scores_G, probs_G, config.rho)
    uniform = config.caps is None or config.eps == 1
    eps = config.eps if uniform else class_eps(counts_G, config.eps, config.caps or 0.0)
    if isinstance(config, Cvar):
        return worst_cvar(scores_G, probs_G, eps)
    return worst_smoothed_cvar(scores_G, probs_G, eps, config.temperature)


def class_weights(state: ClassState, counts_G: Tensor, shifts_G: Tensor, config: DistributionLoss, step: int) -> Tensor:
    """Return the weight (G,) that multiplies the loss of each class's samples; its mean over the training data is 1.

    w = q / p for the worst q, then (1 - floor) w + floor, then 1 + r (w - 1) where r rises from 0 to 1 in the warm-up.
    The worst case is one over the classes met so far, whose losses are known; the others have weight 1.

    Args:
        counts_G: Training targets of each class; p is their share.
        shifts_G: Added to the running mean losses before classes are compared.
        step: Optimiser steps finished before this one.
    """
    met_G = torch.where(state.seen_G, counts_G, 0).double()
    if not bool(met_G.any()):
        return torch.ones_like(met_G)
    probs_G = met_G / met_G.sum()
    scores_G = state.mean_loss_G.double() + shifts_G
    worst_G = worst_case(scores_G, probs_G, counts_G.double(), config)
    known_G = probs_G > 0
    weights_G = torch.where(known_G, worst_G / torch.where(known_G, probs_G, 1.0), 1.0)
    # Written as steps away from a weight of exactly 1, so that eps = 1 stays plain training bit for bit.
    weights_G = weights_G + config.floor * (1.0 - weights_G)
    ramp = min(1.0, step / config.warmup_steps) if config.warmup_steps else 1.0
    return 1.0 + ramp * (weights_G - 1.0)


def weigh(losses: Tensor, targets: Tensor, weights_G: Tensor) -> Tensor:
    """Return each loss times the weight of its target's class; ignored positions stay 0."""
    return losses * weights_G.to(losses)[targets.clamp(min=0)]
