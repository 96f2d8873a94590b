"""A seeded behaviour log with a known floor: a configuration goes in, a dataset directory as ingest makes it comes out.

The process, "Zipf habits": the next behaviour comes from the hour's rhythm, or it is the habit of the current place,
of the current event type (at any time, or in this part of the day), or of the last two behaviours; oracle.py has the
formula. Habits are used with Zipf frequencies, so ever rarer ones remain to be learned as data and models grow: the
quantization model's reason for power laws (Michaud et al. 2023, arXiv:2303.13506; Hutter 2021, arXiv:2102.04074).

`Generated.values` holds windows of values (indices from 0), for the oracle; `Generated.splits` the same windows as ids.
"""

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from behavegpt.data.draw import SECONDS_PER_WEEK, Stream, calendar, draw_places, draw_stream
from behavegpt.data.manifest import Floor, Manifest
from behavegpt.data.oracle import floor_of
from behavegpt.data.shards import write_dataset
from behavegpt.data.vocab import Vocabulary, learn_vocabulary
from behavegpt.data.windows import Windows, concatenate
from behavegpt.data.world import GeneratorConfig, World, make_world
from behavegpt.schema import NUM_INPUTS, OTHER_ID, SPLITS, VOCABULARIES, WINDOW_LENGTH

USERS_PER_CHUNK = 256
"""Users drawn together from one child seed: bounds memory, and enters the seeds, so changing it changes the log."""
WINDOW_NUMBER_BITS = 24
"""A window's id is its split, its user and, in these bits, its number within the user's split."""
VAL_START = datetime(2026, 1, 5, tzinfo=UTC)
"""A Monday: training ends before it for every user, whatever its size."""


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


def demo() -> GeneratorConfig:
    """Return the configuration of the embedded demo study: 828,000 training and 54,000 validation targets."""
    return GeneratorConfig()


def generate(config: GeneratorConfig) -> Generated:
    """Return the log of `config`. Validation windows do not depend on `num_train_events`."""
    world = make_world(config)
    val_start = int(VAL_START.timestamp())
    val = _draw_split(world, config, "val", config.num_val_windows, begin=val_start)
    test_start = val_start + int(_whole_weeks(val.timestamp.max() - val_start))
    test = _draw_split(world, config, "test", config.num_test_windows, begin=test_start)
    train = _draw_split(world, config, "train", config.num_train_windows, end=val_start)
    values = {"train": train, "val": val, "test": test}
    vocabularies, ids = _number_values(config, values)
    splits = {split: _to_ids(windows, ids) for split, windows in values.items()}
    return Generated(
        world=world,
        values=values,
        splits=splits,
        vocabularies=vocabularies,
        floor=floor_of(world, val, ids["behavior"]),
        cutoffs={"val": _iso(val_start), "test": _iso(test_start)},
        counts=_count_other(splits),
    )


def write_generated(out: Path, config: GeneratorConfig, name: str) -> Manifest:
    """Write the log of `config` as the dataset directory `out`, with its floor in the manifest.

    Raises:
        InputError: `out` exists already.
    """
    log = generate(config)
    return write_dataset(
        out,
        log.splits,
        log.vocabularies,
        name=name,
        source={"kind": "generator", "config": asdict(config)},
        counts=log.counts,
        cutoffs=log.cutoffs,
        floor=log.floor,
        seed=config.seed,
    )


def _draw_split(
    world: World, config: GeneratorConfig, split: str, num_windows: int, *, begin: int | None = None, end: int = 0
) -> Windows:
    """Return `num_windows` windows of values, spread evenly over the users; the first users get one more.

    Args:
        begin: Unix second of a Monday 00:00, at most a week before each user's first event; or, where it is None,
        end: Unix second of a Monday 00:00, at most a week after each user's last event.
    """
    index = SPLITS.index(split)
    users = np.arange(min(config.num_users, num_windows))
    num_per_user = num_windows // len(users) + (users < num_windows % len(users))
    parts = []
    for chunk, start in enumerate(range(0, len(users), USERS_PER_CHUNK)):
        rows = users[start : start + USERS_PER_CHUNK]
        anchor_rng = np.random.default_rng([config.world_seed, config.seed, len(SPLITS), chunk])
        anchors = draw_places(world, (USERS_PER_CHUNK, 2), anchor_rng)[: len(rows)]
        rng = np.random.default_rng([config.world_seed, config.seed, index, chunk])
        stream = draw_stream(world, anchors, int(num_per_user[rows].max()), rng)
        last = stream.second[np.arange(len(rows)), num_per_user[rows] * NUM_INPUTS]
        origin = np.full(len(rows), begin) if begin is not None else end - _whole_weeks(last)
        parts.append(_cut(stream, origin, rows, num_per_user[rows], index))
    return concatenate(parts)


