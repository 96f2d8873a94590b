"""Say in thirty lines of text what a dataset holds, and what was dropped on the way.

In: the manifest, and where at hand the vocabulary of behaviours. Out: lines for the terminal. It holds no user ids.
"""

from behavegpt.data.manifest import Manifest
from behavegpt.data.vocab import Vocabulary
from behavegpt.schema import FIRST_KNOWN_ID, SPLITS, VOCABULARIES

Row = tuple[str, str]
"""A label and what to say beside it."""

_DROPPED = {
    "missing_user": "without a user",
    "missing_time": "without a time",
    "missing_event": "without an event",
    "duplicates": "duplicates (equal in every mapped column)",
    "users_with_one_event": "only event of its user: nothing to predict",
}


def card_lines(manifest: Manifest, behaviors: Vocabulary | None = None) -> list[str]:
    """Return the card of a dataset as aligned lines of text.

    Args:
        behaviors: The vocabulary of behaviours, to name the most and the least frequent one.
    """
    rows = [*_source_rows(manifest), *_kept_rows(manifest), *_dropped_rows(manifest), *_time_rows(manifest)]
    rows += _split_rows(manifest)
    rows += [*_vocabulary_rows(manifest, behaviors), *_floor_rows(manifest), ("fingerprint", manifest.fingerprint[:16])]
    width = max(len(label) for label, _ in rows)
    return [f"dataset {manifest.name}", *(f"  {label:<{width}}  {text}".rstrip() for label, text in rows)]


def _source_rows(manifest: Manifest) -> list[Row]:
    source = manifest.source
    rows = []
    if "input" in source:
        rows += [("input", f"{source['input']} (sha256 {source['sha256'][:16]})")]
        rows += [("columns", ", ".join(f"{role} {name}" for role, name in source["columns"].items()))]
    if "rows_read" in manifest.counts:
        rows += [("rows read", f"{manifest.counts['rows_read']:,}")]
    return rows


def _kept_rows(manifest: Manifest) -> list[Row]:
    counts = manifest.counts
    if "events_kept" not in counts:
        return []
    events, missing = counts["events_kept"], counts["missing_behavior"]
    return [
        ("events kept", f"{events:,} of {counts['users']:,} users"),
        ("  no behaviour", f"{missing:,} ({_percent(missing, events)}) stay in the history, never scored"),
    ]


def _dropped_rows(manifest: Manifest) -> list[Row]:
    counts = {reason: manifest.counts[reason] for reason in _DROPPED if reason in manifest.counts}
    if not counts:
        return []
    rows = [("rows dropped", f"{sum(counts.values()):,}")]
    return rows + [("", f"{count:>9,} {_DROPPED[reason]}") for reason, count in counts.items()]


def _time_rows(manifest: Manifest) -> list[Row]:
    source, counts = manifest.source, manifest.counts
    rows = []
    if "first_event" in source:
        rows += [("span", f"{source['first_event']} to {source['last_event']}")]
    if "timezone" in source:
        rows += [("local time", f"{source['timezone']}, for weekdays and half-hour slots")]
    if counts.get("times_without_offset"):
        rows += [
            ("", f"{counts['times_without_offset']:,} times had no UTC offset and were read as local"),
            ("", f"  {counts['times_shown_twice']:,} in an hour that the clock repeated: read as the first"),
            ("", f"  {counts['times_never_shown']:,} in an hour that the clock skipped: is the time zone right?"),
        ]
    return rows


def _split_rows(manifest: Manifest) -> list[Row]:
    rows = []
    if "split" in manifest.source:
        shares = " / ".join(f"{share:.4g}" for share in manifest.source["split"])
        rows += [("split by time", f"shares {shares} of the events")]
    for name in SPLITS:
        split = manifest.splits[name]
        text = f"{split.num_targets:>9,} targets {split.num_windows:>9,} windows {split.num_users:>9,} users"
        begins = manifest.cutoffs.get(name)
        rows.append((f"  {name}", f"{text}  from {begins}" if begins else text))
        skipped = manifest.counts.get(f"windows_without_behavior_{name}")
        if skipped:
            rows.append(("", f"{skipped:>9,} windows left out: no behaviour to predict"))
    return rows


def _vocabulary_rows(manifest: Manifest, behaviors: Vocabulary | None) -> list[Row]:
    rows = [("values in training", "unseen ones are id 1, 'other'")]
    for column in VOCABULARIES:
        known = manifest.vocabulary_sizes[column] - FIRST_KNOWN_ID
        unseen = [_unseen(manifest, column, name) for name in SPLITS[1:] if f"other_{column}_{name}" in manifest.counts]
        rows.append((f"  {column}", "; ".join([f"{known:>9,} values", *unseen])))
    if behaviors is not None and behaviors.values:
        total = sum(behaviors.counts)
        head, tail = (f"{_shown(behaviors.values[i])} {_percent(behaviors.counts[i], total)}" for i in (0, -1))
        rows.append(("  behaviour shares", f"from {head} to {tail} of the training events that have one"))
    return rows


def _unseen(manifest: Manifest, column: str, split: str) -> str:
    count, events = manifest.counts[f"other_{column}_{split}"], manifest.counts[f"events_{split}"]
    return f"{split} {count:,} unseen ({_percent(count, events)})"


def _floor_rows(manifest: Manifest) -> list[Row]:
    if manifest.floor is None:
        return []
    return [("floor", f"{manifest.floor.entropy_nats:.4f} nats: no model can do better on val")]


def _percent(part: int, whole: int) -> str:
    share = 100 * part / whole if whole else 0.0
    return f"{share:.0f} %" if share >= 10 else f"{share:.2g} %"


def _shown(value: str) -> str:
    return value if value.isprintable() and len(value) <= 40 else ascii(value)[:40]
