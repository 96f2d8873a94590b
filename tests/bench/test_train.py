"""The training benchmark's own parts: turns that exclude each other, steps as the loop takes them, time by part."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

from behavegpt.bench import profile as profiling
from behavegpt.bench import train as bench
from behavegpt.bench.bare import BareLoop, measure_bare, own_products
from behavegpt.bench.train_figures import worker_figures
from behavegpt.bench.turns import Turns, sides_of
from behavegpt.model.sizing import count_params, flops_per_window
from behavegpt.study.recipe import BATCH_RAMP

JOB = Path(__file__).parents[2] / "jobs" / "benchmark.py"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("train") / "log"
    bench.write_log(out, 20)
    return out


def test_one_side_works_at_a_time_and_in_order(tmp_path: Path):
    seen: list[tuple[int, int]] = []
    working = 0

    def work(turns: Turns) -> None:
        nonlocal working
        for number in range(turns.rounds):
            turns.wait(number)
            working += 1
            assert working == 1
            time.sleep(0.005)
            seen.append((number, turns.index))
            working -= 1
            turns.end(number)
        turns.wait_for_all()
        assert len(seen) == 9

    threads = [threading.Thread(target=work, args=(side,)) for side in reversed(sides_of(tmp_path / "turn", 3, 3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert seen == [(number, side) for number in range(3) for side in range(3)]


def test_a_side_that_waits_for_the_dead_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("behavegpt.bench.turns.PATIENCE_S", 0.01)
    with pytest.raises(TimeoutError, match="1 turns have not ended"):
        sides_of(tmp_path / "turn", 2, 1)[1].wait(0)


@pytest.mark.parametrize("sizes", [[10], [3, 7], [1] * 10, [6, 0, 4]])
def test_tables_are_cut_evenly(sizes: list[int]):
    column = list(range(10))
    tables, first = [], 0
    for size in sizes:
        tables.append(pa.table({"x": pa.array(column[first : first + size], pa.int64())}))
        first += size
    pieces = [piece["x"].to_pylist() for piece in bench.cut_evenly(tables, 4)]
    assert pieces == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_turn_is_one_table_and_ends_when_the_loop_asks_for_the_next(tmp_path: Path):
    tables = [pa.table({"x": [i]}) for i in range(5)]
    [turns], step_s = sides_of(tmp_path / "turn", 1, 2), []
    stream = bench.in_turns(tables, turns, 1, 2, step_s, leads=True)
    seen = []
    for table in stream:
        seen.append((table["x"].to_pylist(), int.from_bytes(turns.path.read_bytes())))
        time.sleep(0.02)
    assert seen == [([0, 1], 0), ([2, 3], 1), ([4], 2)]
    assert [s >= 0.01 for s in step_s] == [True, True]


def test_the_bare_side_measures_every_turn(tmp_path: Path, log: Path):
    model = bench.model_of("0.1M", log)
    [turns] = sides_of(tmp_path / "turn", 1, 2)
    found = measure_bare(turns, model, log, 4, 1, gpu=False)
    assert {name: len(values) for name, values in found.items()} == {
        "step_s": 2,
        "step_cpu_s": 2,
        "square_s": 2,
        "own_s": 2,
        "peak": 1,
    }
    assert min(min(values) for values in found.values()) > 0
    turns.wait_for_all()  # for at most as long as the test may take


def test_own_products_are_those_of_the_linear_layers(log: Path, monkeypatch: pytest.MonkeyPatch):
    model, shapes = bench.model_of("0.8M", log), []
    monkeypatch.setattr("behavegpt.bench.bare.product", lambda *shape: shapes.append(shape[:3]))
    products = own_products(model, 2, "cpu")  # pyright: ignore[reportArgumentType]
    flops = sum(2 * m * k * n * times for (m, k, n), (_, times) in zip(shapes, products, strict=True))
    counted = flops_per_window(model)
    assert flops == 2 * (counted.training - 3 * counted.attention)


def test_the_profile_puts_the_backward_pass_where_the_forward_pass_was(log: Path):
    model = bench.model_of("0.1M", log)
    found = profiling.shares(model, log, 4)
    assert found.pop("step") > 0
    assert sum(found.values()) == pytest.approx(1)
    assert set(found) >= {"attention", "projections", "feed-forward", "head", "norms", "embeddings", "loss"}
    # 8 D^2 of the weights of each of two blocks, and D^2 + 39 D.
    assert found["feed-forward"] > found["head"]
    assert min(found.values()) >= 0


def test_the_sizes_are_what_their_names_say(log: Path):
    from behavegpt.model.sizing import count_params

    for name in bench.SHAPES:
        assert count_params(bench.model_of(name, log)).non_embedding == pytest.approx(
            float(name.removesuffix("M")) * 1e6, rel=0.07
        )


def test_wrong_flags_are_named_together(tmp_path: Path):
    flags = ["--rounds", "2", "--batch-windows", "3", "--work", str(tmp_path / "none")]
    done = subprocess.run(
        [sys.executable, JOB, "train", *flags], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert [line.split(":")[1].split()[0] for line in done.stderr.splitlines()] == [
        "--rounds",
        "--batch-windows",
        "--work",
    ]


@pytest.mark.slow
@pytest.mark.ray
def test_small_training_benchmark_from_end_to_end(tmp_path: Path):
    flags = ["--sizes", "0.1M", "--batch-windows", "2", "--rounds", "3", "--work", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, JOB, "train", *flags], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if not line.startswith("measured")]
    assert [line.split()[1] for line in table[1:]] == ["(106,856),", "the", "full", "peak"]
    assert list(tmp_path.iterdir()) == [], "scratch is removed"


def test_the_loop_learns(log: Path):
    """The bare loop trains: its loss on a batch that it sees again and again falls."""
    import torch

    loop = BareLoop(bench.model_of("0.1M", log), log, 2, torch.device("cpu"))
    before = [parameter.detach().clone() for parameter in loop.model.parameters()]
    loop.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, loop.model.parameters(), strict=True)]
    assert all(moved)


def test_the_batch_of_each_size_is_the_recipes_at_ten_events_a_parameter(log: Path):
    for size, windows in bench.WINDOWS.items():
        num_params = count_params(bench.model_of(size, log)).non_embedding
        assert max(batch for since, batch in BATCH_RAMP if since <= 10 * num_params) == windows


def test_two_workers_are_compared_with_one_by_the_bare_loop_beside_each():
    """The machine was twice as slow while the two worked; their first turns do not count."""
    one = {"step_s": [9.0, 2.0, 2.0, 2.0]}, {"step_s": [1.0, 2.5, 2.5, 2.5]}
    two = {"step_s": [9.0, 4.0, 4.0, 4.0]}, {"step_s": [1.0, 2.5, 9.0, 2.5]}
    [figure] = worker_figures("4.8M", one, two)
    assert (figure.ours, figure.other) == ("1.60 bare loops", "0.80 bare loops, one worker")
    assert figure.value == pytest.approx(2.0)
