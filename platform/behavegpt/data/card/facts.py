"""Everything a card says, as plain values: a dataset directory in, a dictionary that JSON can hold out.

card.json is this dictionary; the pages lay out the same numbers, so the three files cannot disagree.
"""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from behavegpt import __version__
from behavegpt.data.card.baselines import (
    Score,
    fit_repeat_weight,
    fit_unigram,
    score_conditional,
    score_repeat,
    score_unigram,
)
from behavegpt.data.card.lines import DROPPED, num_own_values
from behavegpt.data.card.statistics import GAP_EDGES, MAX_PAIR_TARGETS, Statistics, read_statistics
from behavegpt.data.manifest import Manifest, read_manifest
from behavegpt.data.vocab import Vocabulary, read_vocabulary
from behavegpt.schema import FIRST_KNOWN_ID, OTHER_ID, SPLITS, VOCABULARIES, WINDOW_LENGTH

MAX_BEHAVIORS = 10_000
"""Behaviours that card.json lists one by one, from the head."""
QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
GAP_NAMES = (
    "under 1 minute", "1 to 10 minutes", "10 to 60 minutes", "1 to 6 hours", "6 to 24 hours",
    "1 to 7 days", "7 to 30 days", "30 days or more",
)  # fmt: skip
assert len(GAP_NAMES) == len(GAP_EDGES) + 1

Facts = dict[str, Any]


def read_facts(directory: Path) -> Facts:
    """Return all facts of the dataset in `directory`.

    Raises:
        InputError: There is no dataset there, or a file of it is damaged.
    """
    manifest = read_manifest(directory)
    statistics = read_statistics(directory, manifest)
    behaviors = read_vocabulary(directory / manifest.vocabulary_path("behavior"))
    first = datetime.fromtimestamp(0, UTC).date() + timedelta(days=statistics.first_day)
    return {
        "behavegpt": __version__,
        "name": manifest.name,
        "fingerprint": manifest.fingerprint,
        "schema_version": manifest.schema_version,
        "table1": _table1(manifest, statistics),
        "source": manifest.source,
        "counts": manifest.counts,
        "dropped": {reason: manifest.counts[reason] for reason in DROPPED if reason in manifest.counts},
        "splits": {split: _split(manifest, statistics, split) for split in SPLITS},
        "vocabularies": {c: {"values": manifest.vocabulary_sizes[c] - FIRST_KNOWN_ID} for c in VOCABULARIES},
        "long_tail": _long_tail(statistics, behaviors),
        "rhythm": _rhythm(statistics.rhythm),
        "days": {
            "first": first.isoformat(),
            **{split: statistics.days[split].tolist() for split in SPLITS},
        },
        "events_per_user": _events_per_user(statistics),
        "window_lengths": {split: statistics.lengths[split].tolist() for split in SPLITS},
        "gaps": dict(zip(GAP_NAMES, statistics.gaps.tolist(), strict=True)),
        "baselines": score_baselines(manifest, statistics),
        "floors": _floors(manifest),
    }


def _table1(manifest: Manifest, statistics: Statistics) -> Facts:
    """Return the rows of the paper's Table 1; events and users as cleaning kept them, where the manifest says so."""
    first = datetime.fromtimestamp(0, UTC).date() + timedelta(days=statistics.first_day)
    num_days = len(statistics.days["train"])
    known = {column: num_own_values(manifest, column) for column in VOCABULARIES}
    return {
        "event_types": known["event"],
        "behaviors": known["behavior"],
        "locations": known["location"],
        "users": manifest.counts.get("users", statistics.num_users),
        "first_day": first.isoformat(),
        "last_day": (first + timedelta(days=num_days - 1)).isoformat(),
        "days": num_days,
        "events": manifest.counts.get("events_kept", sum(statistics.num_events.values())),
    }


def _split(manifest: Manifest, statistics: Statistics, split: str) -> Facts:
    content = manifest.splits[split]
    return {
        "from": manifest.cutoffs.get(split),
        "targets": content.num_targets,
        "windows": content.num_windows,
        "users": content.num_users,
        "events_in_windows": statistics.num_events[split],
        "full_windows": int(statistics.lengths[split][WINDOW_LENGTH]),
        "shards": len(content.shards),
        "bytes": sum(shard.num_bytes for shard in content.shards),
    }


