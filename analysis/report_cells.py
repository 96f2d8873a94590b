"""The cells of a report: those with a loss beside the law, and every other with the reason why it has none."""

from collections import Counter

from analysis.census import CellState
from analysis.law import Law
from analysis.report_facts import Grid, Section, count, number, own_rows, plain
from analysis.study import Study
from analysis.table import Table
from analysis.text import figures, human


def lost_section(study: Study, table: Table) -> Section | None:
    """Return every cell without a loss: failed, diverged, running, not begun."""
    lost = [cell for cell in study.of(table.variant) if not cell.completed]
    if not lost:
        return None
    rows = tuple(
        (
            cell.cell_id,
            cell.status,
            human(cell.num_params),
            human(cell.num_events),
            plain(cell.seed),
            _reached(cell),
            "-" if cell.moved_at is None else f"{cell.moved_at:%Y-%m-%d %H:%M:%S}",
            cell.reason,
        )
        for cell in lost
    )
    counts = Counter(cell.status for cell in lost)
    text = (
        ", ".join(f"{number} {status}" for status, number in counts.most_common())
        + ". Running: its trunk has begun and it has no result yet; where nothing trains any more, a rerun of the"
        " study goes on there. None of these reaches the fit.",
    )
    columns = ("cell", "status", "N", "D", "seed", "trained", "last moved, UTC", "reason")
    return Section(title="Cells without a loss", text=text, grids=(Grid(columns=columns, rows=rows),))


def _reached(cell: CellState) -> str:
    return "-" if cell.reached is None else f"{cell.reached / cell.num_events:.0%} of D"


def cells_section(law: Law, table: Table) -> Section | None:
    """Return the cells of the fit, or the rows that anyone's table lost."""
    if not table.is_study:
        grid = Grid(columns=("row", "reason"), rows=tuple((cell, why) for cell, why in table.dropped))
        return Section(title="Rows left out", grids=(grid,)) if table.dropped else None
    fitted: dict[str, float] = {}
    if law.fits and not law.refused:
        fitted = dict(zip(table.cell_id, law.fit.predict(table.points).tolist(), strict=True))
    left_out = dict(table.dropped)
    completed = [row for row in own_rows(table) if row["status"] == "completed"]
    rows = tuple(
        (
            str(row["cell_id"]),
            count(row["num_params"]),
            count(row["num_events"]),
            plain(row["seed"]),
            number(row["loss"]),
            number(row.get("loss_stderr"), 2),
            figures(fitted.get(str(row["cell_id"]))),
            _miss(row["loss"], fitted.get(str(row["cell_id"]))),
            left_out.get(str(row["cell_id"]), ""),
        )
        for row in sorted(completed, key=lambda row: (row["num_params"] or 0, row["num_events"] or 0, row["seed"] or 0))
    )
    columns = ("cell", "N", "D", "seed", "loss", "standard error", "law", "loss over law", "left out because")
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], tuple(row[:-1] for row in rows)
    others = sorted({str(row["variant"]) for row in table.rows} - {str(table.variant)}) if table.variant else []
    text = (f"{len(rows)} cells have a loss.",)
    if others:
        text += (f"The cells of {', '.join(others)} are not in this law: each variant has a report of its own.",)
    return Section(title="Cells", text=text, grids=(Grid(columns=columns, rows=rows),))


def _miss(loss: float | None, fitted: float | None) -> str:
    return "-" if loss is None or fitted is None else f"{loss / fitted - 1:+.2%}"
