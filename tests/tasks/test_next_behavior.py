"""Rows against each other: several seeds, paired differences, what the reader is told, on figures known by hand."""

import json
import re

import numpy as np
import pytest

from behavegpt.data.batches import Batch
from behavegpt.data.manifest import Manifest, Split
from behavegpt.data.vocab import Vocabulary
from behavegpt.tasks.next_behavior import Row, compare, difference
from behavegpt.tasks.report import lines, to_json
from behavegpt.tasks.report_page import write_comparison
from behavegpt.tasks.targets import TargetBatch

NUM_USERS = 30
BEHAVIORS = Vocabulary(("walk", "eat", "sleep", "fly"), (50, 30, 19, 1))
EMPTY = Split(num_windows=0, num_targets=0, num_users=0, shards=())
MANIFEST = Manifest(
    name="toy",
    vocabulary_sizes={"weekday": 8, "slot": 49, "location": 2, "event": 2, "behavior": 6},
    splits=dict.fromkeys(("train", "val", "test"), EMPTY),
    source={},
    counts={},
)


class Fixed:
    """Right in the first `share` of each user's ten targets; elsewhere it says class 1, or 2 where 1 is right."""

    trained = True
    num_params, num_params_total = 7, 9

    def __init__(self, name: str, share: float) -> None:
        self.name, self.share = name, share

    def fit(self, training: object) -> None: ...

    def scores(self, batch: TargetBatch) -> np.ndarray:
        position = batch.places[1]
        guess = np.where(position < 10 * self.share, batch.targets, np.where(batch.targets == 1, 2, 1))
        return np.log(np.where(np.arange(5) == guess[:, None], 0.64, 0.09))


def batches() -> list[TargetBatch]:
    """Return ten targets of each user: five walk, three eat, two sleep, and none flies."""
    classes = np.full((NUM_USERS, 90), -1)
    classes[:, :10] = [1, 2, 3, 1, 2, 3, 1, 2, 1, 1]
    inputs = Batch({"slot": np.ones((NUM_USERS, 90), np.int64)}, classes, np.zeros(NUM_USERS, np.uint64))
    behavior = np.ones((NUM_USERS, 90), np.int64)
    return [TargetBatch(inputs=inputs, behavior=behavior, user=np.arange(NUM_USERS, dtype=np.uint64))]


def run(*rows: Row):
    return compare(
        rows,
        batches,
        manifest=MANIFEST,
        behaviors=BEHAVIORS,
        split="val",
        protocol="every",
        progress=lambda name: None,
    )


@pytest.fixture
def comparison():
    model = tuple(Fixed("model", share) for share in (0.5, 0.6, 0.7))
    return run(
        Row(name="model", runs=model, seeds=(0, 1, 2), num_events=100, is_model=True),
        Row(name="good", runs=(Fixed("good", 0.9),)),
        Row(name="bad", runs=(Fixed("bad", 0.2),)),
    )


def test_the_mean_over_seeds_and_its_interval(comparison):
    """All users are alike, so what varies is the seed alone: 1 draw in 27, more than 2.5 %, takes .5 three times."""
    accuracy = comparison.rows[0].estimates["rec_w"]
    assert accuracy.mean == pytest.approx(0.6)
    assert accuracy.seed_sd == pytest.approx(0.1)
    assert (accuracy.low, accuracy.high) == pytest.approx((0.5, 0.7))
    good = comparison.rows[1].estimates["rec_w"]
    assert (good.mean, good.low, good.high, good.seed_sd) == pytest.approx((0.9, 0.9, 0.9, None))


def test_recall_of_each_class_and_the_absent_one_counts(comparison):
    """`good` is right but for the last target, which walks: recall 4/5, 1, 1 and 0 for flying."""
    counts = comparison.rows[1].counts
    assert (counts.hits[1:] / NUM_USERS).tolist() == [4, 3, 2, 0]
    assert comparison.absent == 1
    assert comparison.rows[1].estimates["rec_m"].mean == pytest.approx((4 / 5 + 1 + 1 + 0) / 4)
    # Walking is never said wrongly; eating once, for the last target.
    assert comparison.rows[1].estimates["prec_m"].mean == pytest.approx((1 + 3 / 4 + 1 + 0) / 4)


