"""Histories of a dataset's users against what the log says that they did, split by split."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from behavegpt.data.manifest import read_manifest
from behavegpt.data.vocab import read_vocabulary
from behavegpt.errors import InputError
from behavegpt.schema import SPLITS
from behavegpt.tasks.prediction import dataset as module
from behavegpt.tasks.prediction.dataset import DatasetSource, open_dataset
from behavegpt.tasks.prediction.histories import read_slices


def places_of(source: DatasetSource) -> list[list[int]]:
    """Return the ids of the places of each user's history."""
    table = pa.concat_tables(read_slices(source, 2))
    assert table["user"].to_pylist() == sorted(table["user"].to_pylist())
    return [row["location"][: row["length"]] for row in table.to_pylist()]


@pytest.mark.parametrize(
    ("splits", "end"), [(("train",), "val"), (("val",), "test"), (("test",), None), (SPLITS, None)]
)
def test_histories_end_with_the_split(ingested: Path, monkeypatch, splits: tuple[str, ...], end: str | None):
    monkeypatch.setattr(module, "USERS_PER_READ", 2)
    manifest = read_manifest(ingested)
    source = open_dataset(ingested, manifest, splits)
    names = ["", "other", *read_vocabulary(ingested / manifest.vocabulary_path("location")).values]
    found = sorted([names[place] for place in places] for places in places_of(source))
    # The log of conftest.py: event i of a user is 7,200 s after the one before, at place i % 11.
    bound = datetime.fromisoformat(manifest.cutoffs[end]).timestamp() if end else np.inf
    wanted = []
    for user in range(5):
        num_events = sum(1_600_000_000 + 7_200 * i + user < bound for i in range(150 + 40 * user))
        first_of_split = 0
        if splits == ("val",) or splits == ("test",):
            begin = datetime.fromisoformat(manifest.cutoffs[splits[0]]).timestamp()
            first_of_split = sum(1_600_000_000 + 7_200 * i + user < begin for i in range(150 + 40 * user))
        if num_events > first_of_split:
            wanted.append([f"p{i % 11}" for i in range(max(0, num_events - 90), num_events)])
    assert found == sorted(wanted)


def test_each_user_is_there_once_and_timelines_are_not_mixed(generated: Path):
    manifest = read_manifest(generated)
    source = open_dataset(generated, manifest, ("val",))
    assert source.num_users == manifest.splits["val"].num_users == len(set(source.users.tolist())) == 24
    # A generated user has one window in val, of 91 events, and none before it in the same timeline.
    assert {len(places) for places in places_of(source)} == {90}
    assert open_dataset(generated, manifest, SPLITS).num_users == 40


def test_a_split_without_users_is_refused(generated: Path, monkeypatch):
    monkeypatch.setattr(module, "read_tables", lambda *_: iter(()))
    with pytest.raises(InputError, match="its test split has no users"):
        open_dataset(generated, read_manifest(generated), ("test",))
