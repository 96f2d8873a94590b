"""The ways to adapt a pretrained model to another domain: which parts it hands over, and which of them move then.

The paper's own (sections 3.3 and 4.5.2) is `blocks-and-head`: lookup tables and last projection are new, all else comes
from the pretrained model, and everything moves. The others are what it is compared with in Fig. 5.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from behavegpt.model.config import ModelConfig
from behavegpt.train.trainable import Lora, Part, Trainable, count_trained

WayName = Literal["scratch", "blocks", "blocks-and-head", "lora", "ofa", "frozen"]

NEW: tuple[Part, ...] = ("embeddings", "head_output")
"""Shaped by the vocabulary, so new in every domain, and moved by every way."""
TRUNK: tuple[Part, ...] = ("positions", "attention", "feed_forward", "norms")
"""The blocks with what stands before and after them: positions and the last norm."""
WORDS: dict[Part, str] = {
    "embeddings": "tables",
    "positions": "positions",
    "attention": "attention",
    "feed_forward": "feed-forward",
    "norms": "norms",
    "head_hidden": "first head layer",
    "head_output": "last projection",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """One way to adapt."""

    name: WayName
    takes: tuple[Part, ...] = ()
    """What comes from the pretrained model; the rest is drawn from the seed, the same for every way."""
    trains: Trainable | None = None
    """What moves; None moves all."""

    @property
    def moved(self) -> str:
        """What moves, in words."""
        if self.trains is None:
            return "all"
        lora = self.trains.lora
        update = [f"LoRA of queries and values, rank {lora.rank}, alpha {lora.alpha:g}"] if lora else []
        return ", ".join([*(WORDS[part] for part in self.trains.parts), *update])

    def num_trained(self, model: ModelConfig) -> int:
        """Return how many parameters move."""
        return count_trained(model, self.trains)


WAYS = (
    Way(name="scratch"),
    Way(name="blocks", takes=TRUNK),
    Way(name="blocks-and-head", takes=(*TRUNK, "head_hidden")),
    Way(name="lora", takes=(*TRUNK, "head_hidden"), trains=Trainable(parts=NEW, lora=Lora())),
    Way(
        name="ofa",
        takes=(*TRUNK, "head_hidden"),
        trains=Trainable(parts=(*NEW, "positions", "norms", "head_hidden")),
    ),
    Way(name="frozen", takes=(*TRUNK, "head_hidden"), trains=Trainable(parts=NEW)),
)
SCRATCH = WAYS[0].name
"""With which the others are compared."""
OURS: WayName = "blocks-and-head"


def words(parts: Iterable[Part]) -> str:
    """Return the names of parts as a list in words; a dash for none."""
    return ", ".join(WORDS[part] for part in parts) or "-"
