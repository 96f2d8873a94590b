"""A dataset's place: taken by one process, filled in one step, and clean after every way to fail."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from behavegpt.data.staging import WORK, find_out_problems, staged_dataset
from behavegpt.errors import DirectoryBusyError, InputError, exit_codes

WRITER = """
import sys
from pathlib import Path
from behavegpt.data.staging import staged_dataset

with staged_dataset(Path(sys.argv[1])) as staging:
    (staging / ".work" / "rows").write_text("secret")
    (staging / "part").write_text("half")
    print("writing", flush=True)
    sys.stdin.readline()
"""


def start_writer(out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(out)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    return process


def fill(out: Path, text: str = "whole") -> None:
    with staged_dataset(out) as staging:
        assert [p.name for p in staging.iterdir()] == [WORK]
        assert list((staging / WORK).iterdir()) == []
        (staging / WORK / "rows").write_text("secret")
        (staging / "folder").mkdir()
        (staging / "folder" / "file").write_text(text)
        assert not out.exists()


def test_the_dataset_appears_whole_and_nothing_stays_beside_it(tmp_path):
    out = tmp_path / "new" / "newer" / "toy"
    fill(out)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == [
        "new",
        "new/newer",
        "new/newer/toy",
        "new/newer/toy/folder",
        "new/newer/toy/folder/file",
    ]
    assert (out / "folder" / "file").read_text() == "whole"


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt(), SystemExit(1)])
def test_after_an_error_nothing_is_left_and_new_parents_neither(tmp_path, error):
    (tmp_path / "kept").mkdir()
    with pytest.raises(type(error)), staged_dataset(tmp_path / "kept" / "new" / "newer" / "toy") as staging:
        (staging / WORK / "rows").write_text("secret")
        (staging / "part").write_text("half")
        raise error
    assert [path.name for path in tmp_path.rglob("*")] == ["kept"]


def test_a_failure_to_flush_leaves_nothing(tmp_path, monkeypatch):
    from behavegpt.data import staging as module

    def fail(_: Path) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(module, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        fill(tmp_path / "toy")
    assert list(tmp_path.iterdir()) == []


def test_all_files_are_flushed_before_the_dataset_appears(tmp_path, monkeypatch):
    from behavegpt.data import staging as module

    flushed = []
    monkeypatch.setattr(module, "fsync", lambda path: flushed.append((path.name, (tmp_path / "toy").exists())))
    fill(tmp_path / "toy")
    before = [name for name, there in flushed if not there]
    assert before[:2] == ["folder", "file"] and len(before) == 3
    assert (tmp_path.name, True) in flushed


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: p.write_text(""), lambda p: p.symlink_to("nowhere")])
def test_what_is_at_the_place_stays_as_it_is(tmp_path, make):
    make(tmp_path / "toy")
    with pytest.raises(InputError, match="exists already"):
        fill(tmp_path / "toy")
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]


def test_a_directory_that_came_meanwhile_is_not_replaced(tmp_path):
    with pytest.raises(InputError, match="exists already"), staged_dataset(tmp_path / "toy"):
        (tmp_path / "toy").mkdir()
    assert [p.name for p in tmp_path.rglob("*")] == ["toy"]


def test_out_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    [problem] = find_out_problems(tmp_path / "file" / "deep" / "toy")
    assert "file is a file" in problem
    with pytest.raises(InputError, match="file is a file"):
        fill(tmp_path / "file" / "deep" / "toy")


def test_a_live_writer_is_named_and_the_exit_code_is_3(tmp_path, capsys):
    writer = start_writer(tmp_path / "toy")
    with pytest.raises(DirectoryBusyError):
        fill(tmp_path / "toy")
    with pytest.raises(SystemExit) as exited, exit_codes():
        fill(tmp_path / "toy")
    assert exited.value.code == 3
    said = capsys.readouterr().err
    for word in (str(tmp_path / "toy"), f"process {writer.pid} ", os.uname().nodename):
        assert word in said
    fill(tmp_path / "another")
    writer.communicate("go on", timeout=30)
    assert (tmp_path / "toy" / "part").read_text() == "half"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["another", "toy"]


@pytest.mark.chaos
def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    writer = start_writer(tmp_path / "toy")
    writer.kill()
    writer.communicate(timeout=30)
    assert not (tmp_path / "toy").exists()
    assert any(p.name == "rows" for p in tmp_path.rglob("*"))
    with staged_dataset(tmp_path / "toy") as staging:
        assert not any(p.name == "rows" for p in tmp_path.rglob("*"))
        (staging / "part").write_text("whole")
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["toy", "toy/part"]


@pytest.mark.chaos
def test_a_worker_of_a_killed_writer_cannot_write_into_the_next_ones_dataset(tmp_path):
    writer = start_writer(tmp_path / "toy")
    [stale] = [p.parent for p in tmp_path.rglob("part")]
    writer.kill()
    writer.communicate(timeout=30)
    with staged_dataset(tmp_path / "toy") as staging:
        assert staging != stale and not stale.exists()
        stale.mkdir(parents=True)
        (stale / "part").write_text("late")
    assert list((tmp_path / "toy").iterdir()) == []
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]


def test_the_lock_names_its_holder(tmp_path):
    with staged_dataset(tmp_path / "toy"):
        assert json.loads((tmp_path / ".toy.lock").read_text())["pid"] == os.getpid()
    assert not (tmp_path / ".toy.lock").exists()


def test_name_that_the_file_system_could_not_hold_is_refused(tmp_path: Path) -> None:
    (problem,) = find_out_problems(tmp_path / ("ü" * 101))
    assert "a name of 202 bytes; allowed are 200" in problem
    assert find_out_problems(tmp_path / ("ü" * 100)) == []