def _whole_weeks(seconds: np.ndarray) -> np.ndarray:
    """Return the least whole weeks, in seconds, that are longer than `seconds`."""
    return (seconds // SECONDS_PER_WEEK + 1) * SECONDS_PER_WEEK


def _cut(stream: Stream, origin: np.ndarray, users: np.ndarray, num_per_user: np.ndarray, split_index: int) -> Windows:
    """Return the first `num_per_user` windows of each user; consecutive windows share one event.

    Args:
        origin: (U,) Unix second of each stream's second 0.
        users: (U,) user indices.
    """
    row, number = np.nonzero(np.arange(num_per_user.max()) < num_per_user[:, None])
    positions = number[:, None] * NUM_INPUTS + np.arange(WINDOW_LENGTH)
    at = (row[:, None], positions)
    weekday, slot = calendar(stream.second[at])
    return Windows(
        weekday=(weekday + 1).astype(np.uint8),
        slot=(slot + 1).astype(np.uint8),
        location=stream.place[at],
        event=stream.event[at],
        behavior=stream.behavior[at],
        timestamp=stream.second[at] + origin[row, None],
        length=np.full(len(row), WINDOW_LENGTH, dtype=np.uint8),
        first_target=np.ones(len(row), dtype=np.uint8),
        user=users[row].astype(np.uint32),
        window_id=((split_index << 56) + (users[row] << WINDOW_NUMBER_BITS) + number).astype(np.uint64),
    )


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _number_values(
    config: GeneratorConfig, values: dict[str, Windows]
) -> tuple[dict[str, Vocabulary], dict[str, np.ndarray]]:
    """Return the vocabulary of each column, and the id of each of its values, from the training split."""
    sizes = {"location": config.num_places, "event": config.num_event_types, "behavior": config.num_behaviors}
    own = _own_events(values["train"])
    vocabularies, ids = {}, {}
    for column, size in sizes.items():
        seen = getattr(values["train"], column)[own]
        every = np.arange(size)
        names = pa.array([f"{column}-{value:0{len(str(size - 1))}d}" for value in every], pa.string())
        in_training = np.arange(len(seen) + size) < len(seen)
        vocabularies[column], found = learn_vocabulary(np.concatenate([seen, every]), names, in_training)
        ids[column] = found[len(seen) :]
    return vocabularies, ids


def _own_events(windows: Windows) -> np.ndarray:
    """Return (W, L) booleans, so that an event which two windows of a user share counts once: not as a first event."""
    own = np.ones(windows.behavior.shape, dtype=bool)
    own[:, 0] = (windows.window_id & np.uint64((1 << WINDOW_NUMBER_BITS) - 1)) == 0
    return own


def _to_ids(windows: Windows, ids: dict[str, np.ndarray]) -> Windows:
    return replace(windows, **{column: ids[column][getattr(windows, column)] for column in VOCABULARIES})


def _count_other(splits: dict[str, Windows]) -> dict[str, int]:
    """Return, in the words of ingest, the events and the values shown as `other`, per split; and what it touches."""
    counts = {"users": len(np.unique(splits["train"].user))}
    for split, windows in splits.items():
        own = _own_events(windows)
        counts[f"events_{split}"] = int(own.sum())
        if split != "train":
            counts |= {f"other_{c}_{split}": int((own & (getattr(windows, c) == OTHER_ID)).sum()) for c in VOCABULARIES}
    val = splits["val"]
    hides = (val.location == OTHER_ID) | (val.event == OTHER_ID)
    hides[:, 1:] |= val.event[:, :-1] == OTHER_ID
    counts["val_targets_after_other"] = int(hides[:, :NUM_INPUTS].sum())
    return counts
