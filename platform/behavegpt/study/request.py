"""What a user may ask of a study in place of a preset's axes, and the StudyConfig that answers it.

In: a preset, the request, a dataset. Out: a StudyConfig. Without a dataset, an outline of the log that the study needs.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from behavegpt.data.manifest import Manifest, Split, read_manifest
from behavegpt.data.stream import read_targets
from behavegpt.data.synthetic.config import GeneratorConfig
from behavegpt.data.synthetic.domains import demo
from behavegpt.data.synthetic.generator import write_generated
from behavegpt.errors import InputError
from behavegpt.schema import FIRST_KNOWN_ID, NUM_INPUTS, NUM_SLOTS, NUM_WEEKDAYS
from behavegpt.study.axes import data_sizes, grid_within, iso_flop_sizes, model_of
from behavegpt.study.config import StudyConfig, of_widths
from behavegpt.study.estimate import plan_lines
from behavegpt.study.grid import plan_study
from behavegpt.study.recipe import BATCH_RAMP, DECAY_SHARE, WARMUP_STEPS
from behavegpt.train.schedule import plan_steps


@dataclass(frozen=True, kw_only=True, slots=True)
class GridRequest:
    """The axes of N and D; at most one way to give data sizes."""

    widths: tuple[int, ...] | None = None
    """Model widths in place of the preset's sizes."""
    depth: int = 2
    """Blocks of the models of --widths."""
    num_events: tuple[int, ...] | None = None
    """Data sizes (unique training targets) in place of the preset's."""
    events_per_param: tuple[float, ...] | None = None
    """Data sizes as multiples of each model's N."""
    iso_flops: tuple[float, ...] | None = None
    """Budgets of training FLOPs: at each, every model gets the data size that costs it; without --widths, the models
    around the optimum."""
    total_flops: float | None = None
    """Training FLOPs of the whole study: models and data sizes with the widest lever arms that it buys."""


def answer(preset: StudyConfig, request: GridRequest, **shared: Any) -> StudyConfig:
    """Return the preset with the axes that were asked for; what depends on a budget is left for `within_budgets`.

    Args:
        shared: Further fields of the StudyConfig.

    Raises:
        InputError: The request contradicts itself, or a value is wrong; every one is named.
    """
    data = ("num_events", "events_per_param", "iso_flops", "total_flops")
    given = [name for name in data if getattr(request, name) is not None]
    if request.total_flops is not None and request.widths is not None:
        given.append("widths")
    if len(given) > 1:
        raise InputError(f"{' and '.join('--' + name.replace('_', '-') for name in given)} exclude each other")
    changes: dict[str, Any] = dict(shared)
    if request.widths is not None:
        changes["sizes"] = of_widths(*request.widths, depth=request.depth)
    if given and request.total_flops is None:
        changes |= {"num_events": (), "events_per_param": (), "flop_budgets": ()}
        [name] = given
        changes["flop_budgets" if name == "iso_flops" else name] = getattr(request, name)
    return replace(preset, **changes)


def within_budgets(config: StudyConfig, request: GridRequest, dataset: Path) -> StudyConfig:
    """Return the study with the models and data sizes that the request's budgets buy on the dataset.

    Raises:
        InputError: A budget buys no grid, or there is no dataset.
    """
    if request.total_flops is None and (request.iso_flops is None or request.widths is not None):
        return config
    manifest = read_manifest(dataset)
    targets_W = read_targets(dataset, manifest, manifest.splits["train"].num_targets)
    return _within_budgets(config, request, manifest, targets_W)


def _within_budgets(
    config: StudyConfig, request: GridRequest, manifest: Manifest, targets_W: np.ndarray
) -> StudyConfig:
    per_window = float(targets_W.mean()) if len(targets_W) else 0.0
    if request.total_flops is not None:
        return grid_within(
            replace(config, events_per_param=(), flop_budgets=(), num_events=(1,)),
            request.total_flops,
            manifest.vocabulary_sizes,
            events_per_window=per_window,
            available=manifest.splits["train"].num_targets,
            least=least_after_warm_up(targets_W),
        )
    if request.iso_flops is not None and request.widths is None:
        return replace(config, sizes=iso_flop_sizes(request.iso_flops, manifest.vocabulary_sizes, per_window))
    return config


