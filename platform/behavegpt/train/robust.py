"""The training loss of a job: plain cross-entropy, or each target's times the robust weight of its behaviour.

In: the losses and targets of this rank's batch. Out: weighted losses; the state goes through checkpoints and
is the same on every rank.
"""

import torch
from torch import Tensor

from behavegpt.data.stream import class_frequencies
from behavegpt.loss.dro import DroState, class_statistics, sample_weights, update, weigh
from behavegpt.train.config import TrunkJob
from behavegpt.train.distributed import all_sum


class RobustLoss:
    """The training loss: each target's cross-entropy, times its behaviour's robust weight where the job asks for it."""

    def __init__(self, job: TrunkJob, device: torch.device) -> None:
        self._config = job.train.dro
        if self._config is not None:
            self._state = DroState(job.model.num_classes, device)
            self._probs_G = torch.tensor(class_frequencies(job.dataset), dtype=torch.float32, device=device)

    def __call__(self, losses_BI: Tensor, targets_BI: Tensor, step: int) -> Tensor:
        """Return the weighted losses (B, I), after moving the class means by the global batch."""
        if self._config is None:
            return losses_BI
        sums_G, counts_G = class_statistics(losses_BI, targets_BI, len(self._probs_G))
        update(self._state, all_sum(sums_G), all_sum(counts_G), self._config)
        return weigh(losses_BI, targets_BI, sample_weights(self._state, self._probs_G, self._config, step))

    def tensors(self) -> dict[str, Tensor]:
        """Return the state for a checkpoint."""
        return {f"dro.{k}": v.cpu() for k, v in self._state.state_dict().items()} if self._config else {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` returned."""
        if self._config is not None:
            self._state.load_state_dict({k: tensors[f"dro.{k}"] for k in self._state.state_dict()})
