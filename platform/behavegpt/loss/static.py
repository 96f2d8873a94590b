"""The static rivals of the robust losses: fixed functions of logits and class counts, without a state.

In: logits or cross-entropies of the targets, and how many training targets each class has. Out: training losses. Each
is plain cross-entropy, to the last bit, at the value of its parameter that switches it off. Focal loss and LDAM are
functions of the cross-entropy l alone, since exp(-l) is the target's probability: they need no further tensor of
logits. Legend: B windows, I inputs of a window, V classes, G = V (of a count for each class).
"""

import torch
from torch import Tensor

from behavegpt.loss.nll import IGNORED_CLASS


def class_offsets(counts_G: Tensor, tau: float) -> Tensor:
    """Return tau log p (G,), what logit adjustment adds to the logits while it trains.

    Menon, Jayasumana, Rawat, Jain, Veit, Kumar, "Long-tail learning via logit adjustment" (ICLR 2021), eq. 10; tau 1 is
    the balanced softmax of Ren et al. (NeurIPS 2020). A class without training targets counts as if it had one.
    """
    return tau * (counts_G.clamp(min=1).double() / counts_G.sum()).log()


def balanced_weights(counts_G: Tensor, beta: float) -> Tensor:
    """Return the class-balanced weights (G,), their mean over the training targets 1.

    w proportional to (1 - beta) / (1 - beta^n), the inverse effective number (Cui, Jia, Lin, Song, Belongie,
    "Class-balanced loss", CVPR 2019, section 4; they scale to a sum of V instead). A class without training targets
    counts as if it had one.
    """
    counts = counts_G.clamp(min=1).double()
    if beta == 0:
        return torch.ones_like(counts)
    log_beta = torch.tensor(beta, dtype=torch.float64).log()
    weights_G = torch.expm1(log_beta) / torch.expm1(counts * log_beta)
    return weights_G / ((weights_G * counts_G).sum() / counts_G.sum())


def focal(losses_BI: Tensor, gamma: float) -> Tensor:
    """Return (1 - exp(-l))^gamma l: Lin, Goyal, Girshick, He, Dollar, "Focal loss" (ICCV 2017), eq. 4."""
    # Away from 0, where the derivative of a power below 1 is infinite and times l, which is 0, no number.
    unsure_BI = (-torch.expm1(-losses_BI)).clamp(min=1e-12)
    return unsure_BI**gamma * losses_BI


def margins(counts_G: Tensor, margin: float) -> Tensor:
    """Return LDAM's margins (G,): proportional to n^(-1/4), `margin` for the rarest class."""
    least = counts_G[counts_G > 0].min()
    return margin * (least / counts_G.clamp(min=least).double()) ** 0.25


def ldam(losses_BI: Tensor, targets_BI: Tensor, margins_G: Tensor) -> Tensor:
    """Return the cross-entropy with the target's logit lowered by its class's margin m: log(1 + e^m (e^l - 1)).

    Cao, Wei, Gaidon, Arechiga, Ma, "Label-distribution-aware margin loss" (NeurIPS 2019), section 3; their rescaled
    cosine logits and deferred re-weighting belong to another head and schedule. Written as
    l + log(1 + (e^m - 1)(1 - e^-l)), which overflows for no l and cancels nothing.
    """
    scored_BI = targets_BI != IGNORED_CLASS
    margin_BI = torch.where(scored_BI, margins_G.to(losses_BI.dtype)[targets_BI.clamp(min=0)], 0.0)
    return losses_BI + torch.log1p(torch.expm1(margin_BI) * -torch.expm1(-losses_BI))
