"""A run's files: whole or not there, found again by the same run alone."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from behavegpt.config import config_hash
from behavegpt.data.vocab import Vocabulary
from behavegpt.errors import DirectoryBusyError, InputError
from behavegpt.tasks.generation.histories import Histories
from behavegpt.tasks.generation.loop import Generated
from behavegpt.tasks.generation.parts import finished, open_run, read_part, write_part, write_whole

IDENTITY = {"seed": 0, "num_users": 2}
HISTORIES = Histories(
    user=np.array([5, 2**63], np.uint64),
    columns={},
    length=np.array([3, 4]),
    truth={"behavior": np.array([[2, 3], [1, 2]]), "slot": np.array([[1, 2], [3, 4]])},
)
GENERATED = Generated(
    behavior=np.array([[3, 2], [2, 1]]),
    event=np.array([[2, 3], [1, 2]]),
    location=np.array([[0, 2], [2, 2]]),
    weekday=np.array([[1, 2], [6, 7]]),
    slot=np.array([[48, 1], [2, 3]]),
    probability=np.array([[0.5, 0.25], [1.0, 1e-9]]),
)
VOCABULARIES = {
    "behavior": Vocabulary(("eat", "sleep"), (2, 1)),
    "event": Vocabulary(("a", "b"), (2, 1)),
    "location": Vocabulary(("home",), (3,)),
}


def test_a_batch_is_read_as_it_was_written(tmp_path: Path):
    with open_run(tmp_path / "out", IDENTITY, 2) as partial:
        assert read_part(partial, 0, (2, 2)) is None
        write_part(partial, 0, GENERATED)
    with open_run(tmp_path / "out", IDENTITY, 2) as again:
        found = read_part(again, 0, (2, 2))
        assert found is not None
        for name in Generated.__slots__:
            assert np.array_equal(getattr(found, name), getattr(GENERATED, name)), name
    assert not (tmp_path / "out").exists()


def test_a_damaged_batch_is_named(tmp_path: Path):
    with open_run(tmp_path / "out", IDENTITY, 2) as partial:
        write_part(partial, 3, GENERATED)
        path = partial / "part-000003.parquet"
        content = bytearray(path.read_bytes())
        for change in (content[:-9], content[:40] + bytes(20) + content[60:]):
            path.unlink()
            path.write_bytes(change)
            with pytest.raises(InputError, match=r"part-000003\.parquet: damaged"):
                read_part(partial, 3, (2, 2))
        with pytest.raises(InputError, match=r"part-000003\.parquet: damaged"):
            read_part(partial, 3, (7, 2))


def test_a_run_of_other_settings_is_refused_with_every_difference(tmp_path: Path):
    with open_run(tmp_path / "out", IDENTITY, 2):
        pass
    with (
        pytest.raises(InputError, match=r"seed 0, this one 1[\s\S]*users_per_batch 2, this one 3"),
        open_run(tmp_path / "out", IDENTITY | {"seed": 1}, 3),
    ):
        pass


def test_two_live_runs_do_not_share_a_directory(tmp_path: Path):
    with (
        open_run(tmp_path / "out", IDENTITY, 2),
        pytest.raises(DirectoryBusyError, match=f"process {os.getpid()}"),
        open_run(tmp_path / "out", IDENTITY, 2),
    ):
        pass


def test_the_whole_is_one_row_a_user_and_position(tmp_path: Path):
    out = tmp_path / "out"
    with open_run(out, IDENTITY, 2) as partial:
        write_part(partial, 0, GENERATED)
        (partial / "whole").mkdir()  # of a run that was killed while it wrote
        (partial / "whole" / "old").touch()
        texts = {"generate.json": json.dumps({"run": config_hash(IDENTITY)})}
        write_whole(partial, out, HISTORIES, GENERATED, VOCABULARIES, texts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert sorted(path.name for path in out.iterdir()) == ["behaviors.parquet", "generate.json"]
    assert pq.read_table(out / "behaviors.parquet").to_pydict() == {
        "user": [5, 5, 2**63, 2**63],
        "position": [1, 2, 1, 2],
        "behavior": ["sleep", "eat", "eat", None],
        "event": ["a", "b", None, "a"],
        "location": [None, "home", "home", "home"],
        "weekday": [1, 2, 6, 7],
        "slot": [48, 1, 2, 3],
        "probability": [0.5, 0.25, 1.0, 1e-9],
        "true_behavior": ["eat", "sleep", None, "eat"],
    }
    assert finished(out, IDENTITY)
    with pytest.raises(InputError, match="exists already, and is not the result of this run"):
        finished(out, IDENTITY | {"seed": 1})


def test_what_is_no_result_is_not_taken_for_one(tmp_path: Path):
    assert not finished(tmp_path / "none", IDENTITY)
    with pytest.raises(InputError, match="exists already"):
        finished(tmp_path, IDENTITY)
