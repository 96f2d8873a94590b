"""results.parquet: one row a cell, failed cells included, rebuilt from the journal's files alone."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from behavegpt.schema import RESULT_SCHEMA
from behavegpt.study.journal import read_cells


def write_results(study_dir: Path) -> pa.Table:
    """Write <study_dir>/results.parquet in one piece and return it, by (num_params, num_events, seed)."""
    table = pa.Table.from_pylist(read_cells(study_dir), schema=RESULT_SCHEMA)
    order = [("num_params", "ascending"), ("num_events", "ascending"), ("seed", "ascending"), ("cell_id", "ascending")]
    table = table.sort_by(order)
    temporary = study_dir / f".results.parquet.{os.getpid()}"
    pq.write_table(table, temporary)
    os.replace(temporary, study_dir / "results.parquet")
    return table
