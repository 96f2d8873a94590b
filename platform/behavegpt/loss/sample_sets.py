"""Robust weights of the single targets of one global batch, whatever their behaviours.

In: the losses of all scored targets of the batch, on all workers. Out: a rule that gives each loss its weight; the mean
weight over the batch is 1. Equal losses get equal weights, so a weight depends on the set of losses alone: not on their
order, nor on the number of workers. The weights are constants in the gradient (Danskin).

A batch's worst share is an estimate that is biased low, by O(1 / sqrt(eps n)) (Levy, Carmon, Duchi, Sidford, NeurIPS
2020), and the worst targets may be noise. Legend: n scored targets of the batch, k rank from the highest loss down.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from behavegpt.loss.behavior_sets import worst_chi2
from behavegpt.loss.config import Chi2Doro, SampleCvar, SampleLoss


class SampleWeights(NamedTuple):
    """The weight of every loss of a batch, by value."""

    rising_n: Tensor
    """The batch's losses from low to high."""
    before_n: Tensor
    """(n + 1,) sums of the weights of the losses before each, and of all."""

    def of(self, losses: Tensor) -> Tensor:
        """Return the weight of each of `losses`: the mean over those that equal it in the batch.

        One that is not in the batch has the weight of the next higher one there: dropout, and another forward pass on a
        GPU, may give a target another loss than the one by which it was ranked.
        """
        place = torch.searchsorted(self.rising_n, losses.detach().cpu())
        values = self.rising_n[place.clamp(max=len(self.rising_n) - 1)]
        first, last = (torch.searchsorted(self.rising_n, values, right=right) for right in (False, True))
        return ((self.before_n[last] - self.before_n[first]) / (last - first)).to(losses)


def sample_weights(losses_n: Tensor, config: SampleLoss) -> SampleWeights:
    """Return the weights that a batch's losses give each other.

    - sample CVaR: 1 / eps for the eps n highest losses, one of them in part, and 0 for the rest: the primal of
      min_eta eta + mean(max(l - eta, 0)) / eps (Rockafellar and Uryasev 2000);
    - DORO (Zhai, Dan, Kolter, Ravikumar, ICML 2021, algorithm 1): the floor(outliers n) highest losses get 0; the rest
      get the weights of sample CVaR, or of the chi-square ball of radius rho = (1 / eps - 1)^2 / 2, among themselves.

    Args:
        losses_n: (n,) at least one, in any order.
    """
    falling_n = losses_n.detach().cpu().sort(descending=True).values
    num = len(falling_n)
    num_dropped = 0 if isinstance(config, SampleCvar) else int(config.outliers * num)
    kept = falling_n[num_dropped:]
    if isinstance(config, Chi2Doro):
        even = torch.full_like(kept, 1.0 / len(kept), dtype=torch.float64)
        weights = worst_chi2(kept.double(), even, (1 / config.eps - 1) ** 2 / 2) * len(kept)
    else:
        weights = (config.eps * len(kept) - torch.arange(len(kept), dtype=torch.float64)).clamp(0.0, 1.0) / config.eps
    weights_n = torch.cat([torch.zeros(num_dropped, dtype=torch.float64), weights * (num / len(kept))])
    return SampleWeights(falling_n.flip(0), torch.cat([torch.zeros(1).double(), weights_n.flip(0).cumsum(0)]))
