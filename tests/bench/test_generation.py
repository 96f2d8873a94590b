"""The benchmark of generation, at its smallest: both ways give the same behaviours, and both figures come out."""

from pathlib import Path

from behavegpt.bench.generation import compare_generation


def test_both_figures(tmp_path: Path):
    whole, ratio = compare_generation(tmp_path, num_users=4, num_behaviors=3, num_compared=2)
    assert (whole.wanted, ratio.wanted) == ("<= 120", ">= 5")
    assert whole.name.startswith("3 behaviours of 4 users, 8")  # some 0.8 M parameters
    assert whole.met
    assert ratio.value > 0
