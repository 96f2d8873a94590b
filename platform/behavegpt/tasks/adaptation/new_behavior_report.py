"""What a reader gets of the task: the words and tables, and new-behavior.json, .md and .html with them.

In: a `Report`. Out: sections of text, and plain JSON values. Nothing is computed here but differences of starts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from behavegpt.config import plain
from behavegpt.data.card.sections import Grid, Section
from behavegpt.data.card.text import percent, shown
from behavegpt.tasks.ablation.compare import Difference, Interval, over_seeds
from behavegpt.tasks.adaptation.new_behavior_figures import METRICS, StartFigures, difference
from behavegpt.tasks.adaptation.new_behavior_training import Judged, Start
from behavegpt.tasks.figures import NUM_DRAWS
from behavegpt.tasks.next_behavior import LEVEL
from behavegpt.tasks.page import Page, write_page

Stage = Literal["as trained", "balanced"]
STAGES: tuple[Stage, ...] = ("as trained", "balanced")
UNTRAINED = "extended only"
_SAID = {
    "adapted": "pretrained without the behaviour, extended, trained on the few shots",
    "scratch": "the same model, initialised anew, on the same few shots in the same steps",
    UNTRAINED: "pretrained and extended, not trained: of the new behaviour it knows the frequency alone",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One new behaviour."""

    name: str
    label: str
    """high, medium or low, or that it was named."""
    share: float
    """Of the training targets of the whole log."""
    num_few: int
    """Its targets in the few shots, each counted once."""
    num_test: int
    """Its targets in test."""
    figures: Mapping[Stage, Mapping[str, StartFigures]]
    """By start."""
    rates: Mapping[Start, float]
    """Chosen by validation, over the recipe's."""
    judged: Mapping[Start, Mapping[float, Judged | None]]
    """What each rate gave on validation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What jobs/adapt.py new-behavior found."""

    dataset: str
    fingerprint: str
    model: str
    """What was trained, for the head of the page."""
    setting: tuple[str, ...]
    """Sentences: what was held out, pretrained and fine-tuned."""
    facts: Mapping[str, Any]
    """The same for programs."""
    found: tuple[Found, ...]


def sections(report: Report) -> list[Section]:
    """Return the words and tables."""
    return [
        Section(title="New behaviours", text=report.setting, notes=tuple(f"{n}: {s}." for n, s in _SAID.items())),
        Section(
            title="As trained (the paper's Table 3)",
            text=(
                f"Means over the seeds, +- half the {LEVEL:.0%} interval over seeds; in brackets the interval over "
                f"users ({NUM_DRAWS:,} draws). Rec_m is over all behaviours, the new one among them.",
                *headlines(report),
            ),
            grids=(_figures_grid(report, "as trained"), _differences_grid(report, "as trained")),
        ),
        Section(
            title="With the class prior corrected to uniform",
            text=(
                "The same models, with the log of each behaviour's share of the few shots taken off its logit: "
                "what a model knows of a rare behaviour, which it may know well and never put first.",
            ),
            grids=(_figures_grid(report, "balanced"), _differences_grid(report, "balanced")),
        ),
        Section(
            title="Rates",
            text=(
                "On validation, mean over the seeds, at each rate over the recipe's: Rec_m, recall of the new "
                "behaviour, nats. The best mean of the two recalls was taken.",
            ),
            grids=(_rates_grid(report),),
        ),
    ]


def write_report(out: Path, report: Report, parts: Sequence[Section]) -> Path:
    """Write new-behavior.json, .md and .html; return the page."""
    first = next(iter(report.found[0].figures["as trained"].values()))
    page = Page(
        stem="new-behavior",
        name=f"New behaviours on {report.dataset}",
        model=report.model,
        fingerprint=report.fingerprint,
        tiles=[
            (str(len(report.found)), "new behaviours"),
            (str(len(first.runs["rec_m"])), "seeds"),
            (str(len(report.found[0].figures["as trained"])), "starts"),
        ],
        sections=parts,
        drawings={},
        captions={},
    )
    return write_page(out, page, to_json(report))


def to_json(report: Report) -> dict[str, Any]:
    """Return new-behavior.json: everything but the draws."""
    return plain(
        {
            "dataset": report.dataset,
            "fingerprint": report.fingerprint,
            **report.facts,
            "intervals": {"level": LEVEL, "draws": NUM_DRAWS},
            "behaviors": [_found_json(found) for found in report.found],
        }
    )


