"""The words of a card: its facts in, tiles and sections of text and tables out.

Both templates only lay out what is here, so the HTML and the Markdown cannot disagree.
"""

from dataclasses import dataclass

from behavegpt.data.card.facts import Facts
from behavegpt.data.card.figures import BASELINE_NAMES
from behavegpt.data.card.lines import DROPPED, note_rows
from behavegpt.data.card.text import human, one_line, percent, plural
from behavegpt.schema import SPLITS, VOCABULARIES

MAX_ITEMS = 40
"""Of a list in the description of where the dataset came from."""
NUM_HEAD, NUM_TAIL = 15, 10
"""Behaviours in the table, from both ends; card.json has them all."""
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
FIGURE_CAPTIONS = {
    "long_tail": "Share of each behaviour among the targets of each split (the paper's Fig. 2); logarithmic.",
    "rhythm": "When events happen, in local time.",
    "days": "When the log was recorded, and which split its events are in.",
    "users": "Left: users by their number of events. Right: how long windows are; 91 is full.",
    "gaps": "Time between two consecutive events of one user.",
    "baselines": "What a trained model has to beat.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """One table."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One part of the card."""

    title: str
    text: tuple[str, ...] = ()
    grids: tuple[Grid, ...] = ()
    figures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def tiles(facts: Facts) -> list[tuple[str, str]]:
    """Return the numbers at the top of the page, each with its name."""
    table = facts["table1"]
    return [
        (human(table["events"]), "events"),
        (human(table["users"]), "users"),
        (f"{table['behaviors']:,}", "behaviours"),
        (f"{table['event_types']:,}", "event types"),
        (f"{table['locations']:,}", "locations"),
        (f"{table['days']:,}", "days"),
    ]


def sections(facts: Facts) -> list[Section]:
    """Return the sections of the card, in order."""
    return [
        _table1(facts),
        _splits(facts),
        _dropped(facts),
        _long_tail(facts),
        _rhythm(facts),
        _histories(facts),
        _baselines(facts),
        _origin(facts),
    ]


def _table1(facts: Facts) -> Section:
    table = facts["table1"]
    span = f"{table['first_day']} to {table['last_day']} ({plural(table['days'], 'day')}, UTC)"
    columns = ("Dataset", "Type of events", "Type of behaviours", "Locations", "Users", "Duration", "Number of logs")
    numbers = [f"{table[key]:,}" for key in ("event_types", "behaviors", "locations", "users")]
    row = (facts["name"], *numbers, span, f"{table['events']:,}")
    text = ["The paper's Table 1. A type has an id of its own; rare and unseen ones share 'other' and are not counted."]
    rare = {c: facts["counts"].get(f"rare_{c}_values", 0) for c in VOCABULARIES}
    if any(rare.values()) and "min_users" in facts["source"]:
        folded = ", ".join(plural(count, f"{_words(column)} value") for column, count in rare.items() if count)
        text += [f"Rare, because fewer than {facts['source']['min_users']} training users have them: {folded}."]
    return Section(title="At a glance", text=tuple(text), grids=(Grid(columns=columns, rows=[row]),))


def _splits(facts: Facts) -> Section:
    rows = []
    for name in SPLITS:
        split = facts["splits"][name]
        numbers = [f"{split[key]:,}" for key in ("targets", "windows", "users", "events_in_windows")]
        full, size = percent(split["full_windows"], split["windows"]), f"{split['bytes'] / 1e6:,.1f} MB"
        rows.append((name, split["from"] or "-", *numbers, full, f"{plural(split['shards'], 'shard')}, {size}"))
    columns = ("Split", "From", "Targets", "Windows", "Users", "Events", "Full windows", "Files")
    text = (
        "A target is an event whose behaviour is predicted, once in the whole dataset. A window across a cutoff "
        "serves both sides: the later split sees what came before, and scores only what comes after. "
        "Windows without a behaviour to predict are left out, and so are their events."
    )
    return Section(title="Splits", text=(text,), grids=(Grid(columns=columns, rows=rows),), figures=("days",))


def _dropped(facts: Facts) -> Section:
    counts, kept = facts["counts"], facts["table1"]["events"]
    grids, text = [], "Generated: no row was dropped."
    if "rows_read" in counts:
        read, dropped = counts["rows_read"], facts["dropped"]
        rows = [("read", f"{read:,}", "")]
        rows += [(DROPPED[reason], f"{count:,}", _fine_share(count, read)) for reason, count in dropped.items()]
        rows += [("kept", f"{kept:,}", _fine_share(kept, read))]
        grids += [Grid(columns=("Rows", "Number", "Share"), rows=rows)]
        missing = read - kept - sum(dropped.values())
        text = "Every row is kept or counted here." if not missing else f"{missing:,} rows are not accounted for."
    rest = {name: count for name, count in counts.items() if name not in facts["dropped"] and name != "rows_read"}
    return Section(
        title="What was dropped", text=(text,), grids=(*grids, *_other_counts(rest)), notes=tuple(note_rows(counts))
    )


def _other_counts(counts: dict[str, int]) -> list[Grid]:
    """Return the remaining counts: those of a split as one row with three columns, the others as a list."""
    by_split = {
        stem: [counts.get(f"{stem}_{split}") for split in SPLITS]
        for stem in dict.fromkeys(name.rsplit("_", 1)[0] for name in counts if name.rsplit("_", 1)[-1] in SPLITS)
    }
    single = [(_words(name), f"{count:,}") for name, count in counts.items() if name.rsplit("_", 1)[-1] not in SPLITS]
    grids = [Grid(columns=("Also counted", "Number"), rows=single)] if single else []
    rows = [(_words(stem), *("-" if n is None else f"{n:,}" for n in numbers)) for stem, numbers in by_split.items()]
    return grids + ([Grid(columns=("In each split", *SPLITS), rows=rows)] if rows else [])


def _words(name: str) -> str:
    return name.replace("_", " ").replace("behavior", "behaviour")


def _fine_share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.3g} %"


