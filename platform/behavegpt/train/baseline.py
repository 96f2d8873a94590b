"""The mean loss of each class under a weak model, which a robust loss subtracts before it compares classes.

In: a job whose loss names a baseline. Out: base_G in nats, the same on every rank. Formulas: loss/baselining.py.
"""

import numpy as np
import torch
from torch import Tensor

from behavegpt.data.manifest import Manifest
from behavegpt.data.plan import plan_reads
from behavegpt.data.stream import local_tables, stream_batches
from behavegpt.errors import InputError
from behavegpt.loss.baselining import markov_losses, reference_losses, unigram_losses
from behavegpt.loss.config import ReferenceModel
from behavegpt.loss.counts import count_transitions
from behavegpt.loss.dro import class_statistics
from behavegpt.loss.nll import token_losses
from behavegpt.model.transformer import BehaveGPT
from behavegpt.train.config import TrunkJob
from behavegpt.train.distributed import all_sum, from_rank_0, rank, world_size
from behavegpt.train.evaluate import WINDOWS_PER_BATCH, features
from behavegpt.train.saved import load_model, read_saved

REFERENCE_WINDOWS = 4_096
"""Training windows, from the head of the shuffled stream, on which a reference model is scored."""


def baseline_losses(
    baseline: str | ReferenceModel, job: TrunkJob, manifest: Manifest, counts: np.ndarray, device: torch.device
) -> np.ndarray:
    """Return base (G,) on the job's dataset; all ranks call this together.

    Args:
        counts: Training targets of each class.

    Raises:
        InputError: The reference model is not there, changed, or of another dataset.
    """
    if isinstance(baseline, ReferenceModel):
        statistics_2G = _reference_statistics(_read_model(baseline, manifest).to(device), job, manifest, device)
        return reference_losses(counts, *all_sum(statistics_2G).cpu().numpy())
    if baseline == "markov":
        return from_rank_0(lambda: markov_losses(counts, count_transitions(job.dataset, manifest)))
    return unigram_losses(counts) if baseline == "unigram" else np.zeros(len(counts))


@torch.no_grad()
def _reference_statistics(model: BehaveGPT, job: TrunkJob, manifest: Manifest, device: torch.device) -> Tensor:
    """Return the sum of losses and the number of targets of each class, (2, G), on this rank's share of the windows."""
    last = min(REFERENCE_WINDOWS, manifest.splits["train"].num_windows)
    plan = plan_reads(job.dataset, manifest, "train", [(0, last)], rank(), world_size())
    step = WINDOWS_PER_BATCH * world_size()
    spans = [(first, min(first + step, last)) for first in range(0, last, step)]
    statistics_2G = torch.zeros(2, job.model.num_classes, dtype=torch.float64, device=device)
    for batch in stream_batches(plan, local_tables(plan), spans):
        targets = torch.from_numpy(batch.targets).to(device)
        losses = token_losses(model(*features(batch, device)), targets)
        statistics_2G += class_statistics(losses, targets, job.model.num_classes)
    return statistics_2G


def _read_model(reference: ReferenceModel, manifest: Manifest) -> BehaveGPT:
    saved = read_saved(reference.path)
    if saved.sha256 != reference.sha256:
        raise InputError(f"{reference.path}: another model than when the run was planned; plan it again")
    if saved.record["dataset"]["fingerprint"] != manifest.fingerprint:
        raise InputError(f"{reference.path}: trained on another dataset, whose ids mean other things")
    return load_model(reference.path)
