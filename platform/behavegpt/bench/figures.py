"""The table of a benchmark: what was measured, beside what it is compared with and what is wanted."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One row of the table."""

    name: str
    ours: str
    """With its unit."""
    other: str = ""
    """What it is compared with, measured in the same run, with its unit."""
    value: float
    """What `wanted` is about: a ratio, or an amount in the unit of `ours`."""
    wanted: str = ""
    """'>= 0.5' or '<= 1.5'; empty where nothing is promised."""

    @property
    def met(self) -> bool | None:
        """Return whether the value is as wanted; None where nothing is promised."""
        if not self.wanted:
            return None
        sign, bound = self.wanted.split()
        return self.value >= float(bound) if sign == ">=" else self.value <= float(bound)


def to_lines(figures: Iterable[Figure]) -> list[str]:
    """Return the table as aligned lines of text."""
    rows = [("", "ours", "compared with", "value", "wanted", "")]
    for figure in figures:
        verdict = {None: "", True: "yes", False: "NO"}[figure.met]
        rows.append((figure.name, figure.ours, figure.other, f"{figure.value:.3g}", figure.wanted, verdict))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def rate(amount: float, seconds: float, unit: str) -> str:
    """Return '1.23 M events/s'."""
    return f"{amount / seconds / 1e6:.3g} M {unit}/s"


def gibibytes(num_bytes: int) -> float:
    """Return bytes in GiB."""
    return num_bytes / 2**30
