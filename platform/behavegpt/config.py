"""Configuration records are frozen dataclasses beside their stage; here is what they have in common.

In: a record. Out: its plain JSON form and a hash of it, which names trunks and cells and guards resumes.
"""

import hashlib
import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """Return the value as JSON values: records become dicts, tuples lists, paths strings."""
    return json.loads(json.dumps(value, sort_keys=True, default=_plain_leaf))


def _plain_leaf(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not a configuration value")


def config_hash(record: Any, length: int = 12) -> str:
    """Return the first `length` hex digits of the sha256 of the record's canonical JSON."""
    canonical = json.dumps(plain(record), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:length]
