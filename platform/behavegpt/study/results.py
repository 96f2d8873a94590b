"""results.parquet: one row a cell, failed cells included, rebuilt from the journal's files alone."""

import io
from collections import defaultdict
from pathlib import Path
from statistics import variance
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from behavegpt.files import replace_file
from behavegpt.schema import RESULT_SCHEMA
from behavegpt.study.journal import read_cells


def write_results(study_dir: Path) -> pa.Table:
    """Write <study_dir>/results.parquet in one piece and return it, by (num_params, num_events, seed)."""
    rows = read_cells(study_dir)
    noise = seed_noise(rows)
    rows = [row | {"loss_seed_sd": noise.get((row["variant"], row["num_events"]))} for row in rows]
    table = pa.Table.from_pylist(rows, schema=RESULT_SCHEMA)
    order = [(name, "ascending") for name in ("variant", "num_params", "num_events", "seed", "cell_id")]
    table = table.sort_by(order)
    parquet = io.BytesIO()
    pq.write_table(table, parquet)
    replace_file(study_dir / "results.parquet", parquet.getvalue())
    return table


def seed_noise(rows: list[dict[str, Any]]) -> dict[tuple[str, int], float]:
    """Return the standard deviation of the loss between seeds, by (variant, num_events).

    Variances of the sizes that completed with several seeds are pooled by their degrees of freedom: one size has too
    few seeds to tell, and the noise falls with D more than with N. Where no size has two seeds there is no entry.
    """
    losses: dict[tuple[str, int], dict[tuple[int, int], list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["status"] == "completed" and row.get("loss") is not None:
            size = row["num_params"], row["depth"]
            losses[row["variant"], row["num_events"]][size].append(row["loss"])
    noise = {}
    for key, sizes in losses.items():
        repeated = [values for values in sizes.values() if len(values) > 1]
        if repeated:
            squares = sum(variance(values) * (len(values) - 1) for values in repeated)
            noise[key] = (squares / sum(len(values) - 1 for values in repeated)) ** 0.5
    return noise
