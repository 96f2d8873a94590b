"""Write shuffled windows as the shards of a dataset directory: {train,val,test}/part-*.parquet, vocab/, manifest.json.

In: what spill.py holds, and the vocabularies. Out: a dataset directory. Every split is a global shuffle of its windows
by a seeded key: any prefix of the stream is an unbiased, nested subset.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from behavegpt.data.lanes import checksums, lane_rows, stored_order
from behavegpt.data.manifest import MANIFEST_NAME, Floor, Manifest, Shard, Split
from behavegpt.data.spill import Layout, read_spill, spill_windows
from behavegpt.data.staging import WORK, staged_dataset
from behavegpt.data.vocab import Vocabulary, write_vocabulary
from behavegpt.data.windows import Windows, to_table
from behavegpt.files import sha256_of
from behavegpt.schema import (
    FEATURES,
    NUM_SLOTS,
    NUM_WEEKDAYS,
    SHARD_SHIFT,
    SPLIT_SHIFT,
    SPLITS,
    WINDOWS_PER_ROW_GROUP,
    WINDOWS_PER_SHARD,
    window_schema,
)

ENCODING: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    # Small integers take four bytes each in plain Parquet; in a dictionary's codes only the bits that they need.
    "use_dictionary": [f"{column}.list.element" for column in (*FEATURES, "behavior")],
    "column_encoding": {"timestamp.list.element": "BYTE_STREAM_SPLIT"},
    "write_statistics": False,
    "write_page_checksum": True,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class GatherTask:
    """One shard to be made; picklable, for any process that sees the folders."""

    work: Path
    staging: Path
    split: str
    index: int
    layout: Layout
    sizes: Mapping[str, int]
    """As `table_sizes` gives them; a schema itself loses which list items may not be null when it is pickled."""
    id_maps: Mapping[str, np.ndarray] | None
    """Per column the id of each value from 0, where the windows hold values; None where they hold ids."""


def table_sizes(vocabularies: Mapping[str, Vocabulary]) -> dict[str, int]:
    """Return the table size of every feature and of behavior, as `window_schema` takes them."""
    return {"weekday": NUM_WEEKDAYS, "slot": NUM_SLOTS, **{c: v.size for c, v in vocabularies.items()}}


def gather_tasks(
    work: Path,
    staging: Path,
    layout: Layout,
    sizes: Mapping[str, int],
    *,
    id_maps: Mapping[str, np.ndarray] | None = None,
) -> list[GatherTask]:
    """Return one task per shard of every split, after making the splits' folders.

    Args:
        work: The folder that the windows were spilled to.
        staging: What `staged_dataset` gave.
        sizes: `table_sizes(vocabularies)`.
    """
    for split in SPLITS:
        (staging / split).mkdir(exist_ok=True)
    return [
        GatherTask(work=work, staging=staging, split=split, index=index, layout=layout, sizes=sizes, id_maps=id_maps)
        for split in SPLITS
        for index in range(layout.num_shards(split))
    ]


def gather_shard(task: GatherTask) -> Shard:
    """Write the shard of one task from what every part spilled for it."""
    windows = read_spill(task.work, task.split, task.index)
    if task.id_maps:
        windows = replace(windows, **{name: ids[getattr(windows, name)] for name, ids in task.id_maps.items()})
    return write_shard(task.staging, task.split, task.index, windows, window_schema(task.sizes))


def write_shard(directory: Path, split: str, index: int, windows: Windows, schema: pa.Schema) -> Shard:
    """Write one shard of a split.

    Args:
        windows: In the order of the stream; the shard's index and their rows there are their window_ids.
    """
    first_id = (SPLITS.index(split) << SPLIT_SHIFT) + (index << SHARD_SHIFT)
    window_id = np.arange(first_id, first_id + len(windows), dtype=np.uint64)
    order = stored_order(len(windows))
    table = to_table(windows.take(order), window_id[order], schema)
    path = directory / split / f"part-{index:05d}.parquet"
    with pq.ParquetWriter(path, schema, **ENCODING) as writer:
        start = 0
        for rows in lane_rows(len(windows)):
            writer.write_table(table.slice(start, len(rows)), row_group_size=WINDOWS_PER_ROW_GROUP)
            start += len(rows)
    return Shard(
        path=f"{split}/{path.name}",
        num_windows=table.num_rows,
        num_targets=int(np.asarray(table["num_targets"]).sum()),
        num_bytes=path.stat().st_size,
        sha256=sha256_of(path),
        crc32=checksums(path),
    )


def finish_dataset(
    staging: Path,
    layout: Layout,
    shards: Sequence[Shard],
    vocabularies: Mapping[str, Vocabulary],
    *,
    name: str,
    source: dict[str, Any],
    counts: dict[str, int],
    num_users: Mapping[str, int],
    cutoffs: dict[str, str] | None = None,
    floor: Floor | None = None,
) -> Manifest:
    """Write the vocabularies and the manifest beside the shards.

    Args:
        shards: Every shard that `gather_shard` returned, in any order.
        num_users: Users with windows in each split.

    Raises:
        RuntimeError: The shards do not hold the windows that the layout promised.
    """
    ordered = sorted(shards, key=lambda shard: shard.path)
    of_split = {split: [s for s in ordered if s.path.startswith(f"{split}/")] for split in SPLITS}
    for split, found in of_split.items():
        expected, got = layout.num_windows.get(split, 0), sum(s.num_windows for s in found)
        if got != expected or len(found) != layout.num_shards(split):
            raise RuntimeError(f"{split} has {got} windows in {len(found)} shards; {expected} were to be cut")
    (staging / "vocab").mkdir()
    manifest = Manifest(
        name=name,
        vocabulary_sizes=table_sizes(vocabularies),
        splits={
            split: Split(
                num_windows=sum(s.num_windows for s in found),
                num_targets=sum(s.num_targets for s in found),
                num_users=num_users.get(split, 0),
                shards=tuple(found),
            )
            for split, found in of_split.items()
        },
        source=source,
        counts=counts,
        cutoffs=cutoffs or {},
        floor=floor,
        vocabulary_sha256={c: _write_vocabulary(staging, c, v) for c, v in vocabularies.items()},
    ).with_fingerprint()
    (staging / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _write_vocabulary(root: Path, column: str, vocabulary: Vocabulary) -> str:
    path = root / "vocab" / f"{column}.parquet"
    write_vocabulary(path, vocabulary)
    return sha256_of(path)


def write_dataset(
    out: Path,
    splits: Mapping[str, Windows],
    vocabularies: Mapping[str, Vocabulary],
    *,
    name: str,
    source: dict[str, Any],
    counts: dict[str, int],
    cutoffs: dict[str, str] | None = None,
    floor: Floor | None = None,
    seed: int,
    windows_per_shard: int = WINDOWS_PER_SHARD,
) -> Manifest:
    """Write windows that fit in memory as a dataset directory; it appears at `out` complete, or not at all.

    Args:
        splits: Windows of train, val and test, in any order.
        vocabularies: Of location, event and behavior.

    Raises:
        InputError: `out` exists already.
        DirectoryBusyError: Another live process writes it.
    """
    num_windows = {split: len(windows) for split, windows in splits.items()}
    layout = Layout(seed=seed, num_windows=num_windows, windows_per_shard=windows_per_shard)
    sizes = table_sizes(vocabularies)
    with staged_dataset(out) as staging:
        for split, windows in splits.items():
            spill_windows(staging / WORK, "0", split, windows, layout)
        shards = [gather_shard(task) for task in gather_tasks(staging / WORK, staging, layout, sizes)]
        return finish_dataset(
            staging,
            layout,
            shards,
            vocabularies,
            name=name,
            source=source,
            counts=counts,
            num_users={split: len(np.unique(windows.user)) for split, windows in splits.items()},
            cutoffs=cutoffs,
            floor=floor,
        )
