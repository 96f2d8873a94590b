"""The flags of jobs/adapt.py new-behavior; importing them loads no torch.

In: a command line. Out: a `NewBehavior`, which new_behavior_task.py checks against the dataset.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from behavegpt.train.config import ExecutionConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class NewBehavior:
    """Hold behaviours out of pretraining, then learn each from a few shots (the paper's Table 3)."""

    dataset: Path
    """Dataset directory from jobs/ingest.py or jobs/synthesize.py, with all behaviours."""
    out: Path
    """Directory of the runs and the report. It holds events of users, and jobs/forget.py does not reach it."""
    behaviors: tuple[str, ...] = ()
    """Behaviours to hold out; default three, whose shares of training are nearest to the paper's 5.22 %, 1.04 % and
    0.04 % by ratio, among those with 10 targets in the few shots and 20 in test."""
    models: tuple[Path, ...] = ()
    """Models from jobs/export.py that do not know the new behaviours (jobs/ingest.py --hold-out-behaviors), equal but
    for their seed: taken in place of pretraining here. Default for --behaviors is then what they do not know."""
    user_share: float | None = None
    """Users of the few shots, as a share of those with events in the last days; default the paper's 0.0025, but 30
    users at least."""
    days: int = 14
    """The few shots are the last so many days of the training split."""
    passes: int = 4
    """How often each few-shot target is trained on, from either start."""
    rates: tuple[float, ...] = (0.1, 0.3, 1.0)
    """Peak rates of few-shot training over the recipe's, of all but the lookup tables, which keep the recipe's; each
    start takes the one with the best mean of macro recall and recall of the new behaviour on validation."""
    width: int = 64
    """Of the models that are pretrained here, as is depth."""
    depth: int = 2
    num_events: int | None = None
    """Unique training targets of pretraining; default all that are left."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Initialisations; with --models the first ones, one a model."""
    shots_seed: int = 0
    """Chooses the users of the few shots."""
    use_ray: bool = False
    """Train on the Ray cluster, by the flags of the execution; otherwise in this process, on one thread."""
    execution: Annotated[ExecutionConfig, tyro.conf.arg(name="")] = field(default_factory=ExecutionConfig)