def test_differences_are_of_the_same_users(comparison):
    model, good, bad = comparison.rows
    gap = difference(model, good, "rec_w")
    assert gap.mean == pytest.approx(-0.3)
    assert gap.high < 0
    assert difference(model, bad, "rec_w").low > 0
    assert difference(good, bad, "rec_w").low == pytest.approx(0.7)


def test_the_reader_is_told_where_the_model_loses(comparison):
    text = "\n".join(lines(comparison))
    assert "toy val: every target, 300 of 30 users, after 5.5 events on average" in text
    assert "4 behaviours, all in the macro means, 1 of them not here; 0 targets are of none of them" in text
    assert "Rec_w  LOSES to             good  -0.3000" in text
    alone = run(*(found.row for found in (comparison.rows[0], comparison.rows[2])))
    assert "Rec_w  beats                bad  +0.4000" in "\n".join(lines(alone))


def test_the_page_says_what_the_terminal_says_and_loads_nothing(comparison, tmp_path):
    page = write_comparison(tmp_path, comparison).read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluate.html", "evaluate.json", "evaluate.md"]
    assert json.loads((tmp_path / "evaluate.json").read_text()) == json.loads(json.dumps(to_json(comparison)))
    markdown = (tmp_path / "evaluate.md").read_text()
    for text in (page, markdown):
        assert "every target, 300 of 30 users, after 5.5 events on average" in text
    # The mean of 0.5, 0.6 and 0.7 right, against 0.9 and 0.2.
    assert re.search(r"\| model \| 7 \| 9 \| 100 \| 3 \|.* 0\.6000 ", markdown)
    assert "| model | Rec\\_w | LOSES to good | -0.3000 |" in markdown
    assert "| model | Rec\\_w | beats bad | +0.4000 |" in markdown
    # They walk at 0, 3, 6, 8 and 9: right are (2 + 2 + 3) / 15, 4 / 5 and 1 / 5.
    assert "| walk | 50 % | 0.4667 | 0.8000 | 0.2000 |" in markdown
    assert page.count("<svg") == 3 and "<script" not in page
    assert not re.search(r"(src|href)=.?https?:", page)


def test_what_json_has_no_number_for_is_null(tmp_path):
    class Certain(Fixed):
        """Rules out every class but its guess, so that a target it misses costs infinitely many nats."""

        def scores(self, batch: TargetBatch) -> np.ndarray:
            scores = super().scores(batch)
            return np.where(scores == scores.max(axis=1, keepdims=True), 0.0, -np.inf)

    write_comparison(tmp_path, run(Row(name="certain", runs=(Certain("certain", 0.5),))))
    [found] = json.loads((tmp_path / "evaluate.json").read_text())["systems"]
    assert found["metrics"]["nats"]["mean"] is None
    assert found["metrics"]["rec_w"]["mean"] == pytest.approx(0.5)


def test_everything_is_in_the_json(comparison):
    found = to_json(comparison)
    assert [row["name"] for row in found["systems"]] == ["model", "good", "bad"]
    assert [run["rec_w"] for run in found["systems"][0]["runs"]] == pytest.approx([0.5, 0.6, 0.7])
    assert found["systems"][0]["seeds"] == [0, 1, 2]
    assert found["systems"][1]["mean_over_users"]["hr@1"] == pytest.approx(0.9)
    assert [row["behavior"] for row in found["classes"]] == ["walk", "eat", "sleep", "fly", None]
    assert [row["targets"] for row in found["classes"]] == [150, 90, 60, 0, 0]
    assert found["classes"][0]["systems"]["good"]["recall"] == pytest.approx(4 / 5)
    assert [row["other"] for row in found["differences"]] == ["good", "bad"]
    [used] = [b for b in found["calibration"]["good"] if b["predictions"]]
    assert (used["from"], used["predictions"]) == (pytest.approx(9 / 15), 300)
    assert used["mean_confidence"] == pytest.approx(0.64)
    assert used["share_right"] == pytest.approx(0.9)
    assert found["systems"][1]["metrics"]["ece"]["mean"] == pytest.approx(0.9 - 0.64)


def test_a_system_with_scores_of_another_shape_is_named():
    class Short(Fixed):
        def scores(self, batch: TargetBatch) -> np.ndarray:
            return super().scores(batch)[:-1]

    with pytest.raises(ValueError, match=r"short: scores of shape \(299, 5\) for 300 targets"):
        run(Row(name="short", runs=(Short("short", 0.5),)))