@contextmanager
def made_dataset(given: Path | None) -> Iterator[Path]:
    """Yield the dataset; the demo's is generated where there is none, and taken back if the command was wrong."""
    dataset = given or Path("data/demo")
    if made := given is None and not dataset.exists():
        print(f"making generated logs in {dataset}", flush=True)
        write_generated(dataset, demo(), "demo")
    try:
        yield dataset
    except InputError:
        if made:
            shutil.rmtree(dataset)
            with suppress(OSError):  # not empty: it was there before
                dataset.parent.rmdir()
        raise


def least_after_warm_up(targets_W: np.ndarray) -> int:
    """Return the least data size, rounded up to two digits, whose decay begins after the warm-up.

    Raises:
        InputError: The dataset has none.
    """
    steps = plan_steps(targets_W, BATCH_RAMP)
    if len(steps.events_before) <= WARMUP_STEPS:
        raise InputError(f"the dataset is too small: it has no {WARMUP_STEPS} optimiser steps, the warm-up alone")
    least = int(steps.events_before[WARMUP_STEPS]) / (1 - DECAY_SHARE)
    digit = 10 ** (len(str(int(least))) - 2)
    return int(-(-least // digit)) * digit


def outline_lines(config: StudyConfig, request: GridRequest, study_dir: Path) -> tuple[list[str], str]:
    """Return the plan of a study on generated logs that are large enough for it, and the command that makes them."""
    manifest, targets_W, _ = outline(config, GeneratorConfig())
    config = _within_budgets(config, request, manifest, targets_W)
    manifest, targets_W, command = outline(config, GeneratorConfig())
    plan = plan_study(config, manifest, Path(manifest.name), study_dir, targets_W)
    return plan_lines(plan, manifest, None), command


def outline(config: StudyConfig, generator: GeneratorConfig) -> tuple[Manifest, np.ndarray, str]:
    """Return the generated log that a study needs, without making it: its manifest, its targets, and the command.

    Vocabularies are the generator's, all values seen; windows are full.
    """
    known = {
        "location": generator.num_places,
        "event": generator.num_event_types,
        "behavior": generator.num_behaviors,
    }
    sizes = {"weekday": NUM_WEEKDAYS, "slot": NUM_SLOTS} | {k: v + FIRST_KNOWN_ID for k, v in known.items()}
    full_W = np.full(1, NUM_INPUTS, np.uint8)
    needed = max(max(data_sizes(config, model_of(size, sizes), full_W)) for size in config.sizes)
    num_windows = -(-needed // NUM_INPUTS)
    counts = {"train": num_windows, "val": generator.num_val_windows, "test": generator.num_test_windows}
    manifest = Manifest(
        name=f"generated logs of {num_windows * NUM_INPUTS:,} events, not made yet",
        vocabulary_sizes=sizes,
        splits={
            name: Split(num_windows=n, num_targets=n * NUM_INPUTS, num_users=generator.num_users, shards=())
            for name, n in counts.items()
        },
        source={},
        counts={},
    )
    users = _users_for(generator, num_windows * NUM_INPUTS)
    command = f"python jobs/synthesize.py --out data/{config.name} --num-train-events {num_windows * NUM_INPUTS}{users}"
    return manifest, np.full(num_windows, NUM_INPUTS, np.uint8), command


def _users_for(generator: GeneratorConfig, num_events: int) -> str:
    """Return the flag that spreads so many events over enough users, where the generator's own number is too small."""
    num_users = [generator.num_users * 2**k for k in range(24)]
    for number in num_users:
        try:
            replace(generator, num_train_events=num_events, num_users=number)
        except InputError:
            continue  # too many events a user
        return "" if number == generator.num_users else f" --num-users {number}"
    return ""
