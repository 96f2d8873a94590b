"""Write windows as a dataset directory, and check that a directory is still what was written.

In: `Windows` of each split and the vocabularies. Out: {train,val,test}/part-*.parquet, vocab/*.parquet, manifest.json.
Every split is a seeded global shuffle of its windows: any prefix of the stream is an unbiased, nested subset.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from behavegpt.data.manifest import MANIFEST_NAME, Floor, Manifest, Shard, Split, read_manifest
from behavegpt.data.vocab import Vocabulary, write_vocabulary
from behavegpt.data.windows import Windows
from behavegpt.errors import InputError
from behavegpt.files import fsync, sha256_of
from behavegpt.schema import FEATURES, NUM_SLOTS, NUM_WEEKDAYS, SPLITS, WINDOW_LENGTH, window_schema

WINDOWS_PER_SHARD = 16_384
WINDOWS_PER_ROW_GROUP = 512
"""The stream reads whole row groups: about 0.7 MB of columns each."""


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
) -> Manifest:
    """Write a dataset directory in one piece: it appears at `out` complete, or not at all.

    Args:
        splits: Windows of train, val and test, in any deterministic order; they are shuffled here with `seed`.
        vocabularies: Of location, event and behavior.

    Raises:
        InputError: `out` exists already.
    """
    problems = find_out_problems(out)
    if problems:
        raise InputError(*problems)
    new_parents = [p for p in out.absolute().parents if not p.exists()]
    staging = out.parent / f".{out.name}.partial-{os.getpid()}"
    try:
        shutil.rmtree(staging, ignore_errors=True)
        (staging / "vocab").mkdir(parents=True)
        sizes = {"weekday": NUM_WEEKDAYS, "slot": NUM_SLOTS, **{k: v.size for k, v in vocabularies.items()}}
        schema = window_schema(sizes)
        manifest = Manifest(
            name=name,
            vocabulary_sizes=sizes,
            splits={s: _write_split(staging, s, splits[s], schema, seed) for s in SPLITS},
            source=source,
            counts=counts,
            cutoffs=cutoffs or {},
            floor=floor,
            vocabulary_sha256={c: _write_vocabulary(staging, c, v) for c, v in vocabularies.items()},
        ).with_fingerprint()
        (staging / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
        for path in [*staging.rglob("*"), staging]:
            fsync(path)
        staging.rename(out)
        for path in [out.parent, *(p.parent for p in new_parents)]:
            fsync(path)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        for parent in new_parents:
            _remove_if_empty(parent)
        raise
    return manifest


def find_out_problems(out: Path) -> list[str]:
    """Return why no dataset can be written at `out`; an empty list when one can."""
    if out.exists() or out.is_symlink():
        return [f"--out {out}: exists already; choose another --out or remove it first"]
    nearest = next(p for p in out.absolute().parents if p.exists())
    if not nearest.is_dir():
        return [f"--out {out}: {nearest} is a file; choose another --out"]
    if not os.access(nearest, os.W_OK | os.X_OK):
        return [f"--out {out}: {nearest} is not writable; choose another --out"]
    return []


def verify_dataset(directory: Path) -> Manifest:
    """Return the manifest after comparing every shard and vocabulary with it.

    Raises:
        InputError: Names every file that is missing, truncated or altered.
    """
    manifest = read_manifest(directory)
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    expected = [(f"vocab/{column}.parquet", None, sha256) for column, sha256 in manifest.vocabulary_sha256.items()]
    expected += [(shard.path, shard.num_bytes, shard.sha256) for shard in shards]
    problems = [p for path, size, sha256 in expected if (p := _problem(directory / path, size, sha256))]
    if problems:
        raise InputError(*problems)
    return manifest


def _problem(path: Path, expected_size: int | None, sha256: str) -> str | None:
    if not path.is_file():
        return f"{path}: missing; ingest again or restore the file"
    size = path.stat().st_size
    if expected_size is not None and size != expected_size:
        return f"{path}: has {size} bytes, its manifest says {expected_size}; ingest again or restore it"
    if sha256_of(path) != sha256:
        return f"{path}: the content does not match its sha256 in the manifest; ingest again or restore it"
    return None


def _write_vocabulary(root: Path, column: str, vocabulary: Vocabulary) -> str:
    path = root / "vocab" / f"{column}.parquet"
    write_vocabulary(path, vocabulary)
    return sha256_of(path)


def _write_split(root: Path, split: str, windows: Windows, schema: pa.Schema, seed: int) -> Split:
    (root / split).mkdir()
    order = np.random.default_rng([seed, SPLITS.index(split)]).permutation(len(windows))
    shards = []
    for index, start in enumerate(range(0, len(windows), WINDOWS_PER_SHARD)):
        table = to_table(windows.take(order[start : start + WINDOWS_PER_SHARD]), schema)
        path = root / split / f"part-{index:05d}.parquet"
        pq.write_table(table, path, row_group_size=WINDOWS_PER_ROW_GROUP, compression="zstd", write_page_checksum=True)
        shards.append(
            Shard(
                path=f"{split}/{path.name}",
                num_windows=table.num_rows,
                num_targets=int(np.asarray(table["num_targets"]).sum()),
                num_bytes=path.stat().st_size,
                sha256=sha256_of(path),
            )
        )
    return Split(
        num_windows=len(windows),
        num_targets=sum(s.num_targets for s in shards),
        num_users=len(np.unique(windows.user)),
        shards=tuple(shards),
    )


def to_table(windows: Windows, schema: pa.Schema) -> pa.Table:
    """Return the windows as an Arrow table of `schema`, with num_targets counted."""
    columns = []
    for field in schema:
        values = windows.num_targets() if field.name == "num_targets" else getattr(windows, field.name)
        if pa.types.is_fixed_size_list(field.type):
            flat = pa.array(np.ascontiguousarray(values).reshape(-1), field.type.value_type)
            columns.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type))
        else:
            columns.append(pa.array(values, field.type))
    return pa.table(columns, schema=schema)


def from_table(table: pa.Table) -> Windows:
    """Return the Windows of an Arrow table of `window_schema`."""
    arrays = {}
    for name in (*FEATURES, "behavior", "timestamp"):
        column = table[name].combine_chunks()
        flat = column.flatten().to_numpy(zero_copy_only=False)
        arrays[name] = flat.reshape(table.num_rows, WINDOW_LENGTH)
    scalars = {n: table[n].to_numpy() for n in ("length", "first_target", "user", "window_id")}
    return Windows(**arrays, **scalars)


def _remove_if_empty(directory: Path) -> None:
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()
