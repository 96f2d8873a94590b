"""Turn a raw log into a dataset directory, in passes over files in scratch: memory does not grow with the log.

In: a `LogSpec`, options, and an executor. Out: the directory that stream.py reads, and its manifest, which the card
renders. The same rows give the same shards, byte for byte, whatever their order, their files, the number of workers
and the memory.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from behavegpt.data.ingest.clean import Cleaned
from behavegpt.data.ingest.count import cut_bucket
from behavegpt.data.ingest.executor import Executor
from behavegpt.data.ingest.job import Job
from behavegpt.data.ingest.options import IngestOptions, default_min_users, find_option_problems
from behavegpt.data.ingest.passes import (
    clean_log,
    count_log,
    keep_behaviors,
    merge_log_values,
    number_values,
    scatter_log,
)
from behavegpt.data.ingest.pseudonyms import find_key_problems, key_id, take_key
from behavegpt.data.ingest.split import find_bounds, iso
from behavegpt.data.manifest import Manifest
from behavegpt.data.shards import finish_dataset, gather_shard, gather_tasks, table_sizes
from behavegpt.data.sources.plan import describe, find_source_problems, plan_pieces
from behavegpt.data.sources.spec import LogSpec
from behavegpt.data.spill import Layout
from behavegpt.data.staging import WORK, find_out_problems, staged_dataset
from behavegpt.errors import InputError
from behavegpt.schema import SPLITS


def ingest(
    spec: LogSpec, out: Path, *, options: IngestOptions, run: Executor, finish: Callable[[Path], object] | None = None
) -> Manifest:
    """Write the dataset of a log to the new directory `out` and return its manifest.

    Args:
        finish: Adds to the whole dataset before it appears at `out`, such as `write_card`.

    Raises:
        InputError: An argument or the log is wrong; nothing of the dataset is left.
        DirectoryBusyError: Another live process writes `out`.
    """
    key_file = options.key_file or out.absolute().parent / "user.key"
    problems = find_out_problems(out) + find_source_problems(spec)
    problems += find_option_problems(options) + find_key_problems(key_file, out)
    if problems:
        raise InputError(*problems)
    with staged_dataset(out) as staging:
        key = take_key(key_file)
        job = Job(spec=spec, options=options, run=run, work=staging / WORK)
        manifest = _write(job, staging, key, out.name)
        if finish:
            finish(staging)
    return manifest


def _write(job: Job, staging: Path, key: bytes, name: str) -> Manifest:
    """Run all passes; the dataset then lies in `staging`."""
    spec, options, run = job.spec, job.options, job.run
    blocks, num_buckets, counts = scatter_log(job, plan_pieces(spec), key)
    texts = merge_log_values(job, blocks)
    cleaned, clean_counts = clean_log(job, blocks, num_buckets)
    bounds = find_bounds(
        cleaned, job.cleaned, split=options.split, by=options.split_by, timezone=spec.timezone, run=run
    )
    buckets = [bucket.index for bucket in cleaned]
    found = count_log(job, bounds, texts, buckets)
    min_users = options.min_users or default_min_users(int(found.users[0]))
    numbered = number_values(texts, found, min_users)
    vocabularies, ids, split_counts = keep_behaviors(job, bounds, texts, buckets, min_users, numbered)
    layout = Layout(seed=options.seed, num_windows=dict(zip(SPLITS, found.windows.tolist(), strict=True)))
    for _ in run(partial(cut_bucket, job.work, job.cleaned, bounds, ids, layout), buckets, "cut windows"):
        pass
    shards = list(run(gather_shard, gather_tasks(job.work, staging, layout, table_sizes(vocabularies)), "write shards"))
    return finish_dataset(
        staging,
        layout,
        shards,
        vocabularies,
        name=name,
        source=_source(job, cleaned, key, min_users),
        counts={**counts, **clean_counts, **split_counts},
        num_users=dict(zip(SPLITS, found.users.tolist(), strict=True)),
        cutoffs=bounds.cutoffs(),
    )


def _source(job: Job, cleaned: list[Cleaned], key: bytes, min_users: int) -> dict[str, Any]:
    options = job.options
    return {
        "kind": "log",
        **describe(job.spec),
        "split": list(options.split),
        "split_by": options.split_by,
        "min_users": min_users,
        "hold_out_behaviors": list(options.hold_out_behaviors),
        "max_dropped": options.max_dropped,
        "seed": options.seed,
        "key_id": key_id(key),
        "first_event": iso(min(bucket.first for bucket in cleaned)),
        "last_event": iso(max(bucket.last for bucket in cleaned)),
    }
