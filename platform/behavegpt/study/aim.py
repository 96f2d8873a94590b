"""What the law of a study is wanted for, as flags: its target, and whether cells are suggested or chosen for it.

In: the command line. Out: an `Aim` without contradictions, which auto.py follows.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from behavegpt.errors import InputError
from behavegpt.model.sizing import flops_per_window
from behavegpt.study.grid import Plan

TARGET = 10.0
"""The default target, over the dearest cell of the grid: beyond it the report warns of extrapolation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Aim:
    """What the law is for, and how its cells are chosen."""

    target_flops: float | None = None
    """The training budget whose best loss the law is to tell; default ten times the dearest cell's."""
    suggest: bool = False
    """Of a study that has cells: print the next ones that narrow the interval of that loss most per FLOP; train
    nothing."""
    number: int | None = None
    """Cells that --suggest prints; default 5."""
    auto: bool = False
    """Train the cells of the grid that a first law needs, then those that --suggest would name, round by round: of the
    grid, of models between its own, and of one more seed."""
    auto_flops: float | None = None
    """Stop --auto before the study has taken more training FLOPs than this; default what the whole grid costs."""
    auto_width: float | None = None
    """Stop --auto when the interval of the law's loss at the target, high less low over the loss, is as narrow as
    this, such as 0.02."""

    def __post_init__(self) -> None:
        problems = [
            f"--{name.replace('_', '-')} is {value:g}; it must be positive and finite"
            for name in ("target_flops", "number", "auto_flops", "auto_width")
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf
        ]
        if self.suggest and self.auto:
            problems.append("--suggest and --auto exclude each other: the one prints cells, the other trains them")
        if self.number is not None and not self.suggest:
            problems.append("--number needs --suggest")
        problems += [
            f"--{name.replace('_', '-')} needs --auto"
            for name in ("auto_flops", "auto_width")
            if getattr(self, name) is not None and not self.auto
        ]
        if problems:
            raise InputError(*problems)

    def check(self, study_dir: Path, *, plan: bool, check_branches: int, num_variants: int) -> None:
        """Raise where another flag, or an empty directory, contradicts the aim."""
        problems = []
        if self.suggest and plan:
            problems.append("--suggest and --plan exclude each other: both train nothing, and print different things")
        if self.suggest and check_branches:
            problems.append("--suggest trains nothing, so --check-branches has nothing to check")
        if self.auto and check_branches:
            problems.append("--auto and --check-branches exclude each other: the check samples a whole grid")
        if self.auto and num_variants > 1:
            problems.append(f"--auto fits one law, the study has {num_variants} variants; run it for each, by --loss")
        if self.suggest and not problems and not (study_dir / "cells").is_dir():
            problems.append(f"{study_dir}: has no cells yet; --suggest asks those that are there, --auto needs none")
        if problems:
            raise InputError(*problems)

    def target(self, plan: Plan) -> float:
        """Return the target in FLOPs: as given, or for a plan, rounded to one digit."""
        if self.target_flops is not None:
            return self.target_flops
        dearest = max(flops_per_window(job.model).training * job.cells[-1].num_windows for job in plan.jobs)
        return float(f"{TARGET * dearest:.0e}")
