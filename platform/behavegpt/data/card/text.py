"""Numbers and values of a log as people read them: short strings, safe on one line."""

from collections.abc import Mapping
from typing import Any

MAX_ITEMS = 6
MAX_CHARACTERS = 40
_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def percent(part: float, whole: float) -> str:
    """Return a share as '12 %' or, below 10 %, with two figures."""
    share = 100 * part / whole if whole else 0.0
    return f"{share:.0f} %" if share >= 10 else f"{share:.2g} %"


def human(value: float) -> str:
    """Return a count with three figures and its unit: 7527 -> '7.53k'."""
    # Rounding first, so that 999_999 is 1M and not 1000k.
    value = float(f"{value:.3g}")
    for unit, letter in _UNITS:
        if abs(value) >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.3g}"


def shown(value: str) -> str:
    """Return a value of the log on one line of at most 40 characters."""
    return value if value.isprintable() and len(value) <= MAX_CHARACTERS else ascii(value)[:MAX_CHARACTERS]


def plural(count: int, noun: str) -> str:
    """Return '1 shard' or '1,234 shards'."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def one_line(value: Any, *, max_items: int = MAX_ITEMS) -> str:
    """Return an entry of the manifest's source as text: lists by commas, the first `max_items` items only."""
    if isinstance(value, Mapping):
        return _join([f"{key} {one_line(item)}" for key, item in value.items() if item is not None], max_items)
    if isinstance(value, list | tuple):
        return _join([_words(item) if isinstance(item, Mapping) else one_line(item) for item in value], max_items)
    if isinstance(value, float):
        return f"{value:.6g}"
    return " ".join(str(value).split())


def _words(item: Mapping[str, Any]) -> str:
    return " ".join(f"{key} {one_line(value)}" for key, value in item.items() if value is not None)


def _join(items: list[str], max_items: int) -> str:
    more = [f"and {len(items) - max_items} more"] if len(items) > max_items else []
    return ", ".join([*items[:max_items], *more])
