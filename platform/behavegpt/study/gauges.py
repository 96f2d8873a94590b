"""The law of a running study as Ray's metrics: its values in, gauges on the dashboard's metrics port out."""

import math
from collections.abc import Mapping, Sequence

import ray
from ray.util.metrics import Gauge

_TAGS = ("study", "variant")


class LawGauges:
    """behavegpt_law_<name>, its _low and _high, and behavegpt_law_cells, by study and variant."""

    def __init__(self, study: str) -> None:
        self._study = study
        self._gauges: dict[str, Gauge] = {}
        self._shown: dict[str, set[str]] = {}

    def show(self, variant: str, num_cells: int, values: Mapping[str, Sequence[float]]) -> None:
        """Set the gauges of a law; what the law before had and this one has not becomes NaN.

        Args:
            variant: Whose law it is.
            num_cells: How many cells it was fitted to.
            values: Of each parameter or prediction: the estimate and both ends of its interval.
        """
        if not ray.is_initialized():
            return
        now = {"cells": float(num_cells)}
        for name, (value, low, high) in values.items():
            now |= {name: value, f"{name}_low": low, f"{name}_high": high}
        for name in self._shown.get(variant, set()) - now.keys():
            now[name] = math.nan
        self._shown[variant] = set(now)
        for name, value in now.items():
            if name not in self._gauges:
                self._gauges[name] = Gauge(f"behavegpt_law_{name}", description=_words(name), tag_keys=_TAGS)
            self._gauges[name].set(value, tags={"study": self._study, "variant": variant})


def _words(name: str) -> str:
    if name == "cells":
        return "completed cells that the law was fitted to"
    end = {"low": "low end of the 95 % interval", "high": "high end of the 95 % interval"}
    stem, _, last = name.rpartition("_")
    return f"{end[last]} of {stem}" if last in end else f"{name} of the law of the cells that are there"
