"""manifest.json of a dataset directory: what is in it, where it came from, and how to tell that it is intact.

Written last by shards.write_dataset, so a directory without one is not a dataset. Read by every later stage.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from behavegpt.errors import InputError
from behavegpt.schema import SCHEMA_VERSION, SPLITS

MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One Parquet file of windows."""

    path: str
    """Relative to the dataset directory, with forward slashes."""
    num_windows: int
    num_targets: int
    num_bytes: int
    sha256: str


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
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema_version"] != SCHEMA_VERSION:
            raise InputError(f"{path}: schema_version is {raw['schema_version']}, this code reads {SCHEMA_VERSION}")
        checksum = raw.pop("checksum")
        manifest = _from_json(raw)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a readable manifest ({type(error).__name__}: {error}); ingest again") from error
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
    return Manifest(**{**raw, "splits": splits, "floor": floor})
