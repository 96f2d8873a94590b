"""Who draws a generated log knows the law of the next behaviour: what a model could say at best.

In: a dataset of jobs/synthesize.py, whose manifest has all numbers of its law. Out: a voice with log p* of the next
behaviour, for the ids of the dataset. The inputs still come from the rules, so beside a model this voice shows what
the model lacks, and beside the truth what the rules lack.

Legend: B users, V classes.
"""

from pathlib import Path

import numpy as np

from behavegpt.data.manifest import Manifest
from behavegpt.data.synthetic.config import GeneratorConfig
from behavegpt.data.synthetic.oracle import true_probabilities
from behavegpt.data.synthetic.world import make_world
from behavegpt.data.vocab import Vocabulary, read_vocabulary
from behavegpt.data.windows import Windows
from behavegpt.schema import FIRST_KNOWN_ID, OTHER_ID, VOCABULARIES, WINDOW_LENGTH
from behavegpt.tasks.generation.story import Story

USERS_AT_ONCE = 16
"""Bounds the memory: the law is asked at all positions of a window."""
LEAST = 1e-300
"""Of a probability, whose logarithm is taken."""


def is_generated(manifest: Manifest) -> bool:
    """Return whether the law of a dataset is known."""
    return manifest.source.get("kind") == "generator"


class OracleVoice:
    """Says log p* of what comes after the last two events, as the generator does."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        """Read the law of a dataset for which `is_generated` holds."""
        config = GeneratorConfig(**manifest.source["config"])
        self._world = make_world(config)
        sizes = (config.num_places, config.num_event_types, config.num_behaviors)
        self._values = {
            name: _values(read_vocabulary(directory / manifest.vocabulary_path(name)), size)
            for name, size in zip(VOCABULARIES, sizes, strict=True)
        }
        of_class = self._values["behavior"][FIRST_KNOWN_ID:]
        # What training never saw is one class, `other`, which comes first.
        self._class_of = np.zeros(config.num_behaviors, np.int64)
        self._class_of[of_class] = np.arange(FIRST_KNOWN_ID, FIRST_KNOWN_ID + len(of_class)) - 1

    def read(self, story: Story) -> np.ndarray:
        return self.go_on(story)

    def go_on(self, story: Story) -> np.ndarray:
        """Return (B, V) log-probabilities."""
        rows = range(0, len(story.length), USERS_AT_ONCE)
        p_BV = np.concatenate([self._ask(story, slice(first, first + USERS_AT_ONCE)) for first in rows])
        return np.log(np.maximum(p_BV, LEAST))

    def _ask(self, story: Story, rows: slice) -> np.ndarray:
        length = story.length[rows]
        number = np.minimum(length, 2)
        columns = {}
        for name, values in story.columns.items():
            recent = np.take_along_axis(values[rows], (length - number)[:, None] + np.array([0, 1]), axis=1)
            # What lies beyond is never looked at; it only has to be an id.
            wide = np.full((len(length), WINDOW_LENGTH), FIRST_KNOWN_ID, np.int64)
            wide[:, :2] = np.maximum(recent, OTHER_ID)
            columns[name] = self._values[name][wide] if name in self._values else wide
        ones = np.ones(len(length), np.int64)
        windows = Windows(
            **columns,
            timestamp=np.zeros((len(length), WINDOW_LENGTH), np.int64),
            length=ones * WINDOW_LENGTH,
            first_target=ones,
            user=ones,
            number=ones,
        )
        p = true_probabilities(self._world, windows)[np.arange(len(length)), number - 1]
        of_class = np.zeros((len(length), int(self._class_of.max()) + 1))
        np.add.at(of_class.T, self._class_of, p.T)
        return of_class


def _values(vocabulary: Vocabulary, size: int) -> np.ndarray:
    """Return the generator's value of each id; `other` is taken for the first of those that training never saw."""
    known = [int(text.rpartition("-")[2]) for text in vocabulary.values]
    unseen = np.setdiff1d(np.arange(size), known)
    other = int(unseen[0]) if len(unseen) else 0
    return np.array([other] * FIRST_KNOWN_ID + known)
