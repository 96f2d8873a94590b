"""What a reader gets of a run: the lines of the terminal, generate.json and report.md.

In: the figures of each row. Out: text and plain JSON values.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from behavegpt.config import plain
from behavegpt.tasks.generation.figures import METRICS, NUM_SPLITS
from behavegpt.tasks.generation.sampling import Sampling
from behavegpt.tasks.generation.voices import CONTEXT, PER_READING

TITLES = {
    "ks": "KS",
    "wasserstein": "WD",
    "jsd": "JSD",
    "jsd_bigrams": "JSD-2",
    "jsd_slots": "JSD-slot",
    "bleu": "BLEU",
    "distinct_2": "Distinct-2",
    "ks_user": "KS/user",
    "wasserstein_user": "WD/user",
    "jsd_user": "JSD/user",
}
ORACLE, REAL, HALVES = "oracle", "real", "real, two halves"
MANY_SD = 2.0
NOTES = (
    "KS, WD (in ranks of frequency), JSD (bits), JSD-2 of pairs in a row, JSD-slot of half hours: all users together",
    "BLEU: corpus, 4-grams, each user's own truth as reference; Distinct-2: mean over users, best near the real one",
    "/user: mean over users of the metric of each user's own behaviours; two real samples so short differ as well",
    f"{REAL}: the truth against itself; {HALVES}: half of the users against the other half, {NUM_SPLITS} times",
    "  (mean): a perfect generator that knows nothing of the user, on half the users. The next line is the deviation",
)
OF_ORACLE = f"{ORACLE}: the law of this generated log, which no model can better, with the same rules for the inputs"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportRow:
    """One line of the table."""

    name: str
    figures: dict[str, float]
    """By METRICS."""
    deviations: dict[str, float] | None = None
    """Standard deviation between splits, of the halves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What jobs/generate.py found."""

    run: str
    """Hash of all that the result depends on."""
    dataset: str
    fingerprint: str
    model: str
    weights_sha256: str
    sampling: Sampling
    num_users: int
    num_test_users: int
    """Of the whole split; those with fewer behaviours there than are generated have no truth and take no part."""
    num_behaviors: int
    mean_history: float
    num_other: int
    """Generated behaviours that training knows as `other`."""
    shares: dict[str, dict[str, float]]
    """Of the sources of events and locations."""
    rows: tuple[ReportRow, ...]
    """The model first, then the rivals, the oracle where there is one, the halves, and the truth itself."""


def lines(report: Report) -> Iterator[str]:
    """Yield the table, what it means, and the rules of the inputs."""
    sampling = report.sampling
    yield (
        f"{report.dataset} test: {report.num_behaviors} behaviours of each of {report.num_users:,} users (of "
        f"{report.num_test_users:,}) after {report.mean_history:.1f} events on average; "
        f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, seed {sampling.seed}"
    )
    yield ""
    yield from _table(report.rows)
    yield from (f"  {note}" for note in _notes(report.rows))
    yield ""
    yield from _verdicts(report.rows)
    if report.num_other:
        yield f"  {report.num_other:,} generated behaviours are `other`: training knows no name for them"
    yield ""
    yield "  inputs of generated events, by rules fitted on the training split (not by the model):"
    yield "    weekday and slot: from those of the event before, by how long training waited then"
    for what, shares in report.shares.items():
        yield f"    {what}: " + ", ".join(f"{share:.0%} {source}" for source, share in shares.items())
    yield f"  the model reads the last {CONTEXT} events anew after every {PER_READING} behaviours"


def to_json(report: Report) -> dict[str, Any]:
    """Return generate.json."""
    facts = {name: getattr(report, name) for name in Report.__slots__ if name not in ("rows", "sampling")}
    return {
        **facts,
        "sampling": plain(report.sampling),
        "context": CONTEXT,
        "behaviors_per_reading": PER_READING,
        "notes": _notes(report.rows),
        "rows": [plain(row) for row in report.rows],
    }


def to_markdown(report: Report) -> str:
    """Return report.md."""
    first, *rest = lines(report)
    heads = ["system", *TITLES.values()]
    rows = [[row.name, *(_cell(row.figures[metric]) for metric in METRICS)] for row in report.rows]
    table = [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]
    after = rest[rest.index("", 1) :]
    notes = [f"* {note.strip()}" for note in _notes(report.rows)]
    told = "\n".join(line[2:] if line else "" for line in after)
    return "\n".join([f"# Long-term generation: {first}", "", *table, "", *notes, "", "```", told.strip(), "```", ""])


def _notes(rows: Sequence[ReportRow]) -> list[str]:
    return [*NOTES, OF_ORACLE] if any(row.name == ORACLE for row in rows) else list(NOTES)


def _table(rows: Sequence[ReportRow]) -> Iterator[str]:
    width = max(len(row.name) for row in rows)
    yield f"  {'system':<{width}}" + "".join(f"{title:>11}" for title in TITLES.values())
    for row in rows:
        yield f"  {row.name:<{width}}" + "".join(f"{_cell(row.figures[metric]):>11}" for metric in METRICS)
        if row.deviations is not None:
            yield f"  {'':<{width}}" + "".join(f"{'+-' + _cell(row.deviations[metric]):>11}" for metric in METRICS)


def _cell(value: float) -> str:
    return f"{value:.4f}"


def _verdicts(rows: Sequence[ReportRow]) -> Iterator[str]:
    """Yield where the model is as near as real users are, and which rival is nearer than the model."""
    model, *others = rows
    real = next(row for row in rows if row.name == REAL)
    halves = next(row for row in rows if row.name == HALVES)
    assert halves.deviations is not None
    rivals = [row for row in others if row.name not in (ORACLE, REAL, HALVES)]
    for metric, title in TITLES.items():
        target = real.figures[metric]
        gap = abs(model.figures[metric] - target)
        bound = abs(halves.figures[metric] - target) + MANY_SD * halves.deviations[metric]
        near = "as near to the truth as" if gap <= bound else "further from the truth than"
        better = [row.name for row in rivals if abs(row.figures[metric] - target) < gap]
        rank = f"nearer: {', '.join(better)}" if better else "no rival is nearer"
        yield f"  {model.name} {title:<11}{near} other real users; {rank}"
