"""Prior correction: the predictions of a model that was trained under one class distribution, for another.

In: logits, and the two distributions. Out: logits. For accuracy and recall after robust training; how much a correction
changes shows how much of the training was no more than a shift of the prior. Legend: ... any axes, G classes.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from behavegpt.loss.config import ClassBalanced, Focal, Ldam, LogitAdjusted, Loss
from behavegpt.loss.static import balanced_weights

PRIOR_SUM = "loss.prior_sum"
"""Name, among a checkpoint's tensors, of the sum over steps of the distribution under which a robust loss trained."""


def trained_prior(loss: Loss | None, counts_G: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return the class distribution (G,), float64, under which a model was trained.

    The mean over steps of the worst case for a robust loss; p^(1 - tau), normalised, for logit adjustment, whose logits
    are log p(b|x) - tau log p(b); p times the weights for the class-balanced loss; p for the others. Focal loss and
    LDAM weigh targets by more than their class, so that p is no more than the nearest there is.

    Args:
        counts_G: Training targets of each class.
        tensors: What the training loop kept in the checkpoint, of a robust loss.
    """
    probs_G = counts_G.double() / counts_G.sum()
    match loss:
        case LogitAdjusted():
            prior_G = torch.where(counts_G > 0, probs_G ** (1 - loss.tau), 0.0)
        case ClassBalanced():
            prior_G = probs_G * balanced_weights(counts_G, loss.beta)
        case None | Focal() | Ldam():
            prior_G = probs_G
        case _:
            prior_G = tensors[PRIOR_SUM]
    return prior_G / prior_G.sum()


def correct_prior(logits: Tensor, trained_G: Tensor, wanted_G: Tensor, strength: float) -> Tensor:
    """Return logits + strength (log wanted - log trained), (..., G).

    By Bayes' rule p(b|x) under another prior is proportional to p(b|x) wanted(b) / trained(b), where p(x|b) stays
    (Saerens, Latinne, Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities", 2002); with
    a uniform `wanted` it is the post-hoc logit adjustment of Menon et al. (ICLR 2021, eq. 9). A class that is 0 in
    either distribution keeps its logit: there is nothing to estimate its correction from.

    Args:
        trained_G: Distribution of the targets as training weighed them: `trained_prior`.
        wanted_G: Distribution in which the predictions are to be right.
        strength: 0 changes nothing, 1 corrects in full.
    """
    known_G = (trained_G > 0) & (wanted_G > 0)
    log_ratio_G = torch.where(known_G, wanted_G, 1.0).log() - torch.where(known_G, trained_G, 1.0).log()
    return logits + (strength * log_ratio_G).to(logits)
