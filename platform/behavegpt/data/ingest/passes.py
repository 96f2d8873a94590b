"""The passes over a whole log: each runs one function over pieces or buckets, adds up what was found, and checks it.

In: what the pass before left in scratch. Out: the counts, and what the next pass needs to know.
"""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial, reduce
from operator import add

import numpy as np
import pyarrow as pa

from behavegpt.data.ingest.clean import Cleaned, CleanTask, clean_bucket
from behavegpt.data.ingest.count import FOLDED, BucketCounts, count_bucket, count_folded
from behavegpt.data.ingest.drops import HELD_OUT, REASONS, refuse_no_behavior, refuse_too_many
from behavegpt.data.ingest.job import Job, bucket_bits
from behavegpt.data.ingest.scatter import Scattered, ScatterTask, add_counts, scatter_piece
from behavegpt.data.ingest.split import Bounds
from behavegpt.data.ingest.values import count_others, learn_vocabulary, merge_values, name_others
from behavegpt.data.sources.plan import Piece
from behavegpt.data.vocab import FOLDED_KINDS, Vocabulary
from behavegpt.errors import InputError, did_you_mean
from behavegpt.schema import OTHER_ID, SPLITS, VOCABULARIES


def scatter_log(
    job: Job, pieces: Sequence[Piece], key: bytes, *, all_users: bool = False, keep_ids: bool = False
) -> tuple[tuple[str, ...], int, dict[str, int]]:
    """Scatter all pieces; return the names of the blocks, the number of buckets, and the counts.

    Args:
        all_users: As `ScatterTask` has it, and so is `keep_ids`.

    Raises:
        InputError: The log has no rows, or too many cannot be used.
    """
    job.scattered.mkdir()
    bits = bucket_bits(pieces, job.options)
    held_out = frozenset(job.options.hold_out_behaviors)
    tasks = [
        ScatterTask(
            index=index,
            piece=piece,
            spec=job.spec,
            columns=job.columns,
            directory=job.scattered,
            key=key,
            bucket_bits=bits,
            held_out=held_out,
            all_users=all_users,
            keep_ids=keep_ids,
        )
        for index, piece in enumerate(pieces)
    ]
    total = Scattered(
        blocks=(), counts=dict.fromkeys(("rows_read", "malformed_rows", *REASONS, HELD_OUT), 0), first_dropped={}
    )
    for part in job.run(scatter_piece, tasks, "read"):
        total = Scattered(
            blocks=total.blocks + part.blocks,
            counts=add_counts(total.counts, part.counts),
            first_dropped=part.first_dropped | total.first_dropped,
        )
    if not total.counts["rows_read"]:
        raise InputError(f"--input {' '.join(job.spec.inputs)}: has no rows")
    refuse_too_many(total.counts, total.first_dropped, job.options.max_dropped)
    return total.blocks, 1 << bits, total.counts


def merge_log_values(job: Job, blocks: Sequence[str]) -> dict[str, pa.Array]:
    """Return the texts behind the codes of each column.

    Raises:
        InputError: A behaviour to hold out does not occur.
    """
    columns = job.columns
    merged = job.run(partial(merge_values, job.scattered, blocks), columns, "order the values")
    texts = dict(zip(columns, merged, strict=True))
    behaviors = texts.get("behavior", texts["event"])
    known = set(behaviors.to_pylist()) if job.options.hold_out_behaviors else set()
    problems = [
        f"--hold-out-behaviors {name}: the log has no such behaviour.{did_you_mean(name, known)}"
        for name in job.options.hold_out_behaviors
        if name not in known
    ]
    if problems:
        raise InputError(*problems)
    return texts


def clean_log(job: Job, blocks: Sequence[str], num_buckets: int) -> tuple[list[Cleaned], dict[str, int]]:
    """Clean all buckets; return those with events, in order, and the counts. The blocks are gone afterwards.

    Raises:
        InputError: Fewer than two users have at least two events.
    """
    job.cleaned.mkdir()
    tasks = [
        CleanTask(index=i, blocks=tuple(blocks), columns=job.columns, scattered=job.scattered, cleaned=job.cleaned)
        for i in range(num_buckets)
    ]
    cleaned: list[Cleaned] = []
    counts: dict[str, int] = {}
    for bucket in job.run(clean_bucket, tasks, "clean"):
        counts = add_counts(counts, bucket.counts)
        cleaned += [bucket] if bucket.num_users else []
    shutil.rmtree(job.scattered)
    if counts["users"] < 2:
        raise InputError(
            f"--user {job.spec.columns.user}: the users with two events or more number {counts['users']}; at least 2 "
            f"are needed ({counts['duplicates']:,} rows were duplicates, {counts['users_with_one_event']:,} users had "
            "one event)"
        )
    refuse_no_behavior(counts, job.spec)
    return cleaned, counts


