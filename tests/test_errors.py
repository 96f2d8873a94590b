"""Exit codes and messages of every job, without a job."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from behavegpt.errors import DirectoryBusyError, InputError, OutageError, RefusedError, did_you_mean, exit_codes


@pytest.mark.parametrize(
    ("error", "code", "stderr"),
    [
        (InputError("width is 3", "depth is 0"), 2, "error: width is 3\nerror: depth is 0\n"),
        (DirectoryBusyError("d: process 7 on h is working here"), 3, "error: d: process 7 on h is working here\n"),
        (RefusedError("two levels"), 4, "refused: two levels\n"),
        (OutageError("Ray died"), 5, "error: Ray died; resume with: python job.py --plan\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "s/plan.json"),
            5,
            "error: s/plan.json: No space left on device; free some space; resume with: python job.py --plan\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted; resume with: python job.py --plan\n"),
    ],
)
def test_each_kind_has_its_code_and_message(error, code, stderr, capsys):
    with pytest.raises(SystemExit) as left, exit_codes(resume_with="python job.py --plan"):
        raise error
    assert left.value.code == code
    assert capsys.readouterr() == ("", stderr)


def test_an_interrupt_without_a_command_to_resume(capsys):
    with pytest.raises(SystemExit) as left, exit_codes():
        raise KeyboardInterrupt
    assert left.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a bug"),
        KeyError("k"),
        RuntimeError("r"),
        OSError("disk"),
        BrokenPipeError("a socket"),
        SystemExit(7),
    ],
)
def test_anything_else_keeps_its_traceback(error, capsys):
    with pytest.raises(type(error)) as caught, exit_codes(resume_with="x"):
        raise error
    assert caught.value is error
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("lines", [1, 100_000])
def test_whoever_reads_no_further_gets_no_traceback(lines):
    """As `job | head -1`: one line stands in the buffer until the end, many lines are written on the way."""
    job = "from behavegpt.errors import exit_codes\nwith exit_codes(resume_with='x'):\n"
    job += f" for line in range({lines}): print(line)"
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as stdout:
        ended = subprocess.run(
            [sys.executable, "-c", job], stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert (ended.returncode, ended.stderr) == (141, "stopped: nobody reads the output any more; resume with: x\n")


def test_done_is_0_and_the_block_runs_to_its_end(capsys):
    ran = []
    with exit_codes(resume_with="x"):
        ran.append(1)
    assert ran == [1]
    assert capsys.readouterr() == ("", "")


def test_an_input_error_holds_every_problem():
    error = InputError("one", "two")
    assert error.problems == ("one", "two")
    assert str(error) == "one\ntwo"
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("widht", " Did you mean 'width'?"), ("width", " Did you mean 'width'?"), ("zzz", ""), ("", "")],
)
def test_the_nearest_name_is_offered_and_no_far_one(name, hint):
    assert did_you_mean(name, ["width", "depth", "num_events"]) == hint


def test_a_schedulers_sigterm_cleans_up_and_leaves_with_143_and_the_command(capsys):
    cleaned = []
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left, exit_codes(resume_with="python job.py"):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            cleaned.append(1)
    assert (left.value.code, cleaned) == (143, [1])
    assert capsys.readouterr().err == "terminated; resume with: python job.py\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_who_stops_gently_at_ctrl_c_stops_gently_at_sigterm(capsys):
    """Ray Tune puts a handler of its own in the place of SIGINT's, and ends its trials before it comes back."""
    wished = []
    before = signal.signal(signal.SIGINT, lambda *_: wished.append(1))
    try:
        with pytest.raises(SystemExit) as left, exit_codes():
            os.kill(os.getpid(), signal.SIGTERM)
            assert wished == [1]
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, before)
    assert left.value.code == 143


@pytest.mark.parametrize("ignored", [signal.SIG_IGN, signal.SIG_DFL])
def test_a_job_in_the_background_that_hears_no_ctrl_c_hears_sigterm(ignored):
    before = signal.signal(signal.SIGINT, ignored)
    try:
        with pytest.raises(SystemExit) as left, exit_codes():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before)
    assert left.value.code == 143


def test_a_sigterm_while_ray_connects_is_one_too(capsys):
    """Ray's handler raises SystemExit with the signal's bare number."""
    with pytest.raises(SystemExit) as left, exit_codes(resume_with="python job.py"):
        raise SystemExit(signal.SIGTERM)
    assert left.value.code == 143
    assert capsys.readouterr().err == "terminated; resume with: python job.py\n"
