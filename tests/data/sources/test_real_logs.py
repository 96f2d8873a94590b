"""Real logs: as many rows, users and places as their description says."""

from collections import Counter
from pathlib import Path

import pytest

from behavegpt.data.sources.blocks import TIME_OK, describe
from behavegpt.data.sources.spec import Columns, LogSpec


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "columns", "unit", "rows", "users", "events", "without_behavior"),
    [
        (
            "mathoverflow_interactions.csv.gz",
            Columns(user="user_id", timestamp="unix_time", event="target_user", behavior="interaction"),
            "s",
            506_550,
            19_774,
            21_980,
            0.0,
        ),
        (
            "nyc_checkins.csv.gz",
            Columns(user="user_id", timestamp="timestamp", event="poi_id", behavior="category"),
            "iso",
            147_938,
            1_083,
            5_135,
            0.36,
        ),
    ],
)
def test_counts_are_those_of_the_description(
    shared_dir: Path,
    blocks_of,
    name: str,
    columns: Columns,
    unit: str,
    rows: int,
    users: int,
    events: int,
    without_behavior,
) -> None:
    spec = LogSpec(inputs=(str(shared_dir / "data" / name),), columns=columns)
    blocks = blocks_of(spec, block_bytes=1 << 20)
    assert sum(len(block) for block in blocks) == rows
    assert len({user for block in blocks for user in block.user.dictionary.to_pylist()}) == users
    assert len({event for block in blocks for event in block.event.dictionary.to_pylist()}) == events
    missing = sum(block.behavior.indices.null_count for block in blocks)
    assert missing / rows == pytest.approx(without_behavior, abs=0.005)
    assert all((block.time_status == TIME_OK).all() for block in blocks)
    counts = Counter()
    for block in blocks:
        counts.update(block.counts)
    assert not any(counts.values())
    assert describe(spec)["time_unit"] == unit
