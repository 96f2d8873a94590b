"""Who says what comes next: a model that remembers what it has read, or any system, which reads all of it each time.

In: a story, of which at most CONTEXT events are read, and then up to PER_READING - 1 more, one by one. Out: logits or
log-probabilities (B, V) over the next behaviour; class c is behaviour id c + 1.

A model with learned positions cannot let a window slide over its cache: each event would move to another position. So
every PER_READING behaviours the last CONTEXT events are read anew, and the model goes on from 66 to 90 of them. When
that happens depends on the number of the event alone, so a user's output does not depend on who is in the batch.
"""

from typing import Protocol

import numpy as np
import torch

from behavegpt.data.batches import Batch
from behavegpt.model.transformer import BehaveGPT
from behavegpt.schema import FEATURES, NUM_INPUTS
from behavegpt.tasks.generation.story import Story
from behavegpt.tasks.system import System
from behavegpt.tasks.targets import TargetBatch

PER_READING = 25
"""Behaviours that are generated from one reading. A reading costs as much as some 15 of them."""
CONTEXT = NUM_INPUTS + 1 - PER_READING
"""Events of a reading: with one more for each behaviour but the last they fill the model's window."""


class Voice(Protocol):
    """Says what comes next, of one batch of users at a time."""

    def read(self, story: Story) -> np.ndarray:
        """Return (B, V) after the last CONTEXT events of each user; what was read before is forgotten."""
        ...

    def go_on(self, story: Story) -> np.ndarray:
        """Return (B, V) after the one event that the story has more than when it was last read."""
        ...


class ModelVoice:
    """A model with its cache; a user's logits have the same bits in any batch."""

    def __init__(self, model: BehaveGPT) -> None:
        self._model = model.eval()

    def read(self, story: Story) -> np.ndarray:
        columns, lengths = story.since(np.maximum(story.length - CONTEXT, 0))
        weekday, slot, location, event = (torch.from_numpy(columns[name]) for name in FEATURES)
        logits_BV, self._cache = self._model.prefill(weekday, slot, location, event, torch.from_numpy(lengths))
        return logits_BV.numpy()

    def go_on(self, story: Story) -> np.ndarray:
        weekday, slot, location, event = (torch.from_numpy(story.last(name)) for name in FEATURES)
        return self._model.extend(self._cache, weekday, slot, location, event).numpy()


class SystemVoice:
    """Any system of a comparison, by its scores; it reads the same events as a model, without a cache."""

    def __init__(self, system: System) -> None:
        self._system = system

    def read(self, story: Story) -> np.ndarray:
        self._begin = np.maximum(story.length - CONTEXT, 0)
        return self.go_on(story)

    def go_on(self, story: Story) -> np.ndarray:
        columns, lengths = story.since(self._begin)
        targets = np.full(columns["event"].shape, -1)
        # Any class will do: it only marks after which event the system is asked.
        targets[np.arange(len(lengths)), lengths - 1] = 0
        features = {name: columns[name] for name in FEATURES}
        batch = Batch(features, targets, np.zeros(len(lengths), np.uint64))
        return self._system.scores(TargetBatch(inputs=batch, behavior=columns["behavior"], user=story.user))
