"""What a user may ask to train at every point of a grid, as flags, and the variants that they name."""

from dataclasses import dataclass, replace
from typing import Literal

from behavegpt.loss.config import DroConfig
from behavegpt.study.config import Variant
from behavegpt.train.config import Schedule


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantRequest:
    """The axis of variants."""

    loss: tuple[Literal["erm", "cvar"], ...] | None = None
    """Variants, each with a law of its own. erm: plain cross-entropy; cvar: the behaviour-level robust loss. Default:
    the preset's."""
    eps: float = 0.5
    """Of cvar: the least share of the data that the worst case may shrink to."""
    schedule: Schedule = "wsd"
    """wsd: branches of shared trunks; wsd_independent, cosine: a run of its own for every cell."""

    def of(self, preset: tuple[Variant, ...]) -> tuple[Variant, ...]:
        """Return the preset's variants, or those that were named."""
        if self.loss is None:
            return tuple(replace(variant, schedule=self.schedule) for variant in preset)
        losses = {"erm": None, "cvar": DroConfig(eps=self.eps)}
        return tuple(Variant(dro=losses[loss], schedule=self.schedule) for loss in self.loss)
