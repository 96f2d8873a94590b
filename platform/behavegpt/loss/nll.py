"""Cross-entropy of each target, in nats.

In: logits (B, I, V) of the model and the batch's target classes (B, I). Out: losses (B, I), 0 where nothing is scored.
Legend: B windows, I inputs of a window, V classes (class c is behaviour id c + 1).
"""

from torch import Tensor
from torch.nn.functional import cross_entropy

IGNORED_CLASS = -1
"""Target class of a position that is not scored: behaviour id 0, shifted by one like every id."""


def token_losses(logits_BIV: Tensor, targets_BI: Tensor) -> Tensor:
    """Return -log softmax(logits)[target] as float32 (B, I), and exactly 0 where the target is IGNORED_CLASS.

    Args:
        targets_BI: int64 classes, behaviour id - 1.
    """
    losses = cross_entropy(
        logits_BIV.float().flatten(0, 1), targets_BI.flatten(), ignore_index=IGNORED_CLASS, reduction="none"
    )
    return losses.view_as(targets_BI)


def mean_loss(loss_BI: Tensor, num_targets: int | Tensor) -> Tensor:
    """Return sum(losses) / num_targets, where num_targets counts the whole global batch (all workers, all slices)."""
    return loss_BI.sum() / num_targets
