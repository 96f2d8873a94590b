"""One ingest: what was asked for, where its scratch lies, and how finely it must be divided."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from behavegpt.data.ingest.executor import Executor
from behavegpt.data.ingest.options import IngestOptions
from behavegpt.data.sources.plan import Piece
from behavegpt.data.sources.spec import LogSpec

BYTES_PER_ROW_OF_TEXT = 24
"""Few for a row of a log, so that buckets come out smaller rather than larger than planned."""
BYTES_PER_ROW_IN_MEMORY = 256
"""Of a bucket while it is cleaned or cut."""
MAX_BUCKET_BITS = 14


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One ingest, as every pass needs it."""

    spec: LogSpec
    options: IngestOptions
    run: Executor
    work: Path
    """Scratch."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of VOCABULARIES that the log has by itself; a behaviour that is the event is not one."""
        columns = self.spec.columns
        behavior = self.spec.behavior_table is not None or columns.behavior not in (None, columns.event)
        location = columns.location is not None or columns.latitude is not None
        return ("event", *(["behavior"] if behavior else []), *(["location"] if location else []))

    @property
    def scattered(self) -> Path:
        """Directory of the blocks."""
        return self.work / "scattered"

    @property
    def cleaned(self) -> Path:
        """Directory of the clean buckets."""
        return self.work / "cleaned"


def bucket_bits(pieces: Sequence[Piece], options: IngestOptions) -> int:
    """Return how many leading bits of a pseudonym name its bucket, so that the buckets at work fit the memory."""
    known = (piece.num_rows for piece in pieces)
    guessed = (piece.num_bytes / BYTES_PER_ROW_OF_TEXT for piece in pieces)
    rows = sum(guess if rows is None else rows for rows, guess in zip(known, guessed, strict=True))
    # Half of the memory is for the blocks, and for what Arrow holds on to.
    rows_per_bucket = options.memory_gb * 2**30 / 2 / options.num_workers / BYTES_PER_ROW_IN_MEMORY
    return min(max(math.ceil(math.log2(max(rows, 1) / rows_per_bucket)), 0), MAX_BUCKET_BITS)
