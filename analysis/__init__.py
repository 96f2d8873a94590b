"""analysis: what a table of losses says about scale. A table in, a law and a report out; neither torch nor ray.

table      a CSV, a Parquet file or a study's results -> arrays, and what was dropped
forms      the separable law: value, gradient, change of units
start      where a fit starts: variable projection over the two exponents
huber      the robust objective; fit: both methods -> one record, never a silent failure
refit      many sets of losses at once; bootstrap: draws -> intervals
frontier   law and budget -> optimal N, D; ladder: laws of cheap cells, scored on dear ones
refusals   when a law would mislead
law        all of it in order; report, plots: a law -> report.html, report.md, fit.json
"""

from analysis.law import Law, fit_law, law_to_json
from analysis.report import check_out, report_study, write_report
from analysis.report_text import summarize
from analysis.table import Table, read_table

__all__ = [
    "Law",
    "Table",
    "check_out",
    "fit_law",
    "law_to_json",
    "read_table",
    "report_study",
    "summarize",
    "write_report",
]
