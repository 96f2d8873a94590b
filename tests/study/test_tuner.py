"""How a failure is named, from texts as Python, torch and Ray write them, and what becomes of a pack."""

import traceback

import pytest
import ray.exceptions
import torch
from ray.train.v2._internal.exceptions import WorkerHealthCheckTimeoutError
from ray.train.v2.api.exceptions import WorkerGroupError

from behavegpt.errors import InputError
from behavegpt.study.config import of_widths
from behavegpt.study.grid import plan_study
from behavegpt.study.tuner import explain, train_pack
from behavegpt.train.record import finished

RAY_MEMORY_MONITOR = """Task was killed due to the node running low on memory.
Memory on the node (IP: 10.0.0.7, ID: e5d9) where the task (actor ID: 9a1b, name=RayTrainWorker.__init__, pid=4242, \
memory used=7.31GB) was running was 30.61GB / 31.20GB (0.981), which exceeds the memory usage threshold of 0.95. Ray \
killed this worker (ID: 77aa) because it was the most recently scheduled task; to see more information about memory \
usage on this node, use `ray logs raylet.out -ip 10.0.0.7`.
Refer to the documentation on how to address the out of memory issue: https://docs.ray.io/en/latest/ray-core/."""

ACTOR_DIED = """The actor died unexpectedly before finishing this task.
\tclass_name: RayTrainWorker
\tpid: 4242
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker \
unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was \
killed by the OOM killer due to high memory usage, (2) ray stop --force was called, or (3) the worker crashed \
unexpectedly due to SIGSEGV or another unexpected error."""


def traceback_of(raiser) -> str:
    """Return the traceback that the trial's driver would record."""
    try:
        raiser()
    except Exception:
        return traceback.format_exc()
    raise AssertionError("nothing was raised")


def throw(error: Exception):
    def raiser():
        raise error

    return raiser


def in_worker(raiser) -> Exception:
    """Return the error that Ray Train raises on the driver when rank 0 ends with that of `raiser`."""
    snippet = f"[Rank 0 Error Snippet]:\n{traceback_of(raiser)}"
    return WorkerGroupError(snippet, {0: RuntimeError()})


def test_pythons_own_memory_error_is_oom():
    failure = explain(traceback_of(lambda: bytearray(1 << 62)))
    assert (failure.status, failure.reason) == ("oom", "MemoryError")


def test_torchs_allocator_on_a_cpu_is_oom():
    text = traceback_of(lambda: torch.empty(1 << 52))
    failure = explain(text)
    assert failure.status == "oom"
    assert failure.reason.startswith("RuntimeError: [enforce fail at alloc_cpu.cpp")
    assert "can't allocate memory: you tried to allocate 18014398509481984 bytes" in failure.reason
    assert failure.traceback == text


def test_a_full_gpu_is_oom():
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 80 GiB"
    )
    failure = explain(traceback_of(throw(error)))
    assert failure.status == "oom"
    assert failure.reason.startswith("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")
    # Torch before 2.5 named it otherwise.
    assert explain("torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.").status == "oom"
    # cuBLAS and NCCL speak through a RuntimeError.
    assert explain("RuntimeError: CUDA error: out of memory").status == "oom"


def test_a_worker_that_rays_memory_monitor_killed_is_oom():
    failure = explain(traceback_of(throw(ray.exceptions.OutOfMemoryError(RAY_MEMORY_MONITOR))))
    assert failure.status == "oom"
    assert failure.reason == ("ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.")
    assert explain(f"the trial's driver died: {RAY_MEMORY_MONITOR}").status == "oom"


@pytest.mark.parametrize(
    ("raiser", "status", "reason"),
    [
        (lambda: bytearray(1 << 62), "oom", "MemoryError"),
        (lambda: torch.empty(1 << 52), "oom", "RuntimeError: [enforce fail at alloc_cpu.cpp"),
        (
            throw(OSError("part-00000.parquet: cannot be read")),
            "crashed",
            "OSError: part-00000.parquet: cannot be read",
        ),
        (lambda: {}["loss"], "crashed", "KeyError: 'loss'"),
    ],
)
def test_an_error_within_a_worker_group_is_named_by_the_workers_line(raiser, status, reason):
    failure = explain(traceback_of(throw(in_worker(raiser))))
    assert failure.status == status
    assert failure.reason.startswith(reason)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("3 windows, 4 expected"), "ValueError: 3 windows, 4 expected"),
        (RuntimeError("shape [2, 3]\nis not [3, 2]\n"), "RuntimeError: shape [2, 3]"),
        (FileNotFoundError(2, "No such file", "a/b"), "FileNotFoundError: [Errno 2] No such file: 'a/b'"),
        (InputError("one.", "two."), "behavegpt.errors.InputError: one."),
        (AssertionError(), "AssertionError"),
    ],
)
def test_any_other_error_is_a_crash_named_by_its_line(error, reason):
    text = traceback_of(throw(error))
    failure = explain(text)
    assert (failure.status, failure.reason, failure.traceback) == ("crashed", reason, text)


