"""Say in thirty lines of text what a dataset holds, and what was dropped on the way.

In: the manifest, and where at hand the vocabulary of behaviours. Out: lines for the terminal. It holds no user ids.
"""

from behavegpt.data.card.text import one_line, percent, shown
from behavegpt.data.manifest import Manifest
from behavegpt.data.vocab import FOLDED_KINDS, Vocabulary
from behavegpt.schema import FIRST_KNOWN_ID, SPLITS, VOCABULARIES

Row = tuple[str, str]
"""A label and what to say beside it."""

DROPPED = {
    "malformed_rows": "rows that the format does not allow",
    "missing_user": "without a user",
    "missing_time": "without a time",
    "missing_event": "without an event",
    "unreadable_time": "with a time that cannot be read",
    "time_out_of_range": "with a time outside the allowed years",
    "id_too_long": "with an id that is too long",
    "held_out_behavior": "of held-out behaviours",
    "duplicates": "duplicates (equal in every mapped column)",
    "users_with_one_event": "only event of its user: nothing to predict",
    "forgotten_events": "of users who were forgotten since",
}
"""Counts of rows that never reach a window, by reason."""
_QUIET = ("malformed_rows", "unreadable_time", "time_out_of_range", "id_too_long", "held_out_behavior")
"""Reasons that the terminal names only where they occur; the page names them all."""
_SOURCE = (
    "files", "num_files", "columns", "time_unit", "timezone", "min_users", "split", "split_by", "hold_out_behaviors",
    "first_event", "last_event",
)  # fmt: skip
"""What the terminal says of the source; the page has all of it."""


def card_lines(manifest: Manifest, behaviors: Vocabulary | None = None) -> list[str]:
    """Return the card of a dataset as aligned lines of text.

    Args:
        behaviors: The vocabulary of behaviours, to name the most and the least frequent one.
    """
    rows = [*_source_rows(manifest), *_kept_rows(manifest), *_dropped_rows(manifest), *_note_rows(manifest)]
    rows += _split_rows(manifest)
    rows += [*_vocabulary_rows(manifest, behaviors), *_floor_rows(manifest), ("fingerprint", manifest.fingerprint[:16])]
    width = max(len(label) for label, _ in rows)
    return [f"dataset {manifest.name}", *(f"  {label:<{width}}  {text}".rstrip() for label, text in rows)]


_NOTED = {
    "times_without_offset": "times had no UTC offset and were read as local",
    "times_shown_twice": "in an hour that the clock repeated: read as the first",
    "times_never_shown": "in an hour that the clock skipped: is the time zone right?",
    "unusable_offsets": "times cannot be read because the row's own offset is not whole minutes from UTC",
    "weekday_contradictions": "times cannot be read because the weekday is not that of the day",
    "events_without_entry": "rows have an event that the behaviour table lacks: no behaviour",
    "invalid_coordinates": "rows have coordinates that are no place on earth: no location",
    "blank_lines": "blank lines were skipped",
}
"""Counts of rows that needed a decision."""


def note_rows(counts: dict[str, int]) -> list[str]:
    """Return sentences about rows that needed a decision; none where there were none."""
    return [f"{counts[name]:,} {said}" for name, said in _NOTED.items() if counts.get(name)]


def _source_rows(manifest: Manifest) -> list[Row]:
    known = {key: manifest.source[key] for key in _SOURCE if manifest.source.get(key) not in (None, [], ())}
    rows = [(key.replace("_", " ").replace("behavior", "behaviour"), one_line(value)) for key, value in known.items()]
    if "rows_read" in manifest.counts:
        rows += [("rows read", f"{manifest.counts['rows_read']:,}")]
    return rows


def _kept_rows(manifest: Manifest) -> list[Row]:
    counts = manifest.counts
    if "events_kept" not in counts:
        return []
    events, missing = counts["events_kept"], counts.get("missing_behavior", 0)
    return [
        ("events kept", f"{events:,} of {counts['users']:,} users"),
        ("  no behaviour", f"{missing:,} ({percent(missing, events)}) stay in the history, never scored"),
    ]


def _dropped_rows(manifest: Manifest) -> list[Row]:
    counts = {reason: manifest.counts[reason] for reason in DROPPED if reason in manifest.counts}
    if not counts:
        return []
    rows = [("rows dropped", f"{sum(counts.values()):,}")]
    said = {reason: count for reason, count in counts.items() if count or reason not in _QUIET}
    return rows + [("", f"{count:>9,} {DROPPED[reason]}") for reason, count in said.items()]


def _note_rows(manifest: Manifest) -> list[Row]:
    return [("notes" if index == 0 else "", note) for index, note in enumerate(note_rows(manifest.counts))]


def _split_rows(manifest: Manifest) -> list[Row]:
    rows = [("splits", "")]
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
    min_users = manifest.source.get("min_users", 1)
    rare = f", and those of fewer than {min_users} training users (--min-users)," if min_users > 1 else ""
    rows = [("values", f"in training; unseen ones{rare} are id 1, 'other'")]
    for column in VOCABULARIES:
        folded = [text for name in SPLITS if (text := other_share(manifest, column, name))]
        rows.append((f"  {column}", "; ".join([f"{num_own_values(manifest, column):>9,} values", *folded])))
        if column == "event" and (kinds := manifest.counts.get(FOLDED_KINDS)):
            rows.append(("", f"{kinds:>9,} behaviours have an 'other' of their own: their events that are folded"))
        rows += _mostly_other(manifest, column)
    if behaviors is not None and behaviors.values:
        total = sum(behaviors.counts)
        head, tail = (f"{shown(behaviors.values[i])} {percent(behaviors.counts[i], total)}" for i in (0, -1))
        rows.append(("  behaviour shares", f"from {head} to {tail} of the training events that have one"))
    return rows


def num_own_values(manifest: Manifest, column: str) -> int:
    """Return how many values of a column have an id of their own."""
    folded = manifest.counts.get(FOLDED_KINDS, 0) if column == "event" else 0
    return manifest.vocabulary_sizes[column] - FIRST_KNOWN_ID - folded


def _mostly_other(manifest: Manifest, column: str) -> list[Row]:
    other, events = (manifest.counts.get(name, 0) for name in (f"other_{column}_train", "events_train"))
    if 2 * other <= events:
        return []
    return [("", f"{'':>9} more than half of the training events show 'other' here: pass a smaller --min-users")]


def other_share(manifest: Manifest, column: str, split: str) -> str:
    """Return how many events of a split show `other` in a column, '' where the manifest does not say."""
    count = manifest.counts.get(f"other_{column}_{split}")
    if count is None:
        return ""
    events = manifest.counts.get(f"events_{split}", 0)
    return f"{split} {count:,} other" + (f" ({percent(count, events)})" if events else "")


def _floor_rows(manifest: Manifest) -> list[Row]:
    if manifest.floor is None:
        return []
    return [("floor", f"{manifest.floor.entropy_nats:.4f} nats: no model can do better on val")]
