"""The words of a cross-domain comparison: its figures in, sections of sentences and tables out.

Everything stands as it was measured, whether transfer pays or not.
"""

from collections.abc import Iterator

from behavegpt.data.card.sections import Grid, Section
from behavegpt.data.card.text import percent, shown
from behavegpt.model.sizing import count_params
from behavegpt.tasks.ablation.compare import Difference, Interval
from behavegpt.tasks.adaptation.cross_domain import CrossDomain, against, scratch_of
from behavegpt.tasks.adaptation.transfer import Source
from behavegpt.tasks.adaptation.ways import OURS, SCRATCH, words
from behavegpt.tasks.figures import NUM_DRAWS
from behavegpt.tasks.next_behavior import LEVEL, Comparison, Estimate, RowFigures

COLUMNS = {
    "prec_w": "Prec_w",
    "rec_w": "Rec_w",
    "prec_m": "Prec_m",
    "rec_m": "Rec_m",
    "ndcg@3": "N@3",
    "ndcg@5": "N@5",
    "hr@3": "HR@3",
    "hr@5": "HR@5",
    "nats": "nats",
}
"""Those of the paper's Table 5 for both of its targets, and cross-entropy."""
JUDGED = {"rec_w": "weighted recall", "rec_m": "macro recall", "nats": "cross-entropy"}
"""On which a way is set against training from scratch."""


def sections(found: CrossDomain) -> list[Section]:
    """Return the sections of the report, in order."""
    parts = [
        Section(title="Ways to adapt", text=tuple(_settings(found)), notes=found.left_out, grids=(_ways_grid(found),)),
        Section(
            title="What each way gives",
            text=(
                f"Means over the seeds, with +- half the {LEVEL:.0%} interval over users and seeds ({NUM_DRAWS:,} "
                "draws). Cross-entropy is plain, whatever pretraining minimised.",
            ),
            figures=("sizes",),
            grids=(_figures_grid(found),),
        ),
        Section(
            title="Against training from scratch",
            text=(_INTERVALS, *_headlines(found)),
            figures=("differences",),
            grids=(_scratch_grid(found),),
        ),
        Section(
            title=f"The paper's way, {OURS}, against the other ways",
            text=("Each from the same source, with the same two intervals.",),
            notes=tuple(_ours(found)),
        ),
    ]
    if len(found.sources) > 1:
        first = found.sources[0].name
        parts.append(
            Section(
                title="What the pretraining loss changes",
                text=(
                    f"Each way from each source less the same way from {first}, seed by seed: the paper's Fig. 6b. "
                    + (
                        "One pretrained model stands for each loss, so that the difference of two models that were "
                        "pretrained with two seeds is in it and not in its interval."
                        if any(len(source.models) == 1 for source in found.sources)
                        else "Each seed starts from a pretrained model of its own, as far as there are so many."
                    ),
                ),
                grids=(_sources_grid(found),),
            )
        )
    return parts


_INTERVALS = (
    f"Each difference has two {LEVEL:.0%} intervals: over seeds (Student's t on runs that share what is drawn anew and "
    "the order of data) and over users and seeds drawn again. A way helps or hurts where both lie on one side of 0; "
    "nothing is corrected for the number of comparisons."
)


def _settings(found: CrossDomain) -> Iterator[str]:
    """Yield what was transferred, and to what."""
    yield from (f"{_source(source)}." for source in found.sources)
    if found.sizes:
        one = found.sizes[-1]
        yield (
            f"Target: {one.dataset}, {one.num_targets:,} {one.split} targets of {one.num_users:,} users, each asked "
            f"for once; {len(one.behaviors.values):,} behaviours, all in the macro means, {one.absent:,} of them "
            "without a target here."
        )
    yield (
        "Every way gets the same D training targets of it, in the same batches and steps, at the same rates, for "
        f"seeds {', '.join(map(str, found.seeds))}; tables and last projection are new in all, and drawn alike."
    )


def _source(source: Source) -> str:
    one = source.models[0]
    seeds = ", ".join(str(found.seed) for found in source.models)
    return (
        f"Pretrained: {source.name}, width {one.config.width}, {one.config.depth} blocks, {one.num_events:,} targets "
        f"of dataset {one.fingerprint[:12]}, seed{'s' if len(source.models) > 1 else ''} {seeds}"
    )


def _ways_grid(found: CrossDomain) -> Grid:
    rows, total = {}, count_params(found.model).total
    for line in found.lines.values():
        way, trained = line.way, line.num_trained
        counts = (f"{trained:,}", percent(trained, total))
        rows[way.name] = (way.name, words(way.takes), way.moved, *counts)
    heads = ("way", "from the pretrained model", "trained (all else is frozen)", "trained parameters", "of the model's")
    return Grid(columns=heads, rows=list(rows.values()))


