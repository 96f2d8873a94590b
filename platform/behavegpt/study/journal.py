"""The memory of a study: one immutable file per finished cell, one per failed attempt.

    cells/<cell_id>.json              completed or diverged: final, written once by the worker that finished it
    cells/<cell_id>.failed-<k>.json   the k-th failed attempt; a rerun tries the cell again

Tune's own state is not used: it loses trials, shows crashed ones as data and cannot extend a grid.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from behavegpt.errors import InputError
from behavegpt.files import create_file
from behavegpt.schema import RESULT_SCHEMA


def read_cells(study_dir: Path) -> list[dict[str, Any]]:
    """Return one row per cell: the final one, or else its latest failed attempt.

    Raises:
        InputError: A cell file is not readable; files are written whole, so somebody edited it.
    """
    final: dict[str, dict[str, Any]] = {}
    failed: dict[str, dict[str, Any]] = {}
    for path in sorted((study_dir / "cells").glob("*.json"), key=lambda p: (len(p.name), p.name)):
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            pa.Table.from_pylist([row], schema=RESULT_SCHEMA)
            (failed if ".failed-" in path.name else final)[row["cell_id"]] = row
        except (OSError, ValueError, KeyError, TypeError, RecursionError, pa.ArrowException) as error:
            raise InputError(f"{path}: not a cell file ({error}); delete it to train the cell again") from error
    return list((failed | final).values())


def record_failure(study_dir: Path, row: dict[str, Any]) -> None:
    """Write a failed attempt of a cell beside the attempts before it."""
    attempt = 1
    while not create_file(study_dir / "cells" / f"{row['cell_id']}.failed-{attempt}.json", json.dumps(row, indent=1)):
        attempt += 1
