"""Distributionally robust weights: behaviour-level CVaR, eq. 4 of BehaveGPT (arXiv 2505.17631) as its authors mean it.

    min_theta sup_{q in P} sum_b q(b) L_b(theta),   P = {q : eps q(b) <= p(b) for every behaviour b}

the uncertainty set of Oren, Sagawa, Hashimoto, Liang, "Distributionally Robust Language Modeling" (EMNLP 2019), with
behaviours for topics: q is any part of the training data that makes up at least a share eps of it.

In: per-target losses and targets of each step (nll.token_losses). Out: a weight per class that multiplies them. A step:

    sums_G, counts_G = class_statistics(losses, targets, num_classes)    # then summed over workers by the caller
    update(state, sums_G, counts_G, config)
    weights_G = sample_weights(state, probs_G, config, step)
    loss = mean_loss(weigh(losses, targets, weights_G), num_targets)

The weight q(b) / p(b) of a sample keeps the batch an unbiased estimate of sum_b q(b) L_b even where a rare class is
absent from it; q is held constant in the gradient (Danskin). Legend: G groups, here the model's classes.
"""

import torch
from torch import Tensor

from behavegpt.errors import InputError
from behavegpt.loss.config import DroConfig
from behavegpt.loss.nll import IGNORED_CLASS


class DroState:
    """Running mean loss of every class: the only memory of the robust loss, kept in checkpoints."""

    def __init__(self, num_classes: int, device: torch.device | str = "cpu") -> None:
        self.mean_loss_G = torch.zeros(num_classes, dtype=torch.float32, device=device)
        self.seen_G = torch.zeros(num_classes, dtype=torch.bool, device=device)

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of both tensors, by name."""
        return {"mean_loss": self.mean_loss_G.clone(), "seen": self.seen_G.clone()}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `state_dict` returned, on this state's device.

        Raises:
            InputError: The tensors are those of another number of classes.
        """
        if tensors["mean_loss"].shape != self.mean_loss_G.shape:
            got, expected = tensors["mean_loss"].numel(), self.mean_loss_G.numel()
            raise InputError(f"the checkpoint's robust loss has {got} classes, the model has {expected}")
        self.mean_loss_G.copy_(tensors["mean_loss"])
        self.seen_G.copy_(tensors["seen"])


def class_statistics(losses: Tensor, targets: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return the sum of losses and the number of targets of each class, float64 (G,) both.

    In float64, so that neither the order of additions on a GPU nor the split over workers shows in the float32 state.

    Args:
        losses: Any shape; no gradient flows from them.
        targets: Same shape; IGNORED_CLASS where nothing is scored.
    """
    scored = targets != IGNORED_CLASS
    # Ignored positions add 0 to class 0: selecting the scored ones instead would wait for the GPU.
    classes = torch.where(scored, targets, 0).flatten()
    zeros = torch.zeros(num_classes, dtype=torch.float64, device=losses.device)
    values = torch.where(scored, losses.detach(), 0.0).flatten().double()
    return zeros.index_add(0, classes, values), zeros.index_add(0, classes, scored.flatten().double())


def update(state: DroState, sums_G: Tensor, counts_G: Tensor, config: DroConfig) -> None:
    """Move the running mean losses, in place, by one global batch.

    A class takes its first mean as it is, and (1 - ema) old + ema new afterwards; an absent class stays.
    """
    present_G = counts_G > 0
    mean_G = (sums_G / counts_G.clamp(min=1)).float()
    moved_G = torch.where(state.seen_G, torch.lerp(state.mean_loss_G, mean_G, config.ema), mean_G)
    state.mean_loss_G.copy_(torch.where(present_G, moved_G, state.mean_loss_G))
    state.seen_G.logical_or_(present_G)


def cvar_weights(scores_G: Tensor, probs_G: Tensor, eps: float) -> Tensor:
    """Return the worst distribution q (G,): argmax of sum_b q(b) scores(b) under eps q <= p, sum q = 1.

    The linear programme has a closed form: from the highest score down, each class takes its cap p(b) / eps until
    the mass 1 is spent, so that at most one class is filled in part. Equal scores go by class id (most frequent first).

    Args:
        scores_G: -inf is allowed, and is filled last.
        probs_G: Training distribution p: at least 0, sum 1. Classes with p = 0 get 0.
        eps: In (0, 1]; at 1 the answer is `probs_G` itself, bit for bit.
    """
    if eps == 1:
        return probs_G
    order_G = torch.argsort(scores_G, descending=True, stable=True)
    caps_G = (probs_G[order_G].double() / eps).clamp(max=1.0)
    given_before_G = caps_G.cumsum(0) - caps_G
    filled_G = torch.minimum(caps_G, (1.0 - given_before_G).clamp(min=0.0))
    return torch.zeros_like(filled_G).scatter(0, order_G, filled_G).to(probs_G.dtype)


def sample_weights(state: DroState, probs_G: Tensor, config: DroConfig, step: int) -> Tensor:
    """Return the weight (G,) that multiplies the loss of each class's samples; its mean over the training data is 1.

    w = q / p for the worst q, then (1 - floor) w + floor, then 1 + r (w - 1) where r rises from 0 to 1 in the warm-up.
    A class without training targets (p = 0) has weight 0. A class not met yet has score -inf: its loss is unknown, so
    it gets mass only when the met classes cannot hold it all.

    Args:
        probs_G: Training distribution p over the classes.
        step: Optimiser steps finished before this one.
    """
    scores_G = torch.where(state.seen_G, state.mean_loss_G, -torch.inf)
    worst_G = cvar_weights(scores_G, probs_G, config.eps)
    known_G = probs_G > 0
    weights_G = torch.where(known_G, worst_G / torch.where(known_G, probs_G, 1.0), 1.0)
    # Written as steps away from a weight of exactly 1, so that eps = 1 stays plain training bit for bit.
    weights_G = weights_G + config.floor * (1.0 - weights_G)
    ramp = min(1.0, step / config.warmup_steps) if config.warmup_steps else 1.0
    return torch.where(known_G, 1.0 + ramp * (weights_G - 1.0), 0.0)


def weigh(losses: Tensor, targets: Tensor, weights_G: Tensor) -> Tensor:
    """Return each loss times the weight of its target's class; ignored positions stay 0."""
    return losses * weights_G.to(losses.dtype)[targets.clamp(min=0)]
