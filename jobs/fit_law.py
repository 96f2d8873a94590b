"""Fit a scaling law to a table of losses, anyone's or a study's, and write a report that opens offline.

    python jobs/fit_law.py --table runs/demo/results.parquet --out runs/demo/report
    python jobs/fit_law.py --table losses.csv --params-column N --events-column D --loss-column loss --out report

Exit codes: 0 done; 2 the input is wrong and nothing was written; 4 the law is refused, and the report says why.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from analysis import check_out, fit_law, read_table, summarize, write_report
from analysis.fit import Method
from behavegpt.errors import InputError, RefusedError, exit_codes


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Fit L(N, D) = C_N N^-alpha + C_D D^-beta + L0 to a table of losses."""

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
    variant: str | None = None
    """The variant of a study to fit, when it has several."""
    method: Method = "curve_fit"
    """Whose law is the headline: the paper's curve_fit, or the robust huber. The report shows both."""
    flops_per_param_event: float | None = None
    """FLOPs for each parameter and event; by default what the table's own counts give, else 6."""
    bootstrap: int = 1000
    """Bootstrap draws for the intervals; 0 for none."""
    seed: int = 0
    """Seed of the bootstrap."""
    budget: Annotated[tuple[float, ...], tyro.conf.UseAppendAction] = ()
    """Repeatable: FLOPs to find the best N and D for, such as 1e18; by default four around the table's own compute."""

    def __post_init__(self) -> None:
        problems = []
        if self.flops_per_param_event is not None and not 0 < self.flops_per_param_event < float("inf"):
            problems.append(f"--flops-per-param-event is {self.flops_per_param_event}; it must be positive.")
        if self.bootstrap != 0 and not 100 <= self.bootstrap <= 100_000:
            problems.append(f"--bootstrap is {self.bootstrap}; it must be 0, or from 100 to 100000.")
        if self.seed < 0:
            problems.append(f"--seed is {self.seed}; it must not be negative.")
        problems += [
            f"--budget holds {flops}; it must be positive." for flops in self.budget if not 0 < flops < float("inf")
        ]
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
        variant=args.variant,
    )
    law = fit_law(
        table,
        method=args.method,
        num_draws=args.bootstrap,
        seed=args.seed,
        budgets=args.budget,
        flops_per_param_event=args.flops_per_param_event,
    )
    report = write_report(law, table, args.out)
    print(summarize(law), report, sep="\n")
    if law.refused:
        raise RefusedError(" ".join(law.reasons))


if __name__ == "__main__":
    with exit_codes():
        main(tyro.cli(Args, description=__doc__))