def _found_json(found: Found) -> dict[str, Any]:
    facts = ("name", "label", "share", "num_few", "num_test", "rates")
    return {
        **{name: getattr(found, name) for name in facts},
        "validation": {
            start: {f"{rate:g}": one._asdict() if one else None for rate, one in by.items()}
            for start, by in found.judged.items()
        },
        "figures": {
            stage: {
                name: {m: _figure_json(figures, m) for m in METRICS} for name, figures in found.figures[stage].items()
            }
            for stage in STAGES
        },
        "adapted_minus_scratch": {
            stage: {m: _difference_json(_gap(found, stage, m)) for m in METRICS} for stage in STAGES
        },
    }


def _figure_json(figures: StartFigures, metric: str) -> dict[str, Any]:
    seeds, users = over_seeds(figures.runs[metric]), figures.over_users(metric)
    return {
        "mean": users.mean,
        "seeds": [seeds.low, seeds.high] if seeds else None,
        "users": [users.low, users.high],
        "runs": figures.runs[metric].tolist(),
    }


def _difference_json(gap: Difference) -> dict[str, Any]:
    seeds = [gap.seeds.low, gap.seeds.high] if gap.seeds else None
    return {"mean": gap.mean, "seeds": seeds, "users": [gap.users.low, gap.users.high], "adapted": gap.verdict}


def _gap(found: Found, stage: Stage, metric: str) -> Difference:
    return difference(found.figures[stage]["adapted"], found.figures[stage]["scratch"], metric)


def _figures_grid(report: Report, stage: Stage) -> Grid:
    rows = []
    for found in report.found:
        for name, figures in found.figures[stage].items():
            rows.append((_title(found), name, *(_cell(figures, metric) for metric in METRICS)))
    return Grid(columns=("new behaviour", "start", *METRICS.values()), rows=rows)


def _title(found: Found) -> str:
    return (
        f"{shown(found.name)} ({found.label}, {percent(found.share, 1)}; {found.num_few} shots, {found.num_test} test)"
    )


def _cell(figures: StartFigures, metric: str) -> str:
    seeds, users = over_seeds(figures.runs[metric]), figures.over_users(metric)
    half = f" +-{seeds.high - seeds.mean:.4f}" if seeds else ""
    return f"{users.mean:.4f}{half} ({users.low:.4f} to {users.high:.4f})"


def _differences_grid(report: Report, stage: Stage) -> Grid:
    rows = []
    for found in report.found:
        for metric, title in METRICS.items():
            gap = _gap(found, stage, metric)
            seeds = _range(gap.seeds) if gap.seeds else "one seed"
            rows.append((shown(found.name), title, f"{gap.mean:+.4f}", seeds, _range(gap.users), gap.verdict))
    columns = ("adapted minus scratch", "figure", "difference", "over seeds", "over users", "pretraining")
    return Grid(columns=columns, rows=rows)


def _range(interval: Interval) -> str:
    return f"{interval.low:+.4f} to {interval.high:+.4f}"


def _rates_grid(report: Report) -> Grid:
    rows = []
    for found in report.found:
        for start, judged in found.judged.items():
            cells = ("  ".join(f"{value:.4f}" for value in one) if one else "diverged" for one in judged.values())
            rows.append((shown(found.name), start, *cells, f"x {found.rates[start]:g}"))
    rates = [f"x {rate:g}" for rate in next(iter(report.found[0].judged.values()))]
    return Grid(columns=("new behaviour", "start", *rates, "taken"), rows=rows)


def headlines(report: Report) -> Iterator[str]:
    """Yield a sentence for each new behaviour: its recall and the macro recall, adapted and from scratch."""
    for found in report.found:
        figures = found.figures["as trained"]
        said = [
            f"{METRICS[m]} {figures['adapted'].runs[m].mean():.3f} against {figures['scratch'].runs[m].mean():.3f} "
            f"({_gap(found, 'as trained', m).verdict})"
            for m in ("rec_m", "rec_new")
        ]
        yield f"{shown(found.name)} ({found.label}), adapted against from scratch: {'; '.join(said)}."
