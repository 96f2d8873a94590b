"""analysis: what a table of losses says about scale. A table in, a law and a report out; neither torch nor ray.

columns    a CSV or a Parquet file -> numbers; table: a table of losses -> arrays, and what was dropped
forms      what a law may look like: value, gradient, change of units, where a fit starts
refit      many descents at once; huber, fit: both methods -> one record; soundness: never a silent failure
bootstrap  draws of a law; ladder: laws of cheap cells, scored on dear ones, and which form wins
calibration  draws and ladder -> intervals with measured coverage
budget     FLOPs, GPU-hours, money; frontier: law and budget -> optimal N, D; isoflop: the same without a law
refusals   when cells give no law; doubts: when a law may mislead
study      a study's directory, while it runs too -> its cells, curves and checks; census: where each cell stands
design     what one more cell would tell; suggest: the cells to train next; replay: what they would have cost
law        all of it in order; law_json: fit.json; report, figures: a law -> report.html, report.md
"""

from analysis.budget import Budget, Flops, GpuHours, Money, Spending
from analysis.census import CellState
from analysis.figures import draw, to_svg
from analysis.forms import FormName
from analysis.law import FormChoice, Law, fit_law
from analysis.law_json import law_to_json
from analysis.refit import Method
from analysis.report import check_out, report_study, write_report
from analysis.report_text import summarize
from analysis.study import Study, read_study
from analysis.suggest import Candidate, Choice, first_cells, suggest, suggestion_lines, target_width
from analysis.table import Table, read_table

__all__ = [
    "Budget",
    "Candidate",
    "CellState",
    "Choice",
    "Flops",
    "FormChoice",
    "FormName",
    "GpuHours",
    "Law",
    "Method",
    "Money",
    "Spending",
    "Study",
    "Table",
    "check_out",
    "draw",
    "first_cells",
    "fit_law",
    "law_to_json",
    "read_study",
    "read_table",
    "report_study",
    "suggest",
    "suggestion_lines",
    "summarize",
    "target_width",
    "to_svg",
    "write_report",
]
