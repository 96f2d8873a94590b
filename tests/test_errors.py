"""Exit codes and messages of every job, without a job."""

import os
import signal

import pytest

from behavegpt.errors import DirectoryBusyError, InputError, RefusedError, did_you_mean, exit_codes


@pytest.mark.parametrize(
    ("error", "code", "stderr"),
    [
        (InputError("width is 3", "depth is 0"), 2, "error: width is 3\nerror: depth is 0\n"),
        (DirectoryBusyError("d: process 7 on h is working here"), 3, "error: d: process 7 on h is working here\n"),
        (RefusedError("two levels"), 4, "refused: two levels\n"),
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
    "error", [ValueError("a bug"), KeyError("k"), RuntimeError("r"), OSError("disk"), SystemExit(7)]
)
def test_anything_else_keeps_its_traceback(error, capsys):
    with pytest.raises(type(error)) as caught, exit_codes(resume_with="x"):
        raise error
    assert caught.value is error
    assert capsys.readouterr() == ("", "")


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


def test_a_scheduler_s_sigterm_cleans_up_and_leaves_with_143():
    cleaned = []
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left, exit_codes():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            cleaned.append(1)
    assert (left.value.code, cleaned) == (143, [1])
    assert signal.getsignal(signal.SIGTERM) is before
