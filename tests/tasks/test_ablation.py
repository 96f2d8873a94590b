"""The figures of an ablation: hand-made scores against plain loops, intervals and verdicts against tables."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from behavegpt.data.batches import Batch
from behavegpt.data.manifest import Manifest
from behavegpt.data.vocab import Vocabulary
from behavegpt.schema import FEATURES, NUM_INPUTS
from behavegpt.tasks.ablation.compare import (
    Ablation,
    Interval,
    ablate,
    difference,
    groups,
    mean_recall,
    over_seeds,
    over_the_cheap_rival,
    verdict,
)
from behavegpt.tasks.ablation.page import to_json, write_ablation
from behavegpt.tasks.ablation.runs import AS_TRAINED, PATH, TO_DATA, Correction, Run, measure, wanted_prior
from behavegpt.tasks.ablation.text import headlines, lines, rival_sentence, sections, verdict_sentence
from behavegpt.tasks.figures import draw_weights
from behavegpt.tasks.targets import TargetBatch

COUNTS = np.array([0, 60, 30, 8, 2])
"""Training targets: class 0 is `other`."""
DATA = COUNTS / COUNTS.sum()
NUM_USERS, PER_USER = 8, 30


class Scorer:
    """A system of fixed scores, one row a target."""

    trained = True
    num_params = 0
    num_params_total = 0

    def __init__(self, name, scores):
        self.name = name
        self._scores = scores
        self._at = 0

    def fit(self, training):
        pass

    def scores(self, batch):
        num = len(batch.targets)
        self._at = (self._at + num) % len(self._scores)
        return self._scores[self._at - num if self._at else len(self._scores) - num :][:num]


def batches() -> list[TargetBatch]:
    """Return two batches of four users; class 4 is rare and class 0 never a target."""
    made, rng = [], np.random.default_rng(0)
    for first in (0, 4):
        targets = np.full((4, NUM_INPUTS), -1)
        targets[:, :PER_USER] = rng.choice([1, 2, 3, 4], (4, PER_USER), p=[0.54, 0.3, 0.12, 0.04])
        inputs = Batch({name: np.zeros_like(targets) for name in FEATURES}, targets, np.zeros(4, np.uint64))
        users = np.arange(first, first + 4).astype(np.uint64) * np.uint64(7)
        made.append(TargetBatch(inputs=inputs, behavior=np.zeros_like(targets), user=users))
    return made


TARGETS = np.concatenate([batch.targets for batch in batches()])
USERS = np.unique(np.concatenate([batch.user for batch in batches()]))


def run(loss: str, seed: int, skill: float, prior=DATA) -> Run:
    """Return a run whose logits are noise, `skill` more at the target, and the log of its prior."""
    rng = np.random.default_rng([seed, len(loss)])
    scores = rng.normal(size=(len(TARGETS), len(COUNTS))) + np.log(np.maximum(prior, 1e-3))
    scores[np.arange(len(TARGETS)), TARGETS] += skill
    return Run(loss=loss, seed=seed, system=Scorer(f"{loss}, seed {seed}", scores), prior=torch.tensor(prior))


def manifest() -> Manifest:
    return Manifest(name="hand", vocabulary_sizes={"behavior": 6}, splits={}, source={}, counts={})


def ablation(*runs: Run, values=("a", "b", "c", "d")) -> Ablation:
    return ablate(
        runs,
        batches,
        manifest=manifest(),
        behaviors=Vocabulary(values, (60, 30, 8, 2)),
        counts=COUNTS,
        split="test",
        progress=lambda name: None,
    )


BALANCED = np.array([0, 1, 1, 1, 1]) / 4


@pytest.fixture(scope="module")
def found() -> Ablation:
    """Return three seeds of plain cross-entropy, of a loss with a balanced prior, and of one with more skill."""
    return ablation(
        *(run("erm", seed, 1.0) for seed in (0, 1, 2)),
        *(run("flat", seed, 1.0, BALANCED) for seed in (0, 1, 2)),
        *(run("strong", seed, 4.0) for seed in (0, 1, 2)),
    )


def test_the_wanted_prior_goes_from_the_frequencies_to_uniform():
    counts = torch.tensor([0, 9, 1])
    # Square roots of 0.9 and 0.1 are 3 to 1.
    for balance, expected in ((0.0, [0, 0.9, 0.1]), (0.5, [0, 0.75, 0.25]), (1.0, [0, 0.5, 0.5]), (2.0, [0, 0.1, 0.9])):
        assert wanted_prior(counts, balance).tolist() == pytest.approx(expected)


def test_every_point_of_the_path_is_the_loop_over_targets():
    trained = np.array([0, 0.4, 0.3, 0.2, 0.1])
    one = run("flat", 3, 1.0, trained)
    scores = one.system._scores  # pyright: ignore[reportAttributeAccessIssue]
    along = measure(one, batches(), USERS, torch.from_numpy(COUNTS)).along
    for index, (strength, balance) in enumerate(PATH):
        powers = [p ** (1 - balance) if p else 0.0 for p in DATA]
        hits, actual, nats = dict.fromkeys(range(5), 0), dict.fromkeys(range(5), 0), 0.0
        for row, target in zip(scores, TARGETS, strict=True):
            logits = [
                s + (strength * math.log(powers[c] / sum(powers) / trained[c]) if c else 0.0) for c, s in enumerate(row)
            ]
            hits[target] += max(range(5), key=lambda c: logits[c]) == target
            actual[target] += 1
            nats += math.log(sum(map(math.exp, logits))) - logits[target]
        macro = sum(hits[c] / actual[c] for c in (1, 2, 3, 4)) / 4
        assert along[index] == pytest.approx([macro, sum(hits.values()) / len(TARGETS), nats / len(TARGETS)], abs=1e-5)


def test_a_correction_to_the_prior_of_the_data_undoes_another_prior(found):
    """Equal noise, skill 1: after correction the balanced loss's logits are plain cross-entropy's own."""
    same = ablation(run("erm", 5, 1.0), replace(run("erm", 5, 1.0), loss="x"))
    assert difference(same.losses[1], same.losses[0], "rec_m").mean == 0
    noise = np.random.default_rng(1).normal(size=(len(TARGETS), 5))
    runs = [
        Run(loss=name, seed=0, system=Scorer(name, noise + np.log(np.maximum(p, 1e-9))), prior=torch.tensor(p))
        for name, p in (("erm", DATA), ("flat", BALANCED))
    ]
    undone = ablation(*runs)
    assert undone.losses[1].as_trained.runs["rec_m"][0] != undone.losses[0].as_trained.runs["rec_m"][0]
    assert undone.losses[1].to_data.runs == undone.losses[0].to_data.runs
    # And plain cross-entropy, corrected to uniform, is the balanced loss as trained.
    assert undone.losses[0].along[0, PATH.index(Correction(1.0, 1.0))] == pytest.approx(
        undone.losses[1].along[0, 0], abs=1e-6
    )


def test_the_path_starts_as_trained_and_passes_the_data_and_uniform():
    assert [PATH[0], PATH[4], PATH[12]] == [AS_TRAINED, TO_DATA, Correction(1.0, 1.0)]


def test_the_interval_over_seeds_is_students():
    # Mean 2, standard deviation 1; t of 2 degrees of freedom at 97.5 % is 4.302653 (any table).
    found = over_seeds(np.array([1.0, 2.0, 3.0]))
    assert found == pytest.approx((2, 2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), abs=1e-6)
    assert over_seeds(np.array([1.0])) is None


@pytest.mark.parametrize(
    ("seeds", "users", "said"),
    [
        ((0.1, 0.3), (0.05, 0.2), "helps"),
        ((-0.3, -0.1), (-0.2, -0.05), "hurts"),
        ((-0.1, 0.3), (0.05, 0.2), "undecided"),
        ((0.1, 0.3), (-0.05, 0.2), "undecided"),
        ((0.1, 0.3), (-0.2, -0.05), "undecided"),
        (None, (0.05, 0.2), "undecided"),
    ],
)
def test_a_verdict_takes_both_intervals(seeds, users, said):
    of_seeds, of_users = (Interval(0.0, *pair) if pair else None for pair in (seeds, users))
    assert of_users is not None
    assert verdict(of_seeds, of_users) == said
    turned = {"helps": "hurts", "hurts": "helps", "undecided": "undecided"}
    assert verdict(of_seeds, of_users, smaller_is_better=True) == turned[said]


def test_differences_are_paired_by_seed_and_by_user(found):
    erm, _, strong = found.losses
    hits = {}
    for name, skill in (("erm", 1.0), ("strong", 4.0)):
        scores = [run(name, seed, skill).system._scores for seed in (0, 1, 2)]  # pyright: ignore[reportAttributeAccessIssue]
        hits[name] = np.array([s.argmax(axis=1) == TARGETS for s in scores]).reshape(3, NUM_USERS, PER_USER).mean(2)
    gaps = hits["strong"] - hits["erm"]
    gap = difference(strong, erm, "rec_w")
    assert gap.mean == pytest.approx(gaps.mean())
    half = 4.302653 * gaps.mean(axis=1).std(ddof=1) / math.sqrt(3)
    assert gap.seeds == pytest.approx((gaps.mean(), gaps.mean() - half, gaps.mean() + half), abs=1e-6)
    # Every user has as many targets, so a draw of users is the mean of their own means.
    draws = [w @ gaps.mean(axis=0) / NUM_USERS for chunk in draw_weights(NUM_USERS, 0) for w in chunk]
    assert gap.users == pytest.approx((gaps.mean(), *np.quantile(draws, [0.025, 0.975])), abs=1e-9)
    assert gap.verdict == "helps"
    assert difference(strong, erm, "nats").verdict == "helps"
    assert difference(erm, strong, "rec_w").verdict == "hurts"
    assert "Weighted recall against plain cross-entropy's. Helps: strong; undecided: flat." in headlines(found)
    sentence = verdict_sentence(strong, erm)
    assert sentence.startswith(f"strong helps macro recall (+{difference(strong, erm, 'rec_m').mean:.4f}, seeds ")
    assert "; helps weighted recall (" in sentence and "; helps cross-entropy (-" in sentence


def test_one_seed_decides_nothing():
    one = ablation(run("erm", 0, 1.0), run("strong", 0, 4.0))
    gap = difference(one.losses[1], one.losses[0], "rec_w")
    assert gap.seeds is None and gap.verdict == "undecided" and gap.users.low > 0
    assert "strong leaves macro recall undecided (+" in verdict_sentence(one.losses[1], one.losses[0])
    assert "one seed" in "\n".join(lines(sections(one, [])))


def test_the_rival_is_plain_cross_entropy_at_equal_weighted_recall(found):
    erm = replace(found.losses[0], along=np.zeros((1, len(PATH), 3)))
    # From the data's frequencies to uniform: weighted recall 0.60, 0.55 .. 0.10; macro recall 0.10, 0.15 .. 0.60.
    erm.along[0, 4:, 1] = 0.6 - 0.05 * np.arange(11)
    erm.along[0, 4:, 0] = 0.1 + 0.05 * np.arange(11)
    loss = replace(erm, name="x", along=np.zeros((1, len(PATH), 3)))
    loss.along[0, 0] = (0.2, 0.575, 2.0)
    assert over_the_cheap_rival(loss, erm) == pytest.approx([0.2 - 0.125])
    assert rival_sentence(loss, erm).startswith("x is not told apart: +0.0750 of macro recall against plain")
    worse, rival = (replace(erm, along=np.repeat(one.along, 2, axis=0)) for one in (loss, erm))
    worse.along[:, 0, 0] = (0.10, 0.11)
    assert over_the_cheap_rival(worse, rival) == pytest.approx([-0.025, -0.015])
    # Mean -0.02, and t of 1 degree of freedom, 12.706, times half the gap of 0.01.
    assert "undecided" not in (said := rival_sentence(worse, rival)) and said.startswith("erm is not told apart: -0.02")
    worse.along[:, 0, 0] = (0.10, 0.1001)
    assert rival_sentence(worse, rival).startswith("erm is worse: -0.0249")
    loss.along[0, 0, 1] = 0.7
    assert np.isnan(over_the_cheap_rival(loss, erm)).all()
    assert "does not meet" in rival_sentence(loss, erm)


def test_groups_run_from_head_to_tail_and_the_rarest_have_enough_targets(found):
    assert [group.tolist() for group in groups(found)] == [[1], [2], [3], [4]]
    actual = np.bincount(TARGETS, minlength=5)
    assert (actual[1:4] >= 20).all() and actual[4] < 20
    assert found.rarest.tolist() == [1, 2, 3]
    erm = found.losses[0]
    scores = run("erm", 0, 1.0).system._scores  # pyright: ignore[reportAttributeAccessIssue]
    recalls = [(scores[c == TARGETS].argmax(axis=1) == c).mean() for c in (3, 4)]
    assert mean_recall(erm.as_trained, np.array([3, 4]))[0] == pytest.approx(np.mean(recalls))
    assert np.isnan(mean_recall(erm.as_trained, np.array([0]))).all()


def test_the_page_is_inert_and_no_name_of_the_log_is_markup(found, tmp_path):
    hostile = replace(found, behaviors=Vocabulary(("<script>x</script>", "a|b", "`c`", "d"), (60, 30, 8, 2)))
    parts = sections(hostile, ["kl-0.5 is left out: seed 0 diverged (no reason)."])
    page = write_ablation(tmp_path, hostile, parts, "width 8")
    text = page.read_text()
    assert "<script" not in text and "&lt;script&gt;" in text
    assert "default-src 'none'" in text and "http" not in text.replace("http://www.w3.org", "").replace(
        "http-equiv", ""
    )
    assert text.count("<svg") == 3 and ":root" in text and "kl-0.5 is left out" in text
    markdown = (tmp_path / "ablation.md").read_text()
    assert "a\\|b" in markdown and "<script" not in markdown
    content = to_json(hostile)
    assert [loss["name"] for loss in content["losses"]] == ["erm", "flat", "strong"]
    assert len(content["classes"]) == 5 and content["classes"][-1]["recall"]["erm"]["as_trained"] == [None] * 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ablation.html", "ablation.json", "ablation.md"]
