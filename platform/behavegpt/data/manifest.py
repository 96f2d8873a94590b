"""manifest.json of a dataset directory: what is in it, where it came from, and how to tell that it is intact.

Written last by shards.finish_dataset, so a directory without one is not a dataset. Read by every later stage.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from behavegpt.errors import InputError
from behavegpt.schema import FEATURES, SCHEMA_VERSION, SPLITS, VOCABULARIES

MANIFEST_NAME = "manifest.json"
MAX_BYTES = 256 << 20
"""Of a manifest: shards of 10^10 windows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One Parquet file of windows."""

    path: str
    """Relative to the dataset directory, with forward slashes."""
    num_windows: int
    num_targets: int
    num_bytes: int
    sha256: str
    crc32: str
    """Of the footer and then of what the stream reads of each row group, 8 hex digits each: see lanes.checksums."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """The shards of train, val or test, in the order of the stream."""

    num_windows: int
    num_targets: int
    num_users: int
    shards: tuple[Shard, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Floor:
    """The generator's own cross-entropy on its validation split: no model can do better on average."""

    entropy_nats: float
    """Mean entropy of the true conditional distribution over the validation targets."""
    sampled_nats: float
    """Mean -log p* of the targets that were drawn; equals entropy_nats up to sampling noise."""
    sampled_stderr: float
    num_targets: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Everything about a dataset but its rows."""

    name: str
    vocabulary_sizes: dict[str, int]
    """Table sizes of weekday, slot, location, event and behavior, ids 0 (padding) and 1 (other) included."""
    splits: dict[str, Split]
    source: dict[str, Any]
    """Where it came from: the input file and column mapping, or the generator's configuration. Holds no user ids."""
    counts: dict[str, int]
    """What was read, kept and dropped, by reason."""
    cutoffs: dict[str, str] = field(default_factory=dict)
    """ISO 8601 UTC instants at which val and test begin."""
    floor: Floor | None = None
    schema_version: int = SCHEMA_VERSION
    fingerprint: str = ""
    """sha256 of the sizes and of every shard's sha256: equal fingerprints mean equal training data."""
    vocabulary_sha256: dict[str, str] = field(default_factory=dict)
    """sha256 of each vocabulary file, by column."""
    replaces: tuple[str, ...] = ()
    """Fingerprints that it had before users were forgotten, oldest first; what that wrote lies in r1/, r2/, ..."""

    def vocabulary_path(self, column: str) -> str:
        """Return where the vocabulary of a column is, relative to the dataset directory."""
        folder = f"r{len(self.replaces)}/vocab" if self.replaces else "vocab"
        return f"{folder}/{column}.parquet"

    def next_folder(self) -> str:
        """Return the folder in which the next forgetting prepares files; until then it is no part of the dataset."""
        return f"r{len(self.replaces) + 1}"

    def with_fingerprint(self) -> "Manifest":
        """Return the manifest with its fingerprint filled in."""
        content = {
            "schema_version": self.schema_version,
            "vocabulary_sizes": self.vocabulary_sizes,
            "shards": {name: [s.sha256 for s in split.shards] for name, split in self.splits.items()},
        }
        return replace(self, fingerprint=_checksum(content))

    def to_json(self) -> str:
        """Return the manifest as indented JSON, with a checksum of all of it."""
        content = asdict(self)
        return json.dumps({**content, "checksum": _checksum(content)}, indent=2, ensure_ascii=False) + "\n"


def read_manifest(directory: Path) -> Manifest:
    """Return the manifest of the dataset in `directory`.

    Raises:
        InputError: There is no dataset there, or its manifest is torn, edited or of another schema version.
    """
    path = directory / MANIFEST_NAME
    if not path.is_file():
        raise InputError(f"{directory}: not a dataset ({MANIFEST_NAME} is missing); make one with jobs/ingest.py")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: has {path.stat().st_size:,} bytes; no manifest has more than {MAX_BYTES:,}")
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema_version"] != SCHEMA_VERSION:
            raise InputError(f"{path}: schema_version is {raw['schema_version']}, this code reads {SCHEMA_VERSION}")
        checksum = raw.pop("checksum")
        manifest = _from_json(raw)
        problem = next(_contradictions(manifest), None)
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a readable manifest ({type(error).__name__}: {error}); ingest again") from error
    if problem:
        raise InputError(f"{path}: {problem}; ingest again")
    if manifest.with_fingerprint().fingerprint != manifest.fingerprint:
        raise InputError(f"{path}: the fingerprint does not match the manifest's own shard list; ingest again")
    if _checksum(raw) != checksum:
        raise InputError(f"{path}: edited or torn, its content does not match its checksum; ingest again")
    return manifest


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _from_json(raw: dict[str, Any]) -> Manifest:
    splits = {
        name: Split(**{**raw["splits"][name], "shards": tuple(Shard(**s) for s in raw["splits"][name]["shards"])})
        for name in SPLITS
    }
    floor = Floor(**raw["floor"]) if raw["floor"] else None
    return Manifest(**{**raw, "splits": splits, "floor": floor, "replaces": tuple(raw["replaces"])})


def _contradictions(manifest: Manifest) -> Iterator[str]:
    """Yield what no dataset's manifest says: its checksum is no proof, whoever edits it can compute that again."""
    paths = [shard.path for split in manifest.splits.values() for shard in split.shards]
    if len(set(paths)) < len(paths):
        yield "it names a shard twice"
    for name, split in manifest.splits.items():
        for shard in split.shards:
            if not re.fullmatch(rf"(r[0-9]+/)?{name}/part-[0-9]+\.parquet", shard.path):
                yield f"{shard.path!r} is no path of a shard of {name}"
            if not all(map(_is_count, (shard.num_windows, shard.num_targets, shard.num_bytes))):
                yield f"a number of {shard.path} is not a whole number from 0"
            if not _is_hex(shard.sha256, 64) or not _is_hex(shard.crc32, None):
                yield f"a checksum of {shard.path} is none"
        if not _is_count(split.num_users):
            yield f"the number of users of {name} is not a whole number from 0"
        for what in ("num_windows", "num_targets"):
            if getattr(split, what) != sum(getattr(shard, what) for shard in split.shards):
                yield f"{what} of {name} is not the sum over its shards"
    if set(manifest.vocabulary_sizes) != {*FEATURES, *VOCABULARIES}:
        yield f"vocabulary_sizes names {sorted(manifest.vocabulary_sizes)}"
    if not all(_is_count(size) and size < 1 << 32 for size in manifest.vocabulary_sizes.values()):
        yield "a vocabulary size is not a whole number from 0 to 2^32"
    hashes = manifest.vocabulary_sha256
    if not set(hashes) <= set(VOCABULARIES) or not all(_is_hex(h, 64) for h in (*hashes.values(), *manifest.replaces)):
        yield "the checksums of its vocabularies, or the fingerprints that it replaces, are none"
    if not all(map(_is_count, manifest.counts.values())):
        yield "a count is not a whole number from 0"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _is_hex(value: Any, length: int | None) -> bool:
    return isinstance(value, str) and bool(re.fullmatch("[0-9a-f]*", value)) and length in (None, len(value))
