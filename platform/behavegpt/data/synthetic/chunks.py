"""Cut a configuration's users into chunks that can be drawn apart, in any order and by any process.

In: a configuration. Out: chunks of a split, as streams of events or as windows of values. Everything in a chunk comes
from the configuration and the chunk's place in it, so the log does not depend on who draws what.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np

from behavegpt.data.synthetic.config import GeneratorConfig
from behavegpt.data.synthetic.draw import SECONDS_PER_WEEK, Stream, calendar, draw_places, draw_stream
from behavegpt.data.synthetic.world import make_world
from behavegpt.data.windows import Windows
from behavegpt.schema import NUM_INPUTS, SPLITS, WINDOW_LENGTH

Whole = TypeVar("Whole", np.ndarray, np.int64)

USERS_PER_CHUNK = 256
"""Users drawn together from one child seed, at most: it enters the seeds, so changing it changes the log."""
EVENTS_PER_CHUNK = 1 << 19
"""Events drawn together, unless one user has more: bounds the memory to some 100 MB, and enters the seeds likewise."""
VAL_START = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
"""A Monday: training ends before it for every user, whatever its size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Some users of one split."""

    config: GeneratorConfig
    split: str
    index: int
    """Of the chunk in its split."""
    first_user: int
    end_user: int
    begin: int | None
    """Unix second of a Monday 00:00, at most a week before each user's first event; None in training, which ends at
    most a week before VAL_START."""


def plan_chunks(config: GeneratorConfig, split: str, begin: int | None = None) -> list[Chunk]:
    """Return the chunks of a split: of as many users, a power of two, as `EVENTS_PER_CHUNK` allows."""
    num_users = config.num_split_users(split)
    events_per_user = -(-config.num_windows(split) // num_users) * NUM_INPUTS
    size = USERS_PER_CHUNK
    while size > 1 and size * events_per_user > EVENTS_PER_CHUNK:
        size //= 2
    return [
        Chunk(
            config=config,
            split=split,
            index=index,
            first_user=first,
            end_user=min(first + size, num_users),
            begin=begin,
        )
        for index, first in enumerate(range(0, num_users, size))
    ]


def windows_per_user(chunk: Chunk) -> np.ndarray:
    """Return (U,) windows of each user: the split's are spread evenly, and the first users get one more."""
    whole, rest = divmod(chunk.config.num_windows(chunk.split), chunk.config.num_split_users(chunk.split))
    return whole + (np.arange(chunk.first_user, chunk.end_user) < rest)


def num_events(chunk: Chunk) -> int:
    """Return the distinct events of the chunk: consecutive windows of a user share one."""
    return int(windows_per_user(chunk).sum()) * NUM_INPUTS + chunk.end_user - chunk.first_user


def group_chunks(chunks: Sequence[Chunk], most_events: int = EVENTS_PER_CHUNK) -> list[tuple[Chunk, ...]]:
    """Return runs of consecutive chunks of `most_events` or fewer together: what one task works on at a time."""
    groups: list[tuple[Chunk, ...]] = []
    room = 0
    for chunk in chunks:
        size = num_events(chunk)
        if size > room:
            groups.append(())
            room = most_events
        groups[-1] += (chunk,)
        room -= size
    return groups


def draw_events(chunk: Chunk) -> Stream:
    """Return the chunk's events, in Unix seconds; users who have fewer windows than others have events past their last.

    A user's own events are the first `windows_per_user` x 90 + 1.
    """
    config, world = chunk.config, make_world(chunk.config)
    rng = np.random.default_rng([config.world_seed, config.seed, SPLITS.index(chunk.split), chunk.index])
    num_windows = windows_per_user(chunk)
    stream = draw_stream(world, _anchors(chunk), int(num_windows.max()), rng)
    if chunk.begin is not None:
        second = stream.second + chunk.begin
    else:
        last = np.take_along_axis(stream.second, num_windows[:, None] * NUM_INPUTS, axis=1)
        second = stream.second + (VAL_START - whole_weeks(last))
    return Stream(second=second, place=stream.place, event=stream.event, behavior=stream.behavior)


def _anchors(chunk: Chunk) -> np.ndarray:
    """Return (U, 2) home and workplace of each user, the same in every split."""
    config, block = chunk.config, chunk.first_user // USERS_PER_CHUNK
    rng = np.random.default_rng([config.world_seed, config.seed, len(SPLITS), block])
    anchors = draw_places(make_world(config), (USERS_PER_CHUNK, 2), rng)
    first = chunk.first_user % USERS_PER_CHUNK
    return anchors[first : first + chunk.end_user - chunk.first_user]


def whole_weeks(seconds: Whole) -> Whole:
    """Return the least whole weeks, in seconds, that are longer than `seconds`."""
    return (seconds // SECONDS_PER_WEEK + 1) * SECONDS_PER_WEEK


def draw_windows(chunk: Chunk) -> Windows:
    """Return the chunk's windows of values; consecutive windows of a user share one event."""
    config, stream, num_windows = chunk.config, draw_events(chunk), windows_per_user(chunk)
    own = np.arange(num_windows.max()) < num_windows[:, None]
    row, number = np.nonzero(own)
    timestamp = _windows(stream.second)[own]
    # Every stream begins a whole number of weeks from VAL_START, so the calendar can start there.
    weekday, slot = calendar(timestamp - VAL_START)
    return Windows(
        weekday=(weekday + 1).astype(np.uint8),
        slot=(slot + 1).astype(np.uint8),
        location=_windows(_narrow(stream.place, config.num_places))[own],
        event=_windows(_narrow(stream.event, config.num_event_types))[own],
        behavior=_windows(_narrow(stream.behavior, config.num_behaviors))[own],
        timestamp=timestamp,
        length=np.full(len(row), WINDOW_LENGTH, dtype=np.uint8),
        first_target=np.ones(len(row), dtype=np.uint8),
        user=(chunk.first_user + row).astype(np.uint64),
        number=number.astype(np.uint32),
    )


def _windows(columns: np.ndarray) -> np.ndarray:
    """Return (U, n, L) windows of (U, 90 n + 1) events; the last event of one is the first of the next."""
    return np.lib.stride_tricks.sliding_window_view(columns, WINDOW_LENGTH, axis=1)[:, ::NUM_INPUTS]


def _narrow(values: np.ndarray, size: int) -> np.ndarray:
    """Return values below `size` as the smallest unsigned integers: they are copied and spilled next."""
    return np.ascontiguousarray(values, dtype=np.min_scalar_type(size - 1))
