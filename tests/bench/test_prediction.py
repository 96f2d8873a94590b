"""The benchmark of prediction, at its smallest: both figures of the path come out, and a log's users are predicted."""

from pathlib import Path

from behavegpt.bench.ingest import make_log
from behavegpt.bench.prediction import compare_path, make_dataset, predict_log


def test_both_figures_of_the_path_and_the_log_of_the_memory(tmp_path: Path):
    bare, short = compare_path(tmp_path, num_users=32, rounds=1)
    assert (bare.wanted, short.wanted) == (">= 0.8", ">= 0.8")
    assert bare.name.startswith("predict for 32 users of a dataset, one thread, against the bare forward loop")
    assert min(bare.value, short.value) > 0
    make_log(tmp_path / "log.csv", 10_000)
    assert predict_log(tmp_path / "log.csv", make_dataset(tmp_path, 32), tmp_path / "out") == 10
