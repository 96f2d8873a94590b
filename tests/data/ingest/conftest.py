"""Small logs, one way to ingest them under one key, and a reader that gives back what the shards say, in words."""

import csv
import hmac
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from behavegpt.data.ingest.executor import local_executor
from behavegpt.data.ingest.ingest import ingest
from behavegpt.data.ingest.options import IngestOptions
from behavegpt.data.manifest import Manifest
from behavegpt.data.sources.spec import Columns, LogSpec
from behavegpt.data.vocab import read_vocabulary
from behavegpt.data.windows import from_table, target_mask

KEY = bytes(range(32))
HEADER = ("user", "time", "event", "kind", "place")
COLUMNS = Columns(user="user", timestamp="time", event="event", behavior="kind", location="place")
Row = tuple[object, ...]
Target = tuple[int, int, str, str, str, int, int]
"""Pseudonym, time, event, behaviour, location, weekday and slot."""


@pytest.fixture(scope="session")
def pseudonym() -> Callable[[str], int]:
    """Return the first 8 bytes of a user's HMAC-SHA256, by the standard library's own."""
    return lambda user: int.from_bytes(hmac.digest(KEY, user.encode(), "sha256")[:8], "big")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "user.key"
    path.parent.mkdir()
    path.touch(mode=0o600)
    path.write_text(KEY.hex())
    return path


@pytest.fixture
def write_log(tmp_path: Path) -> Callable[..., Path]:
    """Write rows of (user, time, event, kind, place) as CSV; None is an empty cell."""

    def write(rows: Sequence[Row], name: str = "log.csv") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([HEADER, *rows])
        return path

    return write


@pytest.fixture
def ingest_log(tmp_path: Path, key_file: Path) -> Callable[..., Manifest]:
    """Ingest files as the dataset `name`; keep every value and any share of dropped rows unless told otherwise."""

    def run(
        *paths: Path, name: str = "set", columns: Columns = COLUMNS, timezone: str = "UTC", **options: object
    ) -> Manifest:
        spec = LogSpec(inputs=tuple(map(str, paths)), columns=columns, timezone=timezone)
        chosen = IngestOptions(**{"min_users": 1, "max_dropped": 1.0, "key_file": key_file, **options})  # type: ignore[arg-type]
        return ingest(spec, tmp_path / name, options=chosen, run=local_executor(chosen.num_workers))

    return run


@pytest.fixture
def read_targets(tmp_path: Path) -> Callable[..., list[Target]]:
    """Return the scored targets of a split of the dataset `name`."""

    def read(split: str, name: str = "set") -> list[Target]:
        windows = from_table(pq.read_table(tmp_path / name / split))
        at = np.nonzero(target_mask(windows.behavior, windows.first_target))
        columns = [windows.user[at[0]], windows.timestamp[at]]
        for column in ("event", "behavior", "location"):
            words = ["", "other", *read_vocabulary(tmp_path / name / "vocab" / f"{column}.parquet").values]
            columns.append(np.array(words, object)[getattr(windows, column)[at]])
        columns += [windows.weekday[at], windows.slot[at]]
        return list(zip(*(values.tolist() for values in columns), strict=True))

    return read