def _figures_grid(found: CrossDomain) -> Grid:
    rows = []
    for size, comparison in zip(found.num_events, found.sizes, strict=True):
        for one in comparison.rows:
            cells = (_cell(one.estimates[metric]) for metric in COLUMNS)
            rows.append((f"{size:,}", shown(one.row.name), f"{found.lines[one.row.name].num_trained:,}", *cells))
    return Grid(columns=("D", "way", "trained parameters", *COLUMNS.values()), rows=rows)


def _others(comparison: Comparison) -> list[tuple[RowFigures, RowFigures]]:
    """Return every row but the one from scratch, beside it; none where that is missing."""
    scratch = scratch_of(comparison)
    return [(one, scratch) for one in comparison.rows if scratch is not None and one is not scratch]


def _headlines(found: CrossDomain) -> Iterator[str]:
    """Yield for each data size and figure that is judged which ways help, hurt or leave it undecided."""
    for size, comparison in zip(found.num_events, found.sizes, strict=True):
        if not (others := _others(comparison)):
            yield f"At D = {size:,} there is no run from {SCRATCH}, so nothing to compare with."
            continue
        for metric, name in JUDGED.items():
            verdicts = {one.row.name: against(one, scratch, metric).verdict for one, scratch in others}
            named = {v: ", ".join(n for n in verdicts if verdicts[n] == v) for v in ("helps", "hurts", "undecided")}
            said = "; ".join(f"{verdict}: {names}" for verdict, names in named.items() if names)
            yield f"D = {size:,}, {name} against scratch's. {said[0].upper()}{said[1:]}."


def pairs_of_ways(found: CrossDomain, comparison: Comparison) -> list[tuple[RowFigures, RowFigures]]:
    """Return the paper's way beside every other way from the same source."""
    ours = [one for one in comparison.rows if found.lines[one.row.name].way.name == OURS]
    return [
        (mine, one)
        for mine in ours
        for one in comparison.rows
        if one is not mine and found.lines[one.row.name].source == found.lines[mine.row.name].source
    ]


def _ours(found: CrossDomain) -> Iterator[str]:
    """Yield for each data size and figure that is judged which ways the paper's beats, or is beaten by."""
    for size, comparison in zip(found.num_events, found.sizes, strict=True):
        for metric, name in JUDGED.items():
            verdicts: dict[str, list[str]] = {"better than": [], "worse than": []}
            for mine, other in pairs_of_ways(found, comparison):
                gap = against(mine, other, metric)
                said = {"helps": "better than", "hurts": "worse than"}.get(gap.verdict)
                if said and gap.seeds:
                    verdicts[said].append(f"{other.row.name} ({gap.mean:+.4f}, seeds {_range(gap.seeds)})")
            decided = "; ".join(f"{said} {', '.join(names)}" for said, names in verdicts.items() if names)
            yield f"D = {size:,}, {name}: {decided or 'not told apart from any'}."


def _scratch_grid(found: CrossDomain) -> Grid:
    rows = []
    for size, comparison in zip(found.num_events, found.sizes, strict=True):
        for one, scratch in _others(comparison):
            rows += [
                (f"{size:,}", shown(one.row.name), COLUMNS[metric], *_gap(against(one, scratch, metric)))
                for metric in JUDGED
            ]
    return Grid(columns=("D", "way", "figure", "difference", "over seeds", "over users", "transfer"), rows=rows)


def pairs_of_sources(found: CrossDomain, comparison: Comparison) -> list[tuple[RowFigures, RowFigures]]:
    """Return each row from another source than the first beside the same way's row from the first."""
    by_name = {one.row.name: one for one in comparison.rows}
    of = {(line.way.name, line.source): by_name.get(name) for name, line in found.lines.items()}
    first, pairs = found.sources[0].name, []
    for (way, source), one in of.items():
        base = of.get((way, first))
        if one is not None and base is not None and source not in (None, first):
            pairs.append((one, base))
    return pairs


def _sources_grid(found: CrossDomain) -> Grid:
    rows = []
    for size, comparison in zip(found.num_events, found.sizes, strict=True):
        for one, base in pairs_of_sources(found, comparison):
            rows += [
                (f"{size:,}", shown(one.row.name), COLUMNS[metric], *_gap(against(one, base, metric)))
                for metric in JUDGED
            ]
    head = f"less {found.sources[0].name}"
    return Grid(columns=("D", "way", "figure", head, "over seeds", "over users", "the source"), rows=rows)


def _gap(gap: Difference) -> tuple[str, str, str, str]:
    return f"{gap.mean:+.4f}", _range(gap.seeds) if gap.seeds else "one seed", _range(gap.users), gap.verdict


def _range(interval: Interval) -> str:
    return f"{interval.low:+.4f} to {interval.high:+.4f}"


def _cell(estimate: Estimate) -> str:
    return f"{estimate.mean:.4f} +-{(estimate.high - estimate.low) / 2:.4f}"
