"""The words of an ablation: its figures in, sections of sentences and tables out; the same for terminal and page.

Everything stands as it was measured, whether a loss wins or not.
"""

from collections.abc import Iterator, Sequence
from textwrap import wrap

import numpy as np

from behavegpt.data.card.sections import Grid, Section
from behavegpt.data.card.text import percent, shown
from behavegpt.tasks.ablation.compare import (
    MIN_TARGETS,
    Ablation,
    Difference,
    Interval,
    LossFigures,
    Stage,
    difference,
    groups,
    mean_recall,
    over_seeds,
    over_the_cheap_rival,
)
from behavegpt.tasks.ablation.runs import ALONG, PATH
from behavegpt.tasks.figures import FIRST_BEHAVIOR, NUM_DRAWS
from behavegpt.tasks.next_behavior import LEVEL

COLUMNS = {
    "rec_m": "Rec_m",
    "rec_w": "Rec_w",
    "nats": "nats",
    "prec_m": "Prec_m",
    "prec_w": "Prec_w",
    "prec_w_eq6": "eq. 6",
    "rec_w_eq7": "eq. 7",
    "ece": "ECE",
}
JUDGED = {"rec_m": "macro recall", "rec_w": "weighted recall", "nats": "cross-entropy"}
"""On which a loss is set against plain cross-entropy."""
_SAID = {"helps": "helps {}", "hurts": "hurts {}", "undecided": "leaves {} undecided"}
WIDTH = 120
"""Of sentences in a terminal."""
STAGES: dict[Stage, str] = {"as_trained": "as trained", "to_data": "prior corrected to the data"}


def sections(ablation: Ablation, left_out: Sequence[str]) -> list[Section]:
    """Return the sections of the report, in order.

    Args:
        left_out: A sentence for each loss without figures.
    """
    return [
        Section(
            title="What each loss does",
            text=(_what(ablation), *headlines(ablation)),
            notes=(*left_out, *(verdict_sentence(loss, ablation.losses[0]) for loss in ablation.losses[1:])),
            grids=(_figures_grid(ablation, "as_trained"),),
        ),
        Section(
            title="Differences to plain cross-entropy",
            text=(
                f"Each difference has two {LEVEL:.0%} intervals: over seeds (Student's t on runs that share "
                f"initialisation and order of data) and over users ({NUM_DRAWS:,} draws of the same users for both, "
                "models as they are). A loss helps or hurts where both lie on one side of 0; nothing is corrected for "
                "the number of comparisons.",
            ),
            figures=("differences",),
            grids=(_differences_grid(ablation, "as_trained"),),
        ),
        Section(
            title="Recall from head to tail",
            text=(_groups_text(ablation), _rarest_text(ablation)),
            figures=("groups",),
            grids=(_groups_grid(ablation), _rarest_grid(ablation)),
        ),
        Section(
            title="How much of it is a shift of the prior",
            text=_PRIOR_TEXT,
            notes=tuple(rival_sentence(loss, ablation.losses[0]) for loss in ablation.losses[1:]),
            figures=("path",),
            grids=(_path_grid(ablation), _differences_grid(ablation, "to_data")),
        ),
    ]


_PRIOR_TEXT = (
    "A robust loss trains on another class distribution than the data's, so that its model also predicts for another "
    "one. By Bayes' rule log(wanted / trained), added to the logits, takes that back. Strength 0 is the model as "
    "trained, 1 is right for the data's frequencies p; from there balance b aims at p^(1 - b), uniform at 1. What "
    "is left of a difference at strength 1 is what the loss has learned beyond the prior.",
    "Plain cross-entropy on the same path costs no further training, and is the rival to beat: at the weighted recall "
    "of a loss as trained, what macro recall has plain cross-entropy, corrected just so far?",
)


def lines(parts: Sequence[Section]) -> Iterator[str]:
    """Yield the sections as text for a terminal."""
    for part in parts:
        yield from ("", part.title)
        for sentence in (*part.text, *part.notes):
            yield from wrap(sentence, WIDTH, initial_indent="  ", subsequent_indent="    ")
        for grid in part.grids:
            rows = [grid.columns, *grid.rows]
            widths = [max(len(row[i]) for row in rows) for i in range(len(grid.columns))]
            yield ""
            yield from ("  " + "  ".join(v.ljust(w) for v, w in zip(r, widths, strict=True)).rstrip() for r in rows)


def headlines(ablation: Ablation) -> Iterator[str]:
    """Yield for each figure that is judged which losses help, hurt or leave it undecided, as trained."""
    erm, *others = ablation.losses
    for metric, words in JUDGED.items() if others else ():
        verdicts = {loss.name: difference(loss, erm, metric).verdict for loss in others}
        named = {v: ", ".join(name for name in verdicts if verdicts[name] == v) for v in _SAID}
        said = "; ".join(f"{verdict}: {names}" for verdict, names in named.items() if names)
        yield f"{words.capitalize()} against plain cross-entropy's. {said[0].upper()}{said[1:]}."


def verdict_sentence(loss: LossFigures, erm: LossFigures) -> str:
    """Return for each figure that is judged whether the loss helps, hurts or leaves it undecided."""
    said = []
    for metric, words in JUDGED.items():
        gap = difference(loss, erm, metric)
        said.append(f"{_SAID[gap.verdict].format(words)} ({_gap(gap)})")
    return f"{loss.name} {'; '.join(said)}."


