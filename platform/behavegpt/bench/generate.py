"""How fast the generator is on one core.

In: a size. Out: figures. An event costs at least one uniform number and one look-up in a table for each of its four
columns; that is the yardstick, in numpy. Beyond it, the generator's behaviour depends on the event before, which takes
one vectorised step per event of a stream over all users of a chunk; and the dataset is laid out, compressed and hashed.
"""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from behavegpt.bench.alone import run_alone
from behavegpt.bench.figures import Figure, rate
from behavegpt.bench.ingest import config_of
from behavegpt.data.synthetic.generator import write_generated
from behavegpt.schema import SPLITS

NUM_COLUMNS = 4
EVENTS_AT_ONCE = 100_000


def compare_generator(work: Path, num_events: int) -> list[Figure]:
    """Return the rate at which a dataset of about `num_events` events is generated, against drawing columns alone."""
    run = run_alone("behavegpt.bench.generate:generate_on_one_core", out=work / "generated", num_events=num_events)
    targets, bare_s, cpu_s = run.value
    seconds = run.wall_s - bare_s
    return [
        Figure(
            name=f"generator, {targets:,} targets written on one core, M events/s",
            ours=f"{seconds:.1f} s ({cpu_s:.1f} s of CPU)",
            other=f"bare draws {rate(targets, bare_s, 'events')}",
            value=targets / seconds / 1e6,
            wanted=">= 0.5",
        )
    ]


def generate_on_one_core(out: Path, num_events: int) -> tuple[int, float, float]:
    """Write a generated dataset with this process on one core.

    Returns:
        Its targets, the seconds of the yardstick, and the CPU seconds of writing: where those are fewer than the
        clock's, others had the core too.
    """
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    config = replace(config_of(num_events), seed=1)
    cpu_begin = time.process_time()
    manifest = write_generated(out, config, name="generated")
    cpu_s = time.process_time() - cpu_begin
    targets = sum(manifest.splits[split].num_targets for split in SPLITS)
    begin = time.perf_counter()
    draw_columns(targets, config.num_places)
    return targets, time.perf_counter() - begin, cpu_s


def draw_columns(num_events: int, table_size: int) -> int:
    """Draw the columns of independent events; return a sum over them, so that nothing is left out."""
    rng = np.random.default_rng(0)
    table, total = rng.integers(table_size, size=table_size), 0
    for start in range(0, num_events, EVENTS_AT_ONCE):
        size = min(EVENTS_AT_ONCE, num_events - start)
        for _ in range(NUM_COLUMNS):
            total += int(table[(rng.random(size) * table_size).astype(np.int64)].sum())
    return total
