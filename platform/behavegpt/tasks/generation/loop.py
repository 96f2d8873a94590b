"""Generate: ask what comes next, draw it, make it the next input, and ask again; or repeat what the user did before.

In: histories, and for `generate` a voice and the rules of the inputs. Out: the behaviours, and what was drawn with
them.
Legend: B users, N behaviours, V classes.
"""

from dataclasses import dataclass, fields

import numpy as np

from behavegpt.schema import FIRST_KNOWN_ID, PADDING_ID
from behavegpt.tasks.generation.histories import Histories
from behavegpt.tasks.generation.inputs import InputRules
from behavegpt.tasks.generation.sampling import Sampling, draw_classes, uniforms
from behavegpt.tasks.generation.story import COLUMNS, Story
from behavegpt.tasks.generation.voices import PER_READING, Voice

SECONDS_PER_DAY = 86_400
DAYS = 7
"""The period of the rival, where a history is long enough."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """What was drawn, each (B, N) ids but for the probability."""

    behavior: np.ndarray
    event: np.ndarray
    location: np.ndarray
    weekday: np.ndarray
    slot: np.ndarray
    probability: np.ndarray
    """With which the behaviour was drawn."""

    @staticmethod
    def join(parts: "list[Generated]") -> "Generated":
        """Return all users of the parts."""
        return Generated(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Generated)})


def generate(
    voice: Voice, histories: Histories, rules: InputRules, sampling: Sampling, num_behaviors: int
) -> Generated:
    """Return what comes after each history; a user's does not depend on the other users."""
    story = Story.begin(
        histories.user, {name: histories.columns[name] for name in COLUMNS}, histories.length, num_behaviors
    )
    u_BND = uniforms(sampling.seed, histories.user, num_behaviors)
    drawn = {name: np.zeros((len(histories), num_behaviors), np.int64) for name in COLUMNS}
    probability = np.zeros((len(histories), num_behaviors))
    for step in range(num_behaviors):
        logits_BV = voice.go_on(story) if step % PER_READING else voice.read(story)
        classes, probability[:, step] = draw_classes(logits_BV, u_BND[:, step, 0], sampling)
        values = rules.draw(story, classes + 1, u_BND[:, step, 1:])
        story.append(values)
        for name, column in drawn.items():
            column[:, step] = values[name]
    return Generated(**drawn, probability=probability)


def repeat_history(histories: Histories, num_behaviors: int) -> dict[str, np.ndarray]:
    """Return (B, N) behavior and slot if each user did again what the user did a week before, and so on.

    A history that does not reach back a week is repeated with a period of as many whole days as it reaches back, and
    one of less than a day as a whole. Events without a behaviour are left out; a history without any behaviour gives
    the most frequent one of training.
    """
    repeated = {name: np.zeros((len(histories), num_behaviors), np.int64) for name in ("behavior", "slot")}
    for row in range(len(histories)):
        own = {name: values[row, : histories.length[row]] for name, values in histories.columns.items()}
        source = _period(own["timestamp"], own["behavior"])
        at = source[np.arange(num_behaviors) % len(source)]
        for name, values in repeated.items():
            values[row] = own[name][at]
    repeated["behavior"][repeated["behavior"] == PADDING_ID] = FIRST_KNOWN_ID
    return repeated


def _period(timestamp: np.ndarray, behavior: np.ndarray) -> np.ndarray:
    """Return the places of the events that are repeated."""
    known = np.flatnonzero(behavior != PADDING_ID)
    if not len(known):
        return np.arange(len(behavior))
    ago = timestamp[-1] - timestamp[known]
    days = min(int(timestamp[-1] - timestamp[0]) // SECONDS_PER_DAY, DAYS)
    recent = known[ago < days * SECONDS_PER_DAY]
    return recent if len(recent) else known
