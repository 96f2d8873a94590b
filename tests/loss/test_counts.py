"""Counts of targets and of pairs against loops over a written dataset; baselines against their formulas in a loop."""

import math
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from behavegpt.data.manifest import read_manifest
from behavegpt.data.synthetic.generator import GeneratorConfig, write_generated
from behavegpt.data.vocab import read_vocabulary
from behavegpt.loss.baselining import MARKOV_PRIOR, markov_losses, reference_losses, unigram_losses
from behavegpt.loss.counts import Transitions, count_targets, count_transitions


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "tiny"
    config = GeneratorConfig(num_users=9, num_train_events=1_800, num_val_windows=2, num_test_windows=2)
    write_generated(out, config, "tiny")
    return out


def targets_of(dataset: Path) -> list[tuple[int, int]]:
    """Return (behaviour before, behaviour) of every training target, by a loop over the shards' rows."""
    pairs = []
    for path in sorted((dataset / "train").glob("*.parquet")):
        table = pq.read_table(path)
        for ids, first in zip(table["behavior"].to_pylist(), table["first_target"].to_pylist(), strict=True):
            pairs += [(ids[i - 1], ids[i]) for i in range(first, len(ids)) if ids[i] != 0]
    return pairs


def test_counts_equal_a_loop_and_are_not_those_of_events(dataset):
    manifest = read_manifest(dataset)
    pairs = targets_of(dataset)
    counts = count_targets(dataset, manifest)
    found = Counter(b - 1 for _, b in pairs)
    assert counts.tolist() == [found[c] for c in range(manifest.vocabulary_sizes["behavior"] - 1)]
    assert counts.sum() == manifest.splits["train"].num_targets
    events = read_vocabulary(dataset / manifest.vocabulary_path("behavior")).counts
    assert sum(events) == counts.sum() + 9  # the first event of each user is no target


def test_transitions_equal_a_loop(dataset):
    manifest = read_manifest(dataset)
    num_classes = manifest.vocabulary_sizes["behavior"] - 1
    transitions = count_transitions(dataset, manifest)
    found = {
        divmod(pair, num_classes): count
        for pair, count in zip(transitions.pairs.tolist(), transitions.counts.tolist(), strict=True)
    }
    assert found == Counter((a, b - 1) for a, b in targets_of(dataset))
    assert (np.diff(transitions.pairs) > 0).all()


def test_a_damaged_shard_is_named(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "damaged")
    path = copy / "train" / "part-00000.parquet"
    data = bytearray(path.read_bytes())
    data[pq.read_metadata(path).row_group(0).column(2).data_page_offset + 30] ^= 1
    path.write_bytes(data)
    for count in (count_targets, count_transitions):
        with pytest.raises(OSError, match=f"^{path}: "):
            count(copy, read_manifest(copy))


def test_unigram_by_hand():
    np.testing.assert_allclose(unigram_losses(np.array([6, 3, 0, 1])), -np.log([0.6, 0.3, 1.0, 0.1]))


def test_markov_scores_each_target_by_all_others():
    """By a loop over single targets, taking each out of the counts before it is scored."""
    rng = np.random.default_rng(0)
    sequence = rng.choice(4, 300, p=[0.6, 0.3, 0.08, 0.02])
    pairs = [(int(a) + 1, int(b)) for a, b in pairwise(sequence)]
    counts = np.append(np.bincount([b for _, b in pairs], minlength=4), 0)
    both, before = Counter(pairs), Counter(a for a, _ in pairs)
    losses: dict[int, list[float]] = {b: [] for b in range(5)}
    for a, b in pairs:
        share = counts[b] / 299
        losses[b].append(-math.log((both[a, b] - 1 + MARKOV_PRIOR * share) / (before[a] - 1 + MARKOV_PRIOR)))
    keys, numbers = np.unique([a * 5 + b for a, b in pairs], return_counts=True)
    found = markov_losses(counts, Transitions(keys, numbers))
    np.testing.assert_allclose(found, [sum(v) / max(1, len(v)) for v in losses.values()], rtol=1e-12)


def test_markov_knows_more_than_the_unigram_of_a_chain(dataset):
    manifest = read_manifest(dataset)
    counts = count_targets(dataset, manifest)
    markov = markov_losses(counts, count_transitions(dataset, manifest))
    mean = {"markov": markov @ counts / counts.sum(), "unigram": unigram_losses(counts) @ counts / counts.sum()}
    assert mean["markov"] < mean["unigram"]


def test_a_reference_model_without_targets_of_a_class_counts_as_the_unigram():
    counts = np.array([8, 2])
    found = reference_losses(counts, np.array([3.0, 0.0]), np.array([9.0, 0.0]))
    np.testing.assert_allclose(found, [(3 - math.log(0.8)) / 10, -math.log(0.2)])
