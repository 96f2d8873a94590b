"""How long generation takes, and what the cache of keys and values saves.

In: sizes. Out: figures. The model has 0.8 M parameters and random weights; every user has a history of 90 events, so
nothing is spared. Without the cache the same loop reads the same events of the same users anew at each step. One
thread computes: two gain little on products so small. The ratio is of the thread's own seconds, which others on the
machine do not lengthen.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from behavegpt.bench.alone import run_alone
from behavegpt.bench.figures import Figure
from behavegpt.data.manifest import read_manifest
from behavegpt.data.synthetic.generator import GeneratorConfig, write_generated
from behavegpt.model.config import for_width
from behavegpt.model.sizing import count_params
from behavegpt.model.transformer import BehaveGPT, initialise
from behavegpt.schema import NUM_INPUTS
from behavegpt.tasks.generation.histories import blocks, read_histories
from behavegpt.tasks.generation.inputs import fit_inputs
from behavegpt.tasks.generation.loop import Generated, generate
from behavegpt.tasks.generation.sampling import Sampling
from behavegpt.tasks.generation.story import COLUMNS
from behavegpt.tasks.generation.voices import ModelVoice, SystemVoice, Voice
from behavegpt.tasks.models import ModelSystem
from behavegpt.tasks.targets import read_tables

WIDTH, DEPTH = 128, 4
NUM_TRAIN_EVENTS = 90_000
LEAST_SAME = 0.98
"""Share of users for whom both ways draw all the same: the two sum in another order, and a draw may fall between."""


def compare_generation(work: Path, num_users: int, num_behaviors: int, num_compared: int) -> Iterator[Figure]:
    """Yield the time for all users, and the ratio for some of them.

    Args:
        work: An empty directory.
    """
    dataset = write_histories(work / "generation", num_users)
    run = run_alone(
        "behavegpt.bench.generation:generate_all", dataset=dataset, num_users=num_users, num_behaviors=num_behaviors
    )
    yield Figure(
        name=f"{num_behaviors} behaviours of {num_users:,} users, {run.value:,} parameters, one thread",
        ours=f"{run.wall_s:.1f} s",
        value=run.wall_s,
        wanted="<= 120",
    )
    both = run_alone(
        "behavegpt.bench.generation:with_and_without", dataset=dataset, num_users=num_compared, steps=num_behaviors
    )
    cached_s, whole_s = both.value
    yield Figure(
        name=f"{num_behaviors} behaviours of {num_compared:,} users, with the cache",
        ours=f"{cached_s:.2f} s",
        other=f"{whole_s:.2f} s, without",
        value=whole_s / cached_s,
        wanted=">= 5",
    )


def write_histories(out: Path, num_users: int) -> Path:
    """Write a generated log in which each user has 181 events in the test split."""
    config = GeneratorConfig(
        num_users=num_users, num_train_events=NUM_TRAIN_EVENTS, num_val_windows=100, num_test_windows=2 * num_users
    )
    write_generated(out, config, "generation")
    return out


def generate_all(dataset: Path, num_users: int, num_behaviors: int) -> int:
    """Do what jobs/generate.py does until the behaviours are there; return the model's N."""
    torch.set_num_threads(1)
    manifest, model = read_manifest(dataset), _model(dataset)
    histories = read_histories(dataset, manifest, num_users, num_behaviors)
    rules = fit_inputs(read_tables(dataset, manifest, "train", COLUMNS))
    for block in blocks(histories, 256):
        generate(ModelVoice(model), block, rules, Sampling(), num_behaviors)
    return count_params(model.config).non_embedding


def with_and_without(dataset: Path, num_users: int, steps: int) -> tuple[float, float]:
    """Return the seconds of the thread with the cache and without it.

    Raises:
        RuntimeError: The two do not give the same behaviours.
    """
    torch.set_num_threads(1)
    manifest, model = read_manifest(dataset), _model(dataset)
    histories = read_histories(dataset, manifest, num_users, steps)
    assert (histories.length == NUM_INPUTS).all()
    rules = fit_inputs(read_tables(dataset, manifest, "train", COLUMNS))

    def timed(voice: Voice) -> tuple[Generated, float]:
        begin = time.thread_time()
        generated = generate(voice, histories, rules, Sampling(), steps)
        return generated, time.thread_time() - begin

    system = ModelSystem("whole", model, count_params(model.config), torch.device("cpu"))
    cached, cached_s = timed(ModelVoice(model))
    whole, whole_s = timed(SystemVoice(system))
    same = float(np.mean((cached.behavior == whole.behavior).all(axis=1)))
    if same < LEAST_SAME:
        raise RuntimeError(f"with and without the cache only {same:.1%} of the users get the same behaviours")
    return cached_s, whole_s


def _model(dataset: Path) -> BehaveGPT:
    sizes = read_manifest(dataset).vocabulary_sizes
    model = BehaveGPT(for_width(WIDTH, DEPTH, vocabulary_sizes=sizes))
    initialise(model, 0)
    return model.eval()
