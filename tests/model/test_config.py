"""ModelConfig: what it allows, what it says, and that it needs no torch."""

import subprocess
import sys

import pytest

from behavegpt.errors import InputError
from behavegpt.model.config import ModelConfig, for_width, paper

SIZES = {"weekday": 8, "slot": 49, "location": 2002, "event": 116, "behavior": 40}


def test_for_width_takes_the_tables_of_the_manifest():
    config = for_width(48, vocabulary_sizes=SIZES)
    assert (config.width, config.depth, config.num_heads, config.head_width) == (48, 2, 3, 16)
    assert config.table_sizes == {"weekday": 8, "slot": 49, "location": 2002, "event": 116}
    assert list(config.table_sizes) == ["weekday", "slot", "location", "event"]
    assert config.num_classes == 39
    assert config.num_positions == 90


@pytest.mark.parametrize(
    ("width", "heads"),
    [(4, 1), (12, 1), (16, 1), (24, 1), (32, 2), (64, 2), (96, 3), (100, 2), (128, 4), (160, 5), (256, 4), (448, 7)],
)
def test_heads_of_the_ladder(width, heads):
    assert for_width(width, vocabulary_sizes=SIZES).num_heads == heads


def test_paper_model():
    config = paper(SIZES)
    assert (config.width, config.depth, config.num_heads, config.head_width) == (1024, 12, 16, 64)


def test_missing_vocabulary_is_named():
    with pytest.raises(InputError, match="lacks slot, event"):
        for_width(16, vocabulary_sizes={"weekday": 8, "location": 5, "behavior": 40})


def test_every_problem_is_reported_at_once():
    with pytest.raises(InputError) as caught:
        ModelConfig(
            width=18,
            depth=0,
            num_heads=4,
            num_locations=1,
            num_event_ids=True,
            num_behavior_ids=2,
            dropout=1.0,
            attention="flsh",  # pyright: ignore[reportArgumentType]
        )
    problems = caught.value.problems
    assert len(problems) == 8
    for part in ("depth is 0", "num_locations is 1", "num_event_ids is True", "num_behavior_ids is 2", "width is 18"):
        assert any(part in p for p in problems), part
    assert any("num_heads is 4" in p and "divide model.width, which is 18" in p for p in problems)
    assert any("dropout is 1.0" in p for p in problems)
    assert any("Did you mean 'flash'?" in p for p in problems)


def test_config_and_sizing_import_no_torch():
    code = "import sys, behavegpt.model.config, behavegpt.model.sizing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
