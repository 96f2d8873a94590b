"""Take the class prior under which a robust loss trained out of a finished model.

In: the weights of a checkpoint, and what it says of its training. Out: the same weights but for the biases of the
classes, which are all that a corrected prior changes; so whatever reads a model reads a corrected one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from behavegpt.data.manifest import Manifest
from behavegpt.errors import InputError
from behavegpt.loss.config import read_loss, shifts_prior
from behavegpt.loss.counts import count_targets
from behavegpt.loss.prior import correct_prior, trained_prior
from behavegpt.train.checkpoint_manifest import LOOP_NAME
from behavegpt.train.record import MANIFEST_NAME

BIAS = "head.output.bias"
FLAG = "--prior-correction"


def corrected_weights(
    weights: Mapping[str, Tensor],
    checkpoint: Path,
    content: Mapping[str, Any],
    dataset: tuple[Path, Manifest],
    strength: float,
) -> dict[str, Tensor]:
    """Return the weights of a model whose predictions are for the class frequencies of the training split.

    Args:
        weights: A plain model's.
        content: The checkpoint's manifest, its files checked.
        dataset: What it was trained on.
        strength: Above 0, at most 1, the whole way: log-odds move by so much of log(p / q), where q is the distribution
            that training saw (`loss.prior.trained_prior`).

    Raises:
        InputError: The strength is out of range, or the loss trains under the data's own frequencies.
    """
    if not 0 < strength <= 1:
        raise InputError(f"{FLAG} is {strength}; it must be above 0 and at most 1")
    loss = read_loss(checkpoint / MANIFEST_NAME, content["recipe"]["train"].get("loss"))
    if not shifts_prior(loss):
        kind = "plain cross-entropy" if loss is None else loss.name
        raise InputError(f"{FLAG}: {checkpoint} was trained with {kind}, whose class prior is the data's own")
    counts_G = torch.from_numpy(count_targets(*dataset))
    try:
        trained_G = trained_prior(loss, counts_G, load_file(checkpoint / LOOP_NAME))
    except KeyError as error:
        raise InputError(f"{checkpoint / LOOP_NAME}: {error} is missing") from error
    if trained_G.shape != counts_G.shape:
        raise InputError(
            f"{checkpoint / LOOP_NAME}: has the prior of {len(trained_G)} classes; the data have {len(counts_G)}"
        )
    wanted_G = counts_G.double() / counts_G.sum()
    return {**weights, BIAS: correct_prior(weights[BIAS], trained_G, wanted_G, strength)}


def shift_note(path: Path, record: Mapping[str, Any]) -> str | None:
    """Return what a user of a model's probabilities should know of its class prior; None where it is the data's.

    Args:
        path: Of the record, for messages.
        record: What a checkpoint or config.json says of the training; what it leaves out is not known.

    Raises:
        InputError: What it says of the loss or the correction is none.
    """
    train = record.get("train", {})
    loss = read_loss(path, train.get("loss") if isinstance(train, dict) else train)
    strength = record.get("prior_correction", 0.0)
    if type(strength) not in (int, float) or not 0 <= strength <= 1:
        raise InputError(f"{path}: prior_correction is {strength!r}; it must be a number from 0 to 1")
    if loss is None or not shifts_prior(loss) or strength == 1:
        return None
    left = f", of which {strength:g} was taken out" if strength else ""
    return (
        f"note: trained with {loss.kind}, so its probabilities favour some behaviours beyond their frequency{left}; "
        f"jobs/export.py {FLAG} 1 takes that out"
    )
