"""Numbers as people read them: values in, short strings out, for plots, the report and the job's summary."""

import math

_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def human(value: float) -> str:
    """Return a count with three figures and its unit: 7527 -> '7.53k', 1e9 -> '1B'."""
    if not math.isfinite(value):
        return "-"
    # Rounding first, so that 999_999 is 1M and not 1000k.
    value = float(f"{value:.3g}")
    if abs(value) >= 1e15:
        return f"{value:.3g}"
    for unit, letter in _UNITS:
        if abs(value) >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.3g}"


def figures(value: float | None, digits: int = 4) -> str:
    """Return a number with `digits` significant figures, scientific from 1e6 up and below 1e-4; '-' for none."""
    if value is None or not math.isfinite(value):
        return "-"
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        decimals = max(0, digits - 1 - (math.floor(math.log10(abs(value))) if value else 0))
        return f"{value:.{decimals}f}"
    return f"{value:.{digits - 1}e}"


def span(interval: tuple[float, float] | None, digits: int = 3) -> str:
    """Return an interval as '0.31 to 0.43', '-' for none."""
    return "-" if interval is None else f"{figures(interval[0], digits)} to {figures(interval[1], digits)}"


def human_span(interval: tuple[float, float] | None) -> str:
    """Return an interval of counts as '148k to 288k', '-' for none."""
    return "-" if interval is None else f"{human(interval[0])} to {human(interval[1])}"


def scientific(value: float) -> str:
    """Return FLOPs as '2.4e12', without the plus sign and the zeros of the exponent."""
    mantissa, exponent = f"{value:.2g}" if value < 1e4 else f"{value:.1e}", ""
    if "e" in mantissa:
        mantissa, exponent = mantissa.split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return mantissa
