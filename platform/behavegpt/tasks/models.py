"""Models as systems: one that the evaluator trains itself, and any module that is trained already.

In: a job for the training loop, or a module called like BehaveGPT. Out: logits of a batch's targets.
"""

import json
import math
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from behavegpt.config import config_hash
from behavegpt.errors import InputError, RefusedError
from behavegpt.files import sha256_of
from behavegpt.model.config import ModelConfig
from behavegpt.model.sizing import ParamCounts
from behavegpt.tasks.system import Training
from behavegpt.tasks.targets import TargetBatch
from behavegpt.train.checkpoint import read_checkpoint_manifest
from behavegpt.train.config import TrunkJob
from behavegpt.train.evaluate import features
from behavegpt.train.family import Family
from behavegpt.train.state import PATTERN, SLOTS

PREFIX = f"{SLOTS[0]}."
"""Of a parameter's weight in a checkpoint's files."""


class ModelSystem:
    """A trained module."""

    trained = True

    def __init__(self, name: str, module: nn.Module, counts: ParamCounts, device: torch.device) -> None:
        """Take a module on its device."""
        self.name = name
        self.num_params = counts.non_embedding
        self.num_params_total = counts.total
        self.module = module.eval()
        self._device = device

    def fit(self, training: Training) -> None:
        """Do nothing: it is trained."""

    @torch.no_grad()
    def scores(self, batch: TargetBatch) -> np.ndarray:
        window, position = batch.places
        logits_BIV = self.module(*features(batch.inputs, self._device))
        return logits_BIV[torch.from_numpy(window), torch.from_numpy(position)].float().cpu().numpy()


def read_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Return the weights of a checkpoint by parameter, in float32."""
    weights = {}
    for path in sorted(checkpoint.glob(PATTERN)):
        weights |= {k.removeprefix(PREFIX): v for k, v in load_file(path).items() if k.startswith(PREFIX)}
    return weights


def _check_files(checkpoint: Path) -> None:
    """Compare the files of a checkpoint with its manifest."""
    content = read_checkpoint_manifest(checkpoint)
    if isinstance(content, str):
        raise InputError(f"{checkpoint}: {content}; delete it to train again")
    for name, entry in content["files"].items():
        file = checkpoint / name
        if not file.is_file() or sha256_of(file) != entry["sha256"]:
            raise InputError(f"{file}: missing or damaged; delete {checkpoint} to train again")


class TrainedSystem(ABC):
    """A family of models that is trained by the loop of BehaveGPT, on the same targets in the same order."""

    name: str
    family: Family
    trained = True
    embedding_lr_factor = 4.0
    """Rate of the lookup tables over that of the rest. The recipe's own is for tables of a quarter of the width; for
    SASRec's, of the whole width, 4 is better than 8 and 16 on generated logs and New York's check-ins."""
    num_params = num_params_total = 0
    val_loss = math.nan
    """Cross-entropy on the validation split in nats, known after `fit`."""

    @abstractmethod
    def shape(self, config: ModelConfig) -> ModelConfig:
        """Return the model's shape at the width and depth of BehaveGPT's."""

    def fit(self, training: Training) -> None:
        """Train the job's one cell, or take up where an earlier run stopped; a finished one is read.

        Raises:
            RefusedError: The loss stopped being a number.
            InputError: A file of the finished model is missing or damaged.
        """
        job = self._job(training)
        training.train(job)
        [cell] = job.cells
        row = json.loads((job.cell_dir / f"{cell.cell_id}.json").read_text(encoding="utf-8"))
        if row["status"] != "completed":
            raise RefusedError(f"{job.trunk_id}: {row['status']}: {row['reason']}")
        self.val_loss = row["loss"]
        module = self.family.module(job.model, None)
        checkpoint = job.checkpoint_dir / job.final_name(cell)
        _check_files(checkpoint)
        module.load_state_dict(read_weights(checkpoint))
        counts = self.family.count_params(job.model)
        self.num_params, self.num_params_total = counts.non_embedding, counts.total
        self._model = ModelSystem(self.name, module.to(training.device), counts, training.device)

    def scores(self, batch: TargetBatch) -> np.ndarray:
        return self._model.scores(batch)

    def _job(self, training: Training) -> TrunkJob:
        """Return the job for this family; its name says all that it depends on, so that a rerun finds it."""
        job = training.job
        [cell] = job.cells
        model = self.shape(job.model)
        train = replace(job.train, embedding_lr_factor=self.embedding_lr_factor)
        identity = {"model": model, "train": train, "dataset": training.manifest.fingerprint}
        digest = config_hash({**identity, "num_events": cell.num_events}, 8)
        trunk_id = f"{self.name}-w{model.width}x{model.depth}-s{job.train.seed}-{digest}"
        return replace(
            job,
            trunk_id=trunk_id,
            variant=self.name,
            model=model,
            train=train,
            family=self.family,
            cells=(replace(cell, cell_id=f"{trunk_id}-d{cell.num_events}"),),
            keep_final=True,
        )
