"""Which targets are scored and what comes before them: against the windows of the shards, and the log itself."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from behavegpt.data.manifest import read_manifest
from behavegpt.data.windows import from_table, target_mask
from behavegpt.errors import InputError
from behavegpt.tasks.targets import read_targets


def scored_in_shards(directory: Path, split: str) -> list[tuple[int, int, int]]:
    """Return (user, event id before the target, class) of every scored target."""
    windows = from_table(pq.read_table(directory / split))
    row, at = np.nonzero(target_mask(windows.behavior, windows.first_target))
    classes = windows.behavior[row, at].astype(int) - 1
    return sorted(zip(windows.user[row].tolist(), windows.event[row, at - 1].tolist(), classes.tolist(), strict=True))


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("name", ["generated", "ingested"])
def test_every_target_is_scored_once(request, name, split):
    directory = request.getfixturevalue(name)
    manifest, found = read_manifest(directory), []
    for batch in read_targets(directory, manifest, split, "every"):
        users = batch.user[batch.places[0]].tolist()
        before = batch.at_targets(batch.inputs.features["event"]).tolist()
        found += zip(users, before, batch.targets.tolist(), strict=True)
    assert sorted(found) == scored_in_shards(directory, split)
    assert len(found) == manifest.splits[split].num_targets


def history_of(batch, row) -> dict[str, list[int]]:
    length = int(batch.places[1][row]) + 1
    columns = {**batch.inputs.features, "behavior": batch.behavior}
    return {name: values[row, :length].tolist() for name, values in columns.items()}


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_history_of_the_last_target_is_that_of_the_shards(ingested, split):
    """The 90 events before it, rebuilt from the windows of all splits by their times, in all columns."""
    manifest = read_manifest(ingested)
    events: dict[int, dict[int, tuple[int, ...]]] = defaultdict(dict)
    last: dict[int, int] = {}
    for name in ("train", "val", "test"):
        windows = from_table(pq.read_table(ingested / name))
        scored = target_mask(windows.behavior, windows.first_target)
        for row, user in enumerate(windows.user.tolist()):
            for at in range(int(windows.length[row])):
                columns = (windows.weekday, windows.slot, windows.location, windows.event, windows.behavior)
                time = int(windows.timestamp[row, at])
                events[user][time] = tuple(int(column[row, at]) for column in columns)
                if name == split and scored[row, at]:
                    last[user] = max(last.get(user, 0), time)
    compared = 0
    for batch in read_targets(ingested, manifest, split, "last"):
        for row, user in enumerate(batch.user.tolist()):
            before = [events[user][time] for time in sorted(events[user]) if time < last[user]][-90:]
            found = history_of(batch, row)
            assert [*zip(*found.values(), strict=True)] == before
            assert int(batch.targets[row]) == events[user][last[user]][4] - 1
            compared += len(before)
    assert compared >= 3 * 90


def test_two_timelines_of_one_user_are_not_joined(generated):
    """A generated user's val windows number from 0 like the train windows, and follow none of them."""
    manifest = read_manifest(generated)
    for batch in read_targets(generated, manifest, "val", "last"):
        assert (batch.places[1] == 89).all()
        windows = from_table(pq.read_table(generated / "val"))
        for row, user in enumerate(batch.user):
            own = (windows.user == user) & (windows.number == windows.number[windows.user == user].max())
            assert np.array_equal(batch.inputs.features["event"][row], windows.event[own][0, :90])


def test_a_damaged_shard_is_named(generated, tmp_path):
    manifest = read_manifest(generated)
    shard = manifest.splits["val"].shards[0]
    (tmp_path / "val").mkdir()
    content = bytearray((generated / shard.path).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / shard.path).write_bytes(content)
    with pytest.raises(InputError, match=f"{tmp_path / shard.path}"):
        list(read_targets(tmp_path, manifest, "val", "every"))