def _long_tail(facts: Facts) -> Section:
    tail = facts["long_tail"]
    behaviors = tail["behaviors"]
    ends = behaviors if len(behaviors) <= NUM_HEAD + NUM_TAIL else [*behaviors[:NUM_HEAD], None, *behaviors[-NUM_TAIL:]]
    totals = {split: facts["splits"][split]["targets"] for split in SPLITS}
    rows, rank = [], 0
    for entry in ends:
        if entry is None:
            hidden = len(behaviors) - NUM_HEAD - NUM_TAIL
            rows.append(("", f"... {hidden:,} more ...", *[""] * len(SPLITS)))
            rank += hidden
            continue
        rank += 1
        shares = [f"{entry[split]:,} ({percent(entry[split], totals[split])})" for split in SPLITS]
        rows.append((f"{rank:,}", entry["value"], *shares))
    text = [f"{plural(tail['num_behaviors'], 'behaviour')}: {_half(tail)}."]
    if tail["head_to_tail"] is not None:
        text[0] += f" The most frequent one is a target {tail['head_to_tail']:,.0f} times as often as the rarest."
    others = ", ".join(f"{split} {count:,}" for split, count in tail["other"].items() if count)
    text += [f"Targets that are 'other', unseen or too rare in training: {others}."] if others else []
    grid = Grid(columns=("Rank", "Behaviour", *SPLITS), rows=rows)
    return Section(title="The long tail", text=tuple(text), grids=(grid,), figures=("long_tail",))


def _half(tail: Facts) -> str:
    few, most, rare = tail["behaviors_for_half"], tail["behaviors_for_90_percent"], tail["below_one_in_1000"]
    return f"{few:,} make half of the training targets, {most:,} make 90 %; below one in 1,000 are {rare:,}"


def _rhythm(facts: Facts) -> Section:
    rhythm, text = facts["rhythm"], ()
    if rhythm["total"]:
        busiest, quietest = (_moment(rhythm[which]) for which in ("busiest", "quietest"))
        text = (
            f"The busiest half hour of the week begins {busiest}, the quietest {quietest}; "
            f"{percent(rhythm['weekend'], rhythm['total'])} of the events are on a weekend (2/7 is 29 %).",
        )
    return Section(title="Rhythm", text=text, figures=("rhythm",))


def _moment(half_hour: int) -> str:
    day, slot = divmod(half_hour, 48)
    return f"{WEEKDAYS[day]} {slot // 2:02d}:{slot % 2 * 30:02d}"


def _histories(facts: Facts) -> Section:
    users = facts["events_per_user"]
    quantiles = {f"{100 * float(q):g} %": f"{value:,.0f}" for q, value in users["quantiles"].items()}
    grid = Grid(columns=("Quantile of users", *quantiles), rows=[("events", *quantiles.values())])
    text = f"A user has {users['mean']:,.1f} events on average."
    if users["share_of_users_counted"] < 1:
        text += f" Counted on a random {percent(users['share_of_users_counted'], 1)} of the users."
    return Section(title="Users, windows and gaps", text=(text,), grids=(grid,), figures=("users", "gaps"))


def _baselines(facts: Facts) -> Section:
    baselines = facts["baselines"]
    splits = list(baselines["scores"])
    rows = []
    for name in baselines["scores"].get(splits[0], {}) if splits else ():
        cells = [
            (baselines["scores"][split][name]["nats"], baselines["scores"][split][name]["accuracy"]) for split in splits
        ]
        rows.append((BASELINE_NAMES[name], *[text for n, a in cells for text in (f"{n:.4f}", f"{100 * a:.1f} %")]))
    if floors := facts["floors"]:
        known = [f"{floors[split]:.4f}" if split in floors else "-" for split in splits]
        rows.append(("floor of the generator", *[text for nats in known for text in (nats, "-")]))
    columns = ("Predictor", *[f"{split} {what}" for split in splits for what in ("nats", "accuracy")])
    counted = [
        f"{split} {count:,} of {facts['splits'][split]['targets']:,}"
        for split, count in baselines["targets"].items()
        if count < facts["splits"][split]["targets"]
    ]
    text = (
        f"Nats per target of predictors that only count, with {baselines['num_classes']:,} classes. Shares are "
        "smoothed as (c + 1/2) / (n + K/2); shares after a context back off to them by Witten and Bell's rule; "
        f"repeating the last behaviour is mixed with them with weight {baselines['repeat_weight']:.3f}, the likeliest "
        "on train. A trained model that does not beat the best row has learned nothing from longer histories.",
        *([f"Counted on the front of each shuffled stream: {', '.join(counted)} targets."] if counted else []),
    )
    return Section(
        title="Without training", text=text, grids=(Grid(columns=columns, rows=rows),), figures=("baselines",)
    )


def _origin(facts: Facts) -> Section:
    rows = [
        (_words(key), one_line(value, max_items=MAX_ITEMS))
        for key, value in facts["source"].items()
        if value is not None
    ]
    rows += [(_words(f"values of {c}"), f"{facts['vocabularies'][c]['values']:,} and other") for c in VOCABULARIES]
    rows += [("schema version", str(facts["schema_version"])), ("fingerprint", facts["fingerprint"])]
    text = "Equal fingerprints mean equal training data."
    return Section(title="Origin and fingerprint", text=(text,), grids=(Grid(columns=("", ""), rows=rows),))
