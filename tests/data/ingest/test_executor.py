"""Executors: results in the order of the items, a bounded number at work, errors as they were."""

import operator
import threading
import time
from pathlib import Path

import pytest

from behavegpt.data.ingest import progress
from behavegpt.data.ingest.executor import local_executor, ray_executor
from behavegpt.data.ingest.pseudonyms import read_key
from behavegpt.errors import InputError


def slower_at_first(item: int) -> int:
    time.sleep(0.02 if item % 4 == 0 else 0)
    return item * 10


def refuse_seven(item: int) -> int:
    if item == 7:
        raise InputError("log.csv: row 7 is wrong", "log.csv: and so is row 8")
    return item


@pytest.mark.parametrize("num_workers", [1, 3])
def test_results_come_in_the_order_of_the_items(num_workers: int) -> None:
    run = local_executor(num_workers)
    assert list(run(slower_at_first, range(20), "test")) == [item * 10 for item in range(20)]
    assert list(run(slower_at_first, [], "test")) == []


def test_no_more_tasks_run_or_wait_than_allowed() -> None:
    lock = threading.Lock()
    running: set[int] = set()
    most = 0
    taken = []

    def task(item: int) -> int:
        nonlocal most
        with lock:
            running.add(item)
            most = max(most, len(running))
        time.sleep(0.005)
        with lock:
            running.discard(item)
            taken.append(item)
        return item

    results = local_executor(2)(task, range(50), "test")
    assert next(results) == 0
    time.sleep(0.1)
    assert len(taken) <= 4  # nobody asked for more
    assert list(results) == list(range(1, 50))
    assert most == 2


def test_error_reaches_the_caller_and_stops_the_pass() -> None:
    taken = []

    def task(item: int) -> int:
        taken.append(item)
        return refuse_seven(item)

    with pytest.raises(InputError) as error:
        list(local_executor(2)(task, range(1000), "test"))
    assert len(error.value.problems) == 2
    assert len(taken) < 20


def test_a_long_pass_says_how_far_it_is_and_a_short_one_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    list(local_executor(1)(slower_at_first, range(3), "cut windows"))
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(progress.Progress.__init__, "__defaults__", (0.0,))
    list(local_executor(1)(slower_at_first, range(3), "cut windows"))
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(" after ")[0] for line in err.splitlines()] == [f"cut windows: {i} of 3 done" for i in (1, 2, 3)]


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_ray_gives_the_same_results_and_the_same_errors(ray_cluster: str, tmp_path: Path) -> None:
    # Functions that the workers can import.
    run = ray_executor()
    assert list(run(operator.neg, range(12), "test")) == [-item for item in range(12)]
    assert list(run(operator.neg, [], "test")) == []
    with pytest.raises(InputError) as error:
        list(run(read_key, [tmp_path / "none.key"], "test"))
    assert error.value.problems[0].startswith(f"--key-file {tmp_path / 'none.key'}: cannot be read")