def _long_tail(statistics: Statistics, behaviors: Vocabulary) -> Facts:
    """Return how often each behaviour is a target, from head to tail of the training targets."""
    train = statistics.targets["train"]
    known = np.arange(FIRST_KNOWN_ID, len(train))
    order = known[np.argsort(-train[known], kind="stable")]
    seen = train[known][train[known] > 0]
    shares = np.cumsum(train[order]) / max(train.sum(), 1)
    return {
        "head_to_tail": float(seen.max() / seen.min()) if len(seen) else None,
        "behaviors_for_half": int(np.searchsorted(shares, 0.5) + 1) if len(seen) else 0,
        "behaviors_for_90_percent": int(np.searchsorted(shares, 0.9 - 1e-12) + 1) if len(seen) else 0,
        "below_one_in_1000": int((train[order] < 0.001 * train.sum()).sum()),
        "other": {split: int(statistics.targets[split][OTHER_ID]) for split in SPLITS},
        "num_behaviors": len(order),
        "behaviors": [
            {
                "id": int(index),
                "value": behaviors.values[index - FIRST_KNOWN_ID],
                **{split: int(statistics.targets[split][index]) for split in SPLITS},
            }
            for index in order[:MAX_BEHAVIORS]
        ],
    }


def _rhythm(events: np.ndarray) -> Facts:
    """Return the events of each weekday (rows, Monday first) and half hour (columns), and what stands out."""
    return {
        "events": events.tolist(),
        "total": int(events.sum()),
        "weekend": int(events[5:].sum()),
        "busiest": int(events.argmax()),
        "quietest": int(events.argmin()),
    }


def _events_per_user(statistics: Statistics) -> Facts:
    events = statistics.events_per_user
    power = np.bincount(np.log2(np.maximum(events, 1)).astype(int)) if len(events) else np.zeros(0, int)
    return {
        "mean": float(events.mean()) if len(events) else 0.0,
        "quantiles": {f"{q:g}": float(np.quantile(events, q)) for q in QUANTILES} if len(events) else {},
        "histogram": [{"from": 2**i, "to": 2 ** (i + 1) - 1, "users": int(n)} for i, n in enumerate(power)],
        "share_of_users_counted": statistics.user_share,
    }


def score_baselines(manifest: Manifest, statistics: Statistics) -> Facts:
    """Return the scores of every predictor on val and test, and how it was fitted."""
    train, num_ids = statistics.pairs["train"], manifest.vocabulary_sizes["behavior"]
    unigram = fit_unigram(train["behavior"], num_ids)
    weight = fit_repeat_weight(unigram, train["behavior"])

    def scores(pairs: dict[str, Any]) -> dict[str, Score]:
        return {
            "most_frequent": score_unigram(unigram, pairs["behavior"]),
            "half_hour": score_conditional(unigram, train["slot"], pairs["slot"]),
            "repeat_last": score_repeat(unigram, weight, pairs["behavior"]),
            "markov": score_conditional(unigram, train["behavior"], pairs["behavior"]),
            "last_event": score_conditional(unigram, train["event"], pairs["event"]),
        }

    on = {split: scores(statistics.pairs[split]) for split in ("val", "test") if manifest.splits[split].num_targets}
    return {
        "num_classes": num_ids - 1,
        "repeat_weight": weight,
        "targets": {split: _num_counted(statistics, split) for split in SPLITS},
        "max_targets": MAX_PAIR_TARGETS,
        "scores": {split: {name: asdict(score) for name, score in by.items()} for split, by in on.items()},
    }


def _floors(manifest: Manifest) -> dict[str, float]:
    """Return the nats of the generator itself on the splits for which it knows them."""
    known = {split: floor["entropy_nats"] for split, floor in manifest.source.get("floors", {}).items()}
    return known | ({"val": manifest.floor.entropy_nats} if manifest.floor else {})


def _num_counted(statistics: Statistics, split: str) -> int:
    return int(statistics.pairs[split]["behavior"].count.sum())
