"""What the user may choose about an ingest, apart from what the log is."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from behavegpt.data.ingest.split import Shares, SplitBy, find_split_problems


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestOptions:
    """How to clean, split and protect a log."""

    split: Shares = (0.7, 0.15, 0.15)
    """Shares of train, val and test: the earliest are train, the latest test."""
    split_by: SplitBy = "events"
    """What the shares are shares of: events, local calendar days, the span of time, or users (whole histories)."""
    min_users: int | None = None
    """Events and locations of fewer training users become 'other'; so do behaviours that are the events themselves.
    Default 20, in a log of fewer than 2,000 training users 1 % of them; 1 keeps every value."""
    hold_out_behaviors: tuple[str, ...] = ()
    """Behaviours whose events are removed, as input and as target, for a task on new ones."""
    key_file: Path | None = None
    """Secret key of the pseudonyms; default user.key beside the dataset, made where it is missing. Keep it: who has it
    can find a user's rows."""
    max_dropped: float = 0.01
    """Share of rows that may be dropped for what is in them; more is an error."""
    memory_gb: float = 2.0
    """For the arrays of all tasks that run at a time; the log may be of any size."""
    num_workers: int = field(default_factory=lambda: min(os.cpu_count() or 1, 4))
    """Tasks that run at a time; default one a CPU, at most 4. More tasks get smaller parts of the memory."""
    seed: int = 0
    """Of the shuffle of windows."""


def default_min_users(num_training_users: int) -> int:
    """Return the users whom a value needs where the user said nothing: 20, or 1 % of a small log's users.

    Twenty is what hides a person in a population; asked of a log of some hundred users it would hide the log.
    """
    return max(1, min(20, num_training_users // 100))


def find_option_problems(options: IngestOptions) -> list[str]:
    """Return every problem of the options by themselves."""
    problems = find_split_problems(options.split)
    if options.min_users is not None and options.min_users < 1:
        problems.append(f"--min-users {options.min_users}: must be 1 or more; 1 keeps every value")
    if not 0 <= options.max_dropped <= 1:
        hint = " Did you mean 0.01?" if options.max_dropped > 1 else ""
        problems.append(f"--max-dropped {options.max_dropped:g}: must be a share, from 0 to 1.{hint}")
    if not options.memory_gb > 0:
        problems.append(f"--memory-gb {options.memory_gb:g}: must be above 0")
    if options.num_workers < 1:
        problems.append(f"--num-workers {options.num_workers}: must be 1 or more")
    if options.seed < 0:
        problems.append(f"--seed {options.seed}: must be 0 or more")
    return problems
