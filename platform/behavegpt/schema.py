"""Names and Arrow types that the stages share: the window shard, and one row of a study's results table.

Written by data/ and study/, read by train/ and by the `analysis` package. Imports neither torch nor ray.
"""

from collections.abc import Mapping
from typing import Final, Literal, get_args

import pyarrow as pa

SCHEMA_VERSION: Final = 2
"""Version of the dataset directory; a reader refuses any other."""

WINDOW_LENGTH: Final = 91
"""Consecutive events of one user in a window: 90 inputs and, at every position, the next behaviour as target."""
NUM_INPUTS: Final = WINDOW_LENGTH - 1

PADDING_ID: Final = 0
"""Right padding, or a missing value. As a behaviour it is the loss's ignore index."""
OTHER_ID: Final = 1
"""A value unseen in the training split, or too rare to have its own id."""
FIRST_KNOWN_ID: Final = 2
"""Known values take ids from here, most frequent in training first."""

NUM_WEEKDAYS: Final = 8
"""Size of the weekday table: 0 padding, 1 Monday .. 7 Sunday."""
NUM_SLOTS: Final = 49
"""Size of the slot table: 0 padding, 1 .. 48 the half hours of the local day, 1 from 00:00."""

SPLITS: Final = ("train", "val", "test")
FEATURES: Final = ("weekday", "slot", "location", "event")
"""The four inputs of an event, in the order in which their embeddings are concatenated."""
VOCABULARIES: Final = ("location", "event", "behavior")
"""The columns whose ids come from a vocabulary learned on the training split."""

STREAM_COLUMNS: Final = (*FEATURES, "behavior", "first_target", "window_id")
"""What training reads of a window: the first columns of a shard."""

WINDOWS_PER_SHARD: Final = 16_384
"""About: windows fall to shards by their shuffle key."""
WINDOWS_PER_ROW_GROUP: Final = 512
LANES: Final = 8
"""Row i of a shard's stream is stored in lane i mod LANES, so that W workers (W divides LANES) each read 1/W."""
WINDOWS_PER_BLOCK: Final = WINDOWS_PER_ROW_GROUP * LANES
"""Consecutive rows of the stream that LANES row groups hold."""
SPLIT_SHIFT: Final = 56
SHARD_SHIFT: Final = 24
"""Where the split's and the shard's number begin in a window_id."""


def _id_type(size: int) -> pa.DataType:
    """Return the smallest unsigned type that holds ids 0 .. size - 1."""
    return pa.uint8() if size <= 1 << 8 else pa.uint16() if size <= 1 << 16 else pa.uint32()


def window_schema(vocabulary_sizes: Mapping[str, int]) -> pa.Schema:
    """Return the Arrow schema of a window shard; what the stream reads comes first, so that it is one piece of a file.

    Args:
        vocabulary_sizes: Table size (ids 0 and 1 included) of each of `FEATURES` and of `behavior`.
    """
    ids = [_window_of(name, _id_type(vocabulary_sizes[name])) for name in (*FEATURES, "behavior")]
    others = [
        pa.field("first_target", pa.uint8(), nullable=False),  # index of the first event scored as a target, >= 1
        pa.field("window_id", pa.uint64(), nullable=False),  # split << 56 | shard << 24 | row of the shard's stream
        pa.field("num_targets", pa.uint8(), nullable=False),  # scored targets: behavior > 0 at index >= first_target
        pa.field("length", pa.uint8(), nullable=False),  # events in the window; the rest is padding
        _window_of("timestamp", pa.int64()),  # seconds since 1970 UTC
        pa.field("user", pa.uint64(), nullable=False),  # pseudonym
        pa.field("number", pa.uint32(), nullable=False),  # the window's place in its user's grid
    ]
    return pa.schema(ids + others)


def _window_of(name: str, item: pa.DataType) -> pa.Field:
    return pa.field(name, pa.list_(pa.field("item", item, nullable=False), WINDOW_LENGTH), nullable=False)


Status = Literal["completed", "diverged", "oom", "timeout", "crashed", "skipped"]
STATUSES: Final[tuple[Status, ...]] = get_args(Status)

RESULT_SCHEMA: Final = pa.schema(
    [
        ("cell_id", pa.string()),
        ("study", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("variant", pa.string()),
        ("num_params", pa.int64()),  # non-embedding parameters: blocks, final norm, head
        ("num_params_total", pa.int64()),
        ("num_params_embedding", pa.int64()),  # lookup tables and positions
        ("num_params_matmul", pa.int64()),  # weights that take part in a matrix product
        ("width", pa.int64()),
        ("depth", pa.int64()),
        ("num_heads", pa.int64()),
        ("num_events", pa.int64()),  # D: unique training targets consumed
        ("num_epochs", pa.float64()),  # num_events over the dataset's unique training targets; never above 1 here
        ("flops", pa.float64()),  # training FLOPs of a run of its own that gives this cell
        ("loss", pa.float64()),  # plain cross-entropy, nats per target, on the study's fixed validation windows
        ("loss_stderr", pa.float64()),  # clustered by window
        ("loss_seed_sd", pa.float64()),  # between seeds, pooled over the sizes that have several at this D; else null
        ("train_loss", pa.float64()),  # mean over the decay
        ("seed", pa.int64()),
        ("schedule", pa.string()),
        ("trunk_id", pa.string()),
        ("learning_rate", pa.float64()),  # peak
        ("batch_events", pa.int64()),  # targets per full step at the end of the run: windows x 90
        ("num_steps", pa.int64()),
        ("wall_s", pa.float64()),
        ("worker_s", pa.float64()),  # wall_s x workers
        ("events_per_s", pa.float64()),
        ("world_size", pa.int64()),
        ("zero_stage", pa.int64()),  # -1 for the plain torch engine
        ("device", pa.string()),
        ("attention", pa.string()),  # the kernel: flash or sdpa
        ("dataset_fingerprint", pa.string()),
        ("config_hash", pa.string()),
        ("code_version", pa.string()),
        ("started_at", pa.string()),  # ISO 8601, UTC
        ("finished_at", pa.string()),
    ]
)
"""One row a cell, failed cells included. Only rows with status 'completed' may reach a fit."""
