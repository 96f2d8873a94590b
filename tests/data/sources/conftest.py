"""What the tests of sources share: files as a user has them, and the rows that reading them gives."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from behavegpt.data.sources.blocks import TIME_OK, EventBlock, plan_pieces, read_blocks
from behavegpt.data.sources.spec import Columns, LogSpec


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], str]:
    """Return a function that writes a file, compressed as its name says, and returns its path."""

    def write(name: str, content: str | bytes) -> str:
        data = content.encode() if isinstance(content, str) else content
        if name.lower().endswith(".gz"):
            data = gzip.compress(data)
        if name.lower().endswith(".zst"):
            data = pa.compress(data, "zstd", asbytes=True)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    return write


@pytest.fixture
def spec_of() -> Callable[..., LogSpec]:
    """Return a function that makes the spec of a log with the columns user, time and event."""

    def spec_of(*inputs: str, **changes: Any) -> LogSpec:
        columns = changes.pop("columns", Columns(user="user", timestamp="time", event="event"))
        return LogSpec(inputs=inputs, columns=columns, **changes)

    return spec_of


@pytest.fixture
def blocks_of() -> Callable[..., list[EventBlock]]:
    """Return a function that reads a whole log."""

    def blocks_of(spec: LogSpec, **options: int) -> list[EventBlock]:
        return [block for piece in plan_pieces(spec, **options) for block in read_blocks(piece, spec)]

    return blocks_of


@pytest.fixture
def rows_of(blocks_of: Callable[..., list[EventBlock]]) -> Callable[..., dict[str, list]]:
    """Return a function that reads a whole log into lists, times in seconds or None."""

    def rows_of(spec: LogSpec, **options: int) -> dict[str, list]:
        rows: dict[str, list] = {"file_row": [], "seconds": [], "week_slot": []}
        rows |= {name: [] for name in ("user", "event", "behavior", "location", "status")}
        for block in blocks_of(spec, **options):
            for name in ("user", "event", "behavior", "location"):
                column = getattr(block, name)
                assert column.type == pa.dictionary(pa.int32(), pa.string())
                rows[name] += column.to_pylist()
            ok = block.time_status == TIME_OK
            assert not block.micros[~ok].any() and not block.week_slot[~ok].any()
            assert (block.micros.dtype, block.week_slot.dtype, block.time_status.dtype) == (
                np.int64,
                np.uint16,
                np.uint8,
            )
            rows["seconds"] += [t / 1e6 if good else None for t, good in zip(block.micros, ok, strict=True)]
            rows["week_slot"] += block.week_slot.tolist()
            rows["status"] += block.time_status.tolist()
            rows["file_row"] += [block.row_number(row) for row in range(len(block))]
        return rows

    return rows_of
