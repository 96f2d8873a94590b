"""A seeded behaviour log with a known floor: a configuration goes in, a dataset directory as ingest makes it comes out.

The process, "Zipf habits": the next behaviour comes from the hour's rhythm, or it is the habit of the current place,
of the current event type (at any time, or in this part of the day), or of the last two behaviours; oracle.py has the
formula. Habits are used with Zipf frequencies, so ever rarer ones remain to be learned as data and models grow: the
quantization model's reason for power laws (Michaud et al. 2023, arXiv:2303.13506; Hutter 2021, arXiv:2102.04074).

`write_generated` streams to the disk, chunk by chunk, whatever the size. `generate` is the same log in memory, for
small ones: `Generated.values` holds windows of values (indices from 0), `Generated.splits` the same windows as ids.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from behavegpt.data.ingest.executor import Executor
from behavegpt.data.manifest import Floor, Manifest
from behavegpt.data.shards import finish_dataset, gather_shard, gather_tasks, table_sizes
from behavegpt.data.spill import Layout, spill_windows
from behavegpt.data.staging import WORK, staged_dataset
from behavegpt.data.synthetic.chunks import VAL_START, Chunk, draw_windows, group_chunks, plan_chunks, whole_weeks
from behavegpt.data.synthetic.config import GeneratorConfig
from behavegpt.data.synthetic.oracle import FloorSums, sum_floor
from behavegpt.data.synthetic.tally import Tally, count_events, count_hidden, count_windows, number_values
from behavegpt.data.synthetic.world import World, make_world
from behavegpt.data.vocab import Vocabulary
from behavegpt.data.windows import Windows, concatenate
from behavegpt.schema import SPLITS, VOCABULARIES

T = TypeVar("T")
R = TypeVar("R")

DRAWN_IN_ORDER = ("val", "test", "train")
"""Test begins after the last validation event."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """A log in memory, and what is known about it."""

    world: World
    values: dict[str, Windows]
    """Per split: location, event and behavior as values from 0; everything else as in `splits`."""
    splits: dict[str, Windows]
    """Per split: what the dataset holds, ids by descending frequency in training."""
    vocabularies: dict[str, Vocabulary]
    floor: Floor
    """Of the validation split."""
    cutoffs: dict[str, str]
    counts: dict[str, int]


def one_by_one(task: Callable[[T], R], items: Sequence[T], label: str) -> Iterator[R]:
    """Run a pass in this thread; see ingest/executor.py for those that run it wider."""
    return map(task, items)


def generate(config: GeneratorConfig) -> Generated:
    """Return the log of `config` in memory. Validation windows do not depend on `num_train_events`."""
    values: dict[str, Windows] = {}
    tallies: dict[str, Tally] = {}
    for split in DRAWN_IN_ORDER:
        values[split] = concatenate([draw_windows(c) for c in plan_split(config, split, _last(tallies))])
        tallies[split] = count_windows(config, values[split])
    vocabularies, ids = number_values(config, tallies["train"])
    world = make_world(config)
    return Generated(
        world=world,
        values={split: values[split] for split in SPLITS},
        splits={s: replace(values[s], **{c: ids[c][getattr(values[s], c)] for c in VOCABULARIES}) for s in SPLITS},
        vocabularies=vocabularies,
        floor=sum_floor(world, values["val"], ids["behavior"]).floor(),
        cutoffs=_cutoffs(tallies),
        counts=_counts(config, tallies, ids, count_hidden(values["val"], ids)),
    )


def write_generated(
    out: Path,
    config: GeneratorConfig,
    name: str,
    *,
    floors: Sequence[str] = ("val",),
    run: Executor = one_by_one,
    finish: Callable[[Path], object] | None = None,
) -> Manifest:
    """Write the log of `config` as the dataset directory `out`, in bounded memory; the bytes do not depend on `run`.

    Args:
        floors: Splits whose floor to compute. Validation's goes into `manifest.floor` in any case, and all of these
            into the manifest's source, under "floors".
        run: Runs each pass over the chunks; one by one unless told otherwise.
        finish: Adds to the whole dataset before it appears at `out`, such as `write_card`.

    Raises:
        InputError: `out` exists already.
        DirectoryBusyError: Another live process writes it.
    """
    layout = Layout(seed=config.seed, num_windows={split: config.num_windows(split) for split in SPLITS})
    with staged_dataset(out) as staging:
        chunks: dict[str, list[Chunk]] = {}
        tallies: dict[str, Tally] = {}
        for split in DRAWN_IN_ORDER:
            chunks[split] = plan_split(config, split, _last(tallies))
            spill = partial(_spill_group, staging / WORK, layout)
            tallies[split] = sum(run(spill, group_chunks(chunks[split]), f"drawing {split}"), Tally())
        vocabularies, ids = number_values(config, tallies["train"])
        measured, hidden = {}, 0
        for split in (s for s in SPLITS if s == "val" or s in floors):
            measured[split], after_other = _measure_split(chunks[split], ids, run)
            hidden += after_other if split == "val" else 0
        sizes = table_sizes(vocabularies)
        shards = list(run(gather_shard, gather_tasks(staging / WORK, staging, layout, sizes, id_maps=ids), "writing"))
        manifest = finish_dataset(
            staging,
            layout,
            shards,
            vocabularies,
            name=name,
            source={
                "kind": "generator",
                "config": asdict(config),
                "floors": {s: asdict(measured[s]) for s in measured},
            },
            counts=_counts(config, tallies, ids, hidden),
            num_users={split: config.num_split_users(split) for split in SPLITS},
            cutoffs=_cutoffs(tallies),
            floor=measured["val"],
        )
        if finish:
            finish(staging)
    return manifest


def plan_split(config: GeneratorConfig, split: str, last_val_second: int) -> list[Chunk]:
    """Return the chunks of a split; the test split takes the last second of the validation split."""
    return plan_chunks(config, split, {"train": None, "val": VAL_START, "test": _test_start(last_val_second)}[split])


def _test_start(last_val_second: int) -> int:
    """Return the Monday after the last validation event."""
    return VAL_START + int(whole_weeks(np.int64(last_val_second - VAL_START)))


def _last(tallies: dict[str, Tally]) -> int:
    return tallies["val"].last_second if "val" in tallies else VAL_START


def _spill_group(work: Path, layout: Layout, group: tuple[Chunk, ...]) -> Tally:
    windows = concatenate([draw_windows(chunk) for chunk in group])
    spill_windows(work, f"{group[0].index:08d}", group[0].split, windows, layout)
    return count_windows(group[0].config, windows)


def _measure_split(chunks: list[Chunk], ids: dict[str, np.ndarray], run: Executor) -> tuple[Floor, int]:
    """Return the floor of a split, and its targets that follow a value shown as `other`."""
    sums, after_other = FloorSums(), 0
    for part, count in run(partial(_measure_group, ids), group_chunks(chunks), f"floor of {chunks[0].split}"):
        sums += part
        after_other += count
    return sums.floor(), after_other


def _measure_group(ids: dict[str, np.ndarray], group: tuple[Chunk, ...]) -> tuple[FloorSums, int]:
    """Return the floor's sums and the targets after `other`: drawn once more, since it takes the ids to tell."""
    windows = concatenate([draw_windows(chunk) for chunk in group])
    return sum_floor(make_world(group[0].config), windows, ids["behavior"]), count_hidden(windows, ids)


def _cutoffs(tallies: dict[str, Tally]) -> dict[str, str]:
    begins = {"val": VAL_START, "test": _test_start(tallies["val"].last_second)}
    return {s: datetime.fromtimestamp(b, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for s, b in begins.items()}


def _counts(
    config: GeneratorConfig, tallies: dict[str, Tally], ids: dict[str, np.ndarray], hidden: int
) -> dict[str, int]:
    events = count_events({split: tallies[split] for split in SPLITS}, ids)
    return {"users": config.num_split_users("train"), **events, "val_targets_after_other": hidden}
