"""Check that a dataset directory is still what was written: every byte of it, and nothing else in it.

In: a dataset directory. Out: its manifest, or every file that is missing, truncated, altered or foreign, by name.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from behavegpt.data.manifest import Manifest, read_manifest
from behavegpt.errors import InputError
from behavegpt.files import sha256_of


def verify_dataset(directory: Path) -> Manifest:
    """Return the manifest after comparing every shard and vocabulary with it.

    Raises:
        InputError: Names every file that is missing, truncated, altered or unknown to the manifest.
    """
    manifest = read_manifest(directory)
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    expected = [(manifest.vocabulary_path(column), None, sha) for column, sha in manifest.vocabulary_sha256.items()]
    expected += [(shard.path, shard.num_bytes, shard.sha256) for shard in shards]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda e: _problem(directory / e[0], e[1], e[2]), expected))
    problems = [problem for problem in found if problem]
    problems += _foreign(directory, manifest, {name for name, _, _ in expected})
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


def _foreign(directory: Path, manifest: Manifest, known: set[str]) -> list[str]:
    """Return a sentence per file that the manifest does not know.

    Beside the manifest, where cards lie, only Parquet files count; what a run of forget is preparing does not.
    """
    prepared = directory / manifest.next_folder()
    files = sorted(p for p in directory.rglob("*") if p.is_symlink() or not p.is_dir())
    suspects = [p for p in files if (p.parent != directory or p.suffix == ".parquet") and prepared not in p.parents]
    unknown = [p for p in suspects if p.relative_to(directory).as_posix() not in known]
    return [f"{path}: not in the dataset's manifest; remove it" for path in unknown]
