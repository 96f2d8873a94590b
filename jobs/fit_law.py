"""Fit a scaling law to a table of losses, anyone's or a study's, and write a report that opens offline.

    python jobs/fit_law.py --table runs/demo/results.parquet --out runs/demo/report
    python jobs/fit_law.py --table losses.csv --params-column N --events-column D --loss-column loss --out report

Exit codes: 0 done; 2 the input is wrong and nothing was written; 4 the law is refused, and the report says why.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from analysis import FormChoice, Method, Spending, check_out, fit_law, read_table, summarize, write_report
from behavegpt.errors import InputError, RefusedError, exit_codes


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Fit L(N, D) to a table of losses."""

    table: Path
    """A .csv, .csv.gz or .parquet file; a study's results.parquet needs no column flags."""
    out: Path
    """Directory of the report: report.html, report.md, fit.json and the figures."""
    params_column: str | None = None
    """Column of N, the number of parameters."""
    events_column: str | None = None
    """Column of D, the number of training events."""
    loss_column: str | None = None
    """Column of the loss."""
    unique_column: str | None = None
    """Column of the distinct events among D, where events were repeated."""
    other_params_column: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Repeatable: column that counts N otherwise, such as without embeddings; the report answers under each."""
    variant: str | None = None
    """The variant of a study to fit, when it has several."""
    form: FormChoice = "auto"
    """The law's form; auto takes the one that predicts dearer cells best. params, events, compute: one axis alone."""
    method: Method = "curve_fit"
    """Whose law is the headline: the paper's curve_fit, or the robust huber. The report shows both."""
    flops_per_param_event: float | None = None
    """FLOPs for each parameter and event; by default what the table's own counts give, else 6."""
    bootstrap: int = 1000
    """Bootstrap draws for the intervals; 0 for none."""
    seed: int = 0
    """Seed of the bootstrap."""
    spending: Annotated[Spending, tyro.conf.UseAppendAction, tyro.conf.arg(name="")] = field(default_factory=Spending)
    unique_events: float = math.inf
    """Events that there are to train on, for a law that knows repeats."""
    max_extrapolation: float = 10.0
    """Decisions farther beyond the cells' N, D or compute are warned of."""

    def __post_init__(self) -> None:
        problems = self.spending.problems()
        rate = self.flops_per_param_event
        if rate is not None and not 0 < rate < math.inf:
            problems.append(f"--flops-per-param-event is {rate}; it must be positive.")
        if not self.unique_events > 0:
            problems.append(f"--unique-events is {self.unique_events}; it must be positive.")
        if not self.max_extrapolation >= 1:
            problems.append(f"--max-extrapolation is {self.max_extrapolation}; it must be at least 1.")
        if self.bootstrap != 0 and not 100 <= self.bootstrap <= 100_000:
            problems.append(f"--bootstrap is {self.bootstrap}; it must be 0, or from 100 to 100000.")
        if self.seed < 0:
            problems.append(f"--seed is {self.seed}; it must not be negative.")
        if problems:
            raise InputError(*problems)


def main(args: Args) -> None:
    """Read, fit, write the report, print the summary; raises RefusedError after the report of a refused law."""
    check_out(args.out)
    table = read_table(
        args.table,
        params_column=args.params_column,
        events_column=args.events_column,
        loss_column=args.loss_column,
        unique_column=args.unique_column,
        other_params_columns=args.other_params_column,
        variant=args.variant,
    )
    law = fit_law(
        table,
        method=args.method,
        form=args.form,
        num_draws=args.bootstrap,
        seed=args.seed,
        budgets=args.spending.budgets(),
        flops_per_param_event=args.flops_per_param_event,
        unique_events=args.unique_events,
        max_extrapolation=args.max_extrapolation,
    )
    report = write_report(law, table, args.out)
    print(summarize(law), report, sep="\n")
    if law.refused:
        raise RefusedError(" ".join(law.reasons))


if __name__ == "__main__":
    with exit_codes():
        main(tyro.cli(Args, description=__doc__))