def count_log(job: Job, bounds: Bounds, texts: Mapping[str, pa.Array], buckets: Sequence[int]) -> BucketCounts:
    """Return what all clean buckets hold.

    Raises:
        InputError: A split has no window.
    """
    sizes = {column: len(values) for column, values in texts.items()}
    found = reduce(add, job.run(partial(count_bucket, job.cleaned, bounds, sizes), buckets, "count"))
    shown = " ".join(f"{share:g}" for share in job.options.split)
    problems = [
        f"--split {shown}: {name} has no event with a behaviour to predict ({bounds.said()}); "
        f"give {name} a larger share"
        for name, windows in zip(SPLITS, found.windows, strict=True)
        if not windows
    ]
    if problems:
        raise InputError(*problems)
    return found


Numbered = tuple[dict[str, Vocabulary], dict[str, np.ndarray], dict[str, int]]
"""The vocabularies, ids by code, and the counts of the splits."""


def number_values(texts: Mapping[str, pa.Array], found: BucketCounts, min_users: int) -> Numbered:
    """Return the vocabularies, each column's (V + 1,) ids by code, and the counts of the splits.

    Raises:
        InputError: No event is common enough to be known.
    """
    vocabularies = {"location": Vocabulary((), ())}
    ids = {"location": np.zeros(1, np.uint8)}
    counts = {f"other_location_{name}": 0 for name in SPLITS} | {"rare_location_values": 0, "rare_location_events": 0}
    for column in texts:
        needed = 1 if column == "behavior" else min_users
        vocabularies[column], ids[column] = learn_vocabulary(texts[column], found.values[column], needed)
        counts |= count_others(column, found.values[column], ids[column])
    if "behavior" not in texts:
        vocabularies["behavior"], ids["behavior"] = vocabularies["event"], ids["event"]
        counts |= count_others("behavior", found.values["event"], ids["event"])
    if not vocabularies["event"].values:
        raise InputError(
            f"--min-users {min_users}: no event is seen by so many users in the training rows; "
            "pass a smaller number, 1 keeps every value"
        )
    for index, name in enumerate(SPLITS):
        counts[f"events_{name}"] = int(found.events[index])
        counts[f"users_{name}"] = int(found.users[index])
        counts[f"windows_without_behavior_{name}"] = int(found.without_behavior[index])
    return {c: vocabularies[c] for c in VOCABULARIES}, {c: ids[c] for c in VOCABULARIES}, counts


def keep_behaviors(
    job: Job,
    bounds: Bounds,
    texts: Mapping[str, pa.Array],
    buckets: Sequence[int],
    min_users: int,
    numbered: Numbered,
) -> Numbered:
    """Return what `number_values` gave, where an event that it folded into `other` is `other` of its behaviour.

    Only a log whose behaviours are a column of their own is read once more, and only if an event of it is folded.
    """
    vocabularies, ids, counts = numbered
    if "behavior" not in texts or not any(counts[f"other_event_{split}"] for split in SPLITS):
        return numbered
    count = partial(count_folded, job.cleaned, bounds, ids["event"], len(texts["behavior"]))
    folded = reduce(add, job.run(count, buckets, "count what is folded"))
    events, of_behavior = name_others(vocabularies["event"], texts["behavior"], folded, min_users)
    known = of_behavior[:-1] != OTHER_ID
    less = {f"other_event_{split}": int(folded.events[i][known].sum()) for i, split in enumerate(SPLITS)}
    counts = {name: count - less.get(name, 0) for name, count in counts.items()}
    return (
        vocabularies | {"event": events},
        ids | {FOLDED: of_behavior},
        counts | {FOLDED_KINDS: int(known.sum())},
    )
