"""History and truth of each user, against the raw log itself."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from behavegpt.data.manifest import read_manifest
from behavegpt.data.vocab import read_vocabulary
from behavegpt.errors import InputError
from behavegpt.tasks.generation.histories import blocks, read_histories

START, STEP = 1_600_000_000, 7_200


def true_kinds(user: int, begin: int) -> list[str]:
    """Return the behaviours that the log of the fixture has from event `begin` on."""
    return [f"k{(i * i + user) % 5}" for i in range(begin, 150 + 40 * user) if i % 7 != 3]


@pytest.mark.parametrize("num_behaviors", [1, 5, 20])
def test_the_last_behaviours_of_the_test_split_and_what_lies_before_them(ingested: Path, num_behaviors: int):
    manifest = read_manifest(ingested)
    kinds = read_vocabulary(ingested / "vocab" / "behavior.parquet").values
    cutoff = datetime.fromisoformat(manifest.cutoffs["test"]).timestamp()
    found = read_histories(ingested, manifest, 100, num_behaviors)
    seen = []
    for row in range(len(found)):
        times = found.columns["timestamp"][row, : found.length[row]]
        user = int(times[0] - START) % STEP
        events = (times - START - user) // STEP
        assert found.length[row] == 90
        assert events.tolist() == list(range(events[0], events[0] + 90))
        truth = [kinds[i - 2] for i in found.truth["behavior"][row]]
        assert truth == true_kinds(user, 0)[-num_behaviors:]
        # The truth is what comes after the history, and lies behind the cutoff.
        assert true_kinds(user, int(events[-1]) + 1) == truth
        assert START + STEP * (int(events[-1]) + 1) + user >= cutoff
        seconds = [START + STEP * i + user for i in range(150 + 40 * user) if i % 7 != 3][-num_behaviors:]
        slots = [datetime.fromtimestamp(s).astimezone().timestamp() % 86_400 // 1_800 + 1 for s in seconds]
        assert found.truth["slot"][row].tolist() == slots
        seen.append(user)
    expected = [
        user
        for user in range(5)
        if sum(START + STEP * i + user >= cutoff for i in range(150 + 40 * user) if i % 7 != 3) >= num_behaviors
    ]
    assert sorted(seen) == expected
    assert len(expected) > 0


def test_a_generated_user_has_one_window(generated: Path):
    """Its 91 events: 50 are true, 41 come before them."""
    found = read_histories(generated, read_manifest(generated), 5, 50)
    assert found.user.tolist() == [0, 1, 2, 3, 4]
    assert found.length.tolist() == [41] * 5
    assert not found.columns["event"][:, 41:].any()
    assert found.columns["event"][:, :41].all()
    assert [part.user.tolist() for part in blocks(found, 2)] == [[0, 1], [2, 3], [4]]
    longest = read_histories(generated, read_manifest(generated), 5, 90)
    assert longest.length.tolist() == [1] * 5
    assert np.array_equal(longest.truth["behavior"][:, 40:], found.truth["behavior"])


def test_more_behaviours_than_any_user_has(generated: Path):
    with pytest.raises(InputError, match=r"no user has 91 consecutive behaviours.*the most that one has is 90"):
        read_histories(generated, read_manifest(generated), 5, 91)