def rival_sentence(loss: LossFigures, erm: LossFigures) -> str:
    """Return how the loss compares with plain cross-entropy at the same weighted recall."""
    gaps = over_the_cheap_rival(loss, erm)
    if np.isnan(gaps).any():
        return f"{loss.name} as trained has a weighted recall that corrected plain cross-entropy does not meet."
    mean, seeds = float(gaps.mean()), over_seeds(gaps)
    better = "better" if mean > 0 else "worse"
    said = better if seeds is not None and (seeds.low > 0 or seeds.high < 0) else "not told apart"
    return (
        f"{loss.name} is {said}: {mean:+.4f} of macro recall{_over('seeds', seeds)} against plain cross-entropy "
        "corrected to the same weighted recall."
    )


def _gap(gap: Difference) -> str:
    return f"{gap.mean:+.4f}{_over('seeds', gap.seeds)}{_over('users', gap.users)}"


def _over(what: str, interval: Interval | None) -> str:
    return f", {what} {interval.low:+.4f} to {interval.high:+.4f}" if interval else ""


def _what(ablation: Ablation) -> str:
    seeds = ", ".join(map(str, ablation.seeds))
    absent = int((ablation.targets[FIRST_BEHAVIOR:] == 0).sum())
    return (
        f"{ablation.num_targets:,} {ablation.split} targets of {ablation.num_users:,} users, each asked for once; "
        f"seeds {seeds}. Macro means are over all {len(ablation.behaviors.values):,} behaviours, {absent:,} of them "
        "without a target here. Numbers are means over the seeds, with +- half the "
        f"{LEVEL:.0%} interval over seeds. Cross-entropy is plain, whatever was trained."
    )


def _figures_grid(ablation: Ablation, stage: Stage) -> Grid:
    rows = []
    for loss in ablation.losses:
        of = getattr(loss, stage)
        rarest = mean_recall(of, ablation.rarest)
        rows.append((loss.name, *(_cell(of.runs[metric]) for metric in COLUMNS), _cell(rarest)))
    return Grid(columns=("loss", *COLUMNS.values(), f"{len(ablation.rarest)} rarest"), rows=rows)


def _differences_grid(ablation: Ablation, stage: Stage) -> Grid:
    rows = []
    for loss in ablation.losses[1:]:
        for metric in JUDGED:
            gap = difference(loss, ablation.losses[0], metric, stage)
            seeds = _range(gap.seeds) if gap.seeds else "one seed"
            rows.append((loss.name, COLUMNS[metric], f"{gap.mean:+.4f}", seeds, _range(gap.users), gap.verdict))
    return Grid(columns=(STAGES[stage], "figure", "difference", "over seeds", "over users", "the loss"), rows=rows)


def _groups_grid(ablation: Ablation) -> Grid:
    parts = groups(ablation)
    total = ablation.train_targets.sum()
    heads = [
        f"{part[0] - FIRST_BEHAVIOR + 1}-{part[-1] - FIRST_BEHAVIOR + 1} "
        f"({percent(int(ablation.train_targets[part].sum()), total)})"
        for part in parts
    ]
    rows = [(loss.name, *(_cell(mean_recall(loss.as_trained, part)) for part in parts)) for loss in ablation.losses]
    return Grid(columns=("recall", *heads), rows=rows)


def _groups_text(ablation: Ablation) -> str:
    return (
        "Behaviours by their frequency in training, in parts of equal number from head to tail (in brackets their "
        "share of the training targets); mean recall of those that are targets here, models as trained."
    )


def _rarest_text(ablation: Ablation) -> str:
    if not len(ablation.rarest):
        return f"No behaviour has {MIN_TARGETS} targets here, so none stands for the tail alone."
    return (
        f"The paper's Fig. 6a looks at five low-proportion behaviours. Here they are the {len(ablation.rarest)} rarest "
        f"in training of those with at least {MIN_TARGETS} targets."
    )


def _rarest_grid(ablation: Ablation) -> Grid:
    total, names = int(ablation.train_targets.sum()), ablation.behaviors.values
    rows = []
    for c in ablation.rarest:
        recalls = (_cell(loss.as_trained.recall[:, c]) for loss in ablation.losses)
        share = percent(int(ablation.train_targets[c]), total)
        rows.append((shown(names[c - FIRST_BEHAVIOR]), share, f"{ablation.targets[c]:,}", *recalls))
    return Grid(columns=("behaviour", "of training", "targets", *(loss.name for loss in ablation.losses)), rows=rows)


def _path_grid(ablation: Ablation) -> Grid:
    """Return macro recall, weighted recall and cross-entropy along the path, a row a loss and figure."""
    heads = [f"strength {c.strength:g}" if c.balance == 0 else f"balance {c.balance:g}" for c in PATH]
    chosen = [i for i, c in enumerate(PATH) if c.balance in (0, 0.25, 0.5, 0.75, 1, 1.25)]
    rows = [
        (loss.name, COLUMNS[metric], *(f"{loss.along[:, i, k].mean():.4f}" for i in chosen))
        for loss in ablation.losses
        for k, metric in enumerate(ALONG)
    ]
    return Grid(columns=("loss", "figure", *(heads[i] for i in chosen)), rows=rows)


def _cell(values: np.ndarray) -> str:
    """Return the mean of the runs and half of its interval over seeds."""
    if np.isnan(values).any():
        return "-"
    seeds = over_seeds(values)
    return f"{values.mean():.4f}" + (f" +-{seeds.high - seeds.mean:.4f}" if seeds else "")


def _range(interval: Interval) -> str:
    return f"{interval.low:+.4f} to {interval.high:+.4f}"
