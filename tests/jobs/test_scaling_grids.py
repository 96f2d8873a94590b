"""jobs/scaling_grid.py --plan: the grids of the paper, of multiples of N and of budgets, priced by hand;
and that a busy directory is refused at once."""

import os
import subprocess
import sys
from pathlib import Path

from behavegpt.data.synthetic.generator import GeneratorConfig
from behavegpt.lease import lease

JOB = Path(__file__).parents[2] / "jobs" / "scaling_grid.py"
SMALL = GeneratorConfig(num_users=40, num_train_events=9_000, num_val_windows=12, num_test_windows=4)


def test_presets_of_the_paper_are_priced_without_a_dataset(run, cwd):
    done = run("paper", "--plan")
    assert (done.code, done.err) == (0, "")
    # 12 D^2 + 13 D a block, 2 D of the last norm, D^2 + D + 40 D + 40 of the head, by hand at 576 x 6.
    largest = 6 * (12 * 576**2 + 13 * 576) + 2 * 576 + 576**2 + 576 + 40 * 576 + 40
    assert f"{largest:,}" in done.out
    assert f"{10 * largest:,}" in done.out
    # D = 1 to 10 N: 0.8 x 10 + 0.2 x 31 of 31.
    assert f"  {14.2 / 31:.2f} of the events that one run per cell would train" in done.out
    *_, command = done.out.splitlines()
    windows = -(-10 * largest // 90)
    assert command.endswith(f"python jobs/synthesize.py --out data/paper --num-train-events {windows * 90}")
    assert list(cwd.iterdir()) == []
    refused = run("paper")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith(
        "error: paper: --dataset is missing; make one with jobs/ingest.py, or with python jobs/"
    )


def test_grids_by_multiples_of_n_and_by_budgets(run, cwd, dataset):
    done = run("demo", "--dataset", dataset, "--widths", "8", "12", "--events-per-param", "1", "1.5", "--plan")
    assert (done.code, done.err) == (0, "")
    sizes = {w: 2 * (12 * w**2 + 13 * w) + 2 * w + w**2 + w + 40 * w + 40 for w in (8, 12)}
    for width, size in sizes.items():
        assert f"  D at width {width}: {size:,}, {round(1.5 * size):,}" in done.out
    # 44 windows: a window's FLOPs are three forward passes, with the 90 x 90 scores and weighted values of two blocks.
    window = 3 * (90 * 2 * (2 * 12 * 8**2 + 8**2 + 8 * 40) + 2 * 4 * 90**2 * 8)
    done = run("demo", "--dataset", dataset, "--widths", "8", "--iso-flops", str(44.5 * window), "--plan")
    assert f"D (unique training targets): {44 * 90:,}" in done.out
    done = run("demo", "--dataset", dataset, "--widths", "8", "--total-flops", "1e9", "--num-events", "2000", "--plan")
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: --num-events and --total-flops and --widths exclude each other\n"


def test_a_busy_directory_is_refused_before_anything_slow(run, cwd, dataset, tmp_path_factory):
    study_dir = tmp_path_factory.mktemp("busy")
    with lease(study_dir):
        done = run("demo", "--dataset", "absent", "--study-dir", study_dir)
        assert (done.code, done.out) == (3, "")
        assert f"{study_dir}: process {os.getpid()} on " in done.err
        # A process of its own, which imports neither torch nor ray nor what draws.
        code = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    assert not {"torch", "ray", "deepspeed", "matplotlib", "scipy.optimize"} & sys.modules.keys()
"""
        command = [sys.executable, "-c", code, str(JOB), "demo", "--study-dir", str(study_dir)]
        other = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert (other.returncode, other.stdout) == (3, ""), other.stderr
    assert f"process {os.getpid()} on " in other.stderr
    assert list(cwd.iterdir()) == []
