"""Ingests of small logs, side by side, with something to add, and with three users or three days."""

import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from behavegpt.data.ingest.executor import local_executor
from behavegpt.data.ingest.ingest import ingest
from behavegpt.data.ingest.options import IngestOptions
from behavegpt.data.manifest import Manifest
from behavegpt.data.sources.spec import Columns, LogSpec
from behavegpt.errors import InputError

START = 1_339_437_960
COLUMNS = Columns(user="user", timestamp="time", event="event", behavior="kind", location="place")
OPTIONS = IngestOptions(min_users=1)
Row = tuple[str, int, str, str, str]


@pytest.fixture
def rows() -> list[Row]:
    return [(f"u{i % 3}", START + i * 7_200, f"e{i % 5}", "K", "p") for i in range(36)]


def test_first_ingests_side_by_side_share_one_key(
    rows: list[Row], write_log: Callable[..., Path], ingest_log: Callable[..., Manifest]
) -> None:
    path = write_log(rows)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda i: ingest_log(path, name=f"set{i}", key_file=None), range(4)))
    assert len({manifest.source["key_id"] for manifest in made}) == 1


@pytest.mark.parametrize("split_by", ["events", "days", "users"])
def test_three_days_and_three_users_are_enough_for_three_splits(
    rows: list[Row], write_log: Callable[..., Path], ingest_log: Callable[..., Manifest], split_by: str
) -> None:
    manifest = ingest_log(write_log(rows), split_by=split_by)
    assert all(split.num_targets for split in manifest.splits.values())


def test_what_finish_adds_appears_with_the_dataset_and_its_failure_leaves_none(
    rows: list[Row], write_log: Callable[..., Path], tmp_path: Path
) -> None:
    spec = LogSpec(inputs=(str(write_log(rows)),), columns=COLUMNS)
    run = local_executor(1)

    def fail(staging: Path) -> None:
        assert (staging / "manifest.json").is_file()
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match=f"--out {tmp_path / 'a'}: cannot be written .No space left on device."):
        ingest(spec, tmp_path / "a", options=OPTIONS, run=run, finish=fail)
    assert not (tmp_path / "a").exists()
    ingest(spec, tmp_path / "b", options=OPTIONS, run=run, finish=lambda staging: (staging / "card").touch())
    assert (tmp_path / "b" / "card").is_file()