def test_a_worker_that_was_killed_is_a_crash():
    # Ray lists the kernel's OOM killer among what may have happened; it does not know.
    failure = explain(f"Traceback (most recent call last):\n  ...\nray.exceptions.ActorDiedError: {ACTOR_DIED}\n")
    assert failure.status == "crashed"
    assert failure.reason.startswith("ray.exceptions.ActorDiedError: The actor died unexpectedly")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            in_worker(throw(TimeoutError("no step for 40 s: worker-0 hung in f (loop.py:3: x)\n  File ...\n"))),
            "TimeoutError: no step for 40 s: worker-0 hung in f (loop.py:3: x)",
        ),
        # Ray's own, of a worker that is frozen as a whole.
        (
            WorkerHealthCheckTimeoutError("600 s"),
            f"{WorkerHealthCheckTimeoutError.__module__}.WorkerHealthCheckTimeoutError: 600 s",
        ),
    ],
)
def test_a_worker_that_hung_is_a_timeout(error, reason):
    failure = explain(traceback_of(throw(error)))
    assert (failure.status, failure.reason) == ("timeout", reason)


def test_of_a_chain_of_errors_the_last_one_counts():
    def chained():
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner

    assert explain(traceback_of(chained)).reason == "ValueError: outer"


def test_a_text_without_an_errors_name_is_told_by_its_last_line():
    sentence = "the trunk ended without this cell's file; is the study directory shared?"
    assert explain(sentence) == ("crashed", sentence, sentence)
    assert explain("first\n\n  last words  \n\n").reason == "last words"


def test_a_reason_is_one_short_line_and_a_traceback_keeps_its_end():
    failure = explain("Traceback\n" + "  frame\n" * 10_000 + f"ValueError: {'x' * 900}\n")
    assert failure.reason == "ValueError: " + "x" * 488
    assert len(failure.traceback) == 20_000
    assert failure.traceback.endswith("x\n")


@pytest.fixture
def jobs(make_config, manifest, tiny, tmp_path):
    """Return three trunks of two cells each."""
    return plan_study(make_config(sizes=of_widths(8, 12, 16)), manifest, tiny, tmp_path / "study").jobs


class Group:
    """A worker group that trains by writing cell files, and fails at the trunks that it was told to."""

    def __init__(self, write_cell, failing) -> None:
        self.write_cell, self.failing, self.started = write_cell, failing, []

    def __call__(self, jobs) -> None:
        self.started.append([job.model.width for job in jobs])
        for job in jobs:
            if self.failing.get(job.model.width, 0) > 0:
                self.failing[job.model.width] -= 1
                raise RuntimeError(f"width {job.model.width}")
            for cell in job.cells:
                self.write_cell(job, cell)


@pytest.mark.parametrize(
    ("failing", "started", "lost"),
    [
        ({}, [[16, 12, 8]], []),
        # The first one of a group is given up at once, and the others go on in a new group.
        ({16: 9}, [[16, 12, 8], [12, 8]], [16]),
        # A later one may have been hit by what ended the group: it gets a group in which it is the first.
        ({12: 1}, [[16, 12, 8], [12, 8]], []),
        ({12: 9}, [[16, 12, 8], [12, 8], [8]], [12]),
        ({8: 9}, [[16, 12, 8], [8]], [8]),
        ({16: 9, 12: 9, 8: 9}, [[16, 12, 8], [12, 8], [8]], [16, 12, 8]),
    ],
)
def test_a_trunk_that_fails_takes_no_other_with_it(jobs, write_cell, failing, started, lost):
    group = Group(write_cell, dict(failing))
    errors = train_pack(jobs, group)
    assert group.started == started
    assert list(errors) == [job.trunk_id for job in jobs if job.model.width in lost]
    for job in jobs:
        assert all(finished(job, cell) for cell in job.cells) is (job.model.width not in lost)
        if job.model.width in lost:
            assert explain(errors[job.trunk_id]).reason == f"RuntimeError: width {job.model.width}"


def test_a_group_that_fails_after_its_last_cell_blames_nobody(jobs, write_cell):
    def fit(jobs) -> None:
        Group(write_cell, {})(jobs)
        raise RuntimeError("while it ended")

    assert train_pack(jobs, fit) == {}
