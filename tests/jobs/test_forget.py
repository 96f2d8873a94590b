"""The forget job: what it prints, what it changes, and its exit codes; nothing that it says names a user."""

import hmac
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from behavegpt.data.manifest import Manifest, read_manifest
from behavegpt.data.verify import verify_dataset
from behavegpt.lease import lease
from behavegpt.study.stale import STALE_NAME, stale_problems

JOBS = Path(__file__).parents[2] / "jobs"
NUM_USERS = 12
Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a dataset of 12 users, `sets/log`, and its key, as jobs/ingest.py makes them."""
    folder = tmp_path_factory.mktemp("made")
    rows = [
        f"canary-{user},{1_339_437_960 + 3_600 * index},{'only-5' if user == 5 and index < 9 else f'e{index % 4}'}"
        for user in range(NUM_USERS)
        for index in range(60)
    ]
    (folder / "log.csv").write_text("\n".join(["user,time,event", *rows]) + "\n")
    flags = ["--user", "user", "--timestamp", "time", "--event", "event", "--min-users", "1"]
    command = [sys.executable, str(JOBS / "ingest.py"), "--input", str(folder / "log.csv"), *flags]
    out = ["--out", str(folder / "sets" / "log")]
    subprocess.run([*command, *out], check=True, capture_output=True, timeout=120)
    card = [sys.executable, str(JOBS / "card.py"), "--dataset", str(folder / "sets" / "log")]
    subprocess.run(card, check=True, capture_output=True, timeout=120)
    return folder


@pytest.fixture
def dataset(made: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-a", str(made / "sets"), str(tmp_path / "sets")], check=True)
    return tmp_path / "sets" / "log"


@pytest.fixture
def run(made: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the job in this process on the dataset; return its exit code and all that it said, which names no user."""

    def run_job(*flags: object) -> tuple[int, str]:
        key = ["--key-file", str(dataset.parent / "user.key")]
        monkeypatch.setattr(sys, "argv", ["forget.py", "--dataset", str(dataset), *key, *map(str, flags)])
        try:
            runpy.run_path(str(JOBS / "forget.py"), run_name="__main__")
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = "".join(capfd.readouterr())
        assert "canary" not in said and str(pseudonym(made, "canary-5")) not in said
        return code, said

    return run_job


def pseudonym(made: Path, user: str) -> int:
    key = bytes.fromhex((made / "sets" / "user.key").read_text())
    return int.from_bytes(hmac.digest(key, user.encode(), "sha256")[:8], "big")


def make_study(directory: Path, manifest: Manifest) -> Path:
    directory.mkdir(parents=True)
    (directory / "plan.json").write_text(json.dumps({"dataset": {"fingerprint": manifest.fingerprint}}))
    return directory


def users_of(dataset: Path) -> set[int]:
    return {user for path in dataset.rglob("part-*.parquet") for user in pq.read_table(path)["user"].to_pylist()}


def snapshot(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.rglob("*")}


def test_plan_says_what_would_go_and_changes_nothing(dataset: Path, run: Run, tmp_path: Path) -> None:
    study = make_study(tmp_path / "studies" / "a", read_manifest(dataset))
    before = snapshot(tmp_path)
    code, said = run("--user", "canary-5", "canary-7", "--studies", tmp_path / "studies", "--plan")
    assert code == 0
    lines = said.splitlines()
    assert lines[0] == "would forget 2 users with 6 windows in 3 shards"
    assert [line.split() for line in lines[1:4]] == [
        [split, "2", "of", "12", "windows,", "1", "of", "1", "shards"] for split in ("train", "val", "test")
    ]
    assert lines[4:] == [f"would mark {study} stale"]
    assert snapshot(tmp_path) == before


def test_users_leave_the_card_is_new_and_studies_are_stale(made: Path, dataset: Path, run: Run, tmp_path: Path) -> None:
    old = read_manifest(dataset)
    study = make_study(tmp_path / "studies" / "a", old)
    other = make_study(tmp_path / "studies" / "b", old)
    (other / "plan.json").write_text(json.dumps({"dataset": {"fingerprint": "0" * 64}}))
    gone = {pseudonym(made, user) for user in ("canary-5", "canary-7")}
    (tmp_path / "leaving.txt").write_text("canary-7\n")
    assert "only-5" in (dataset / "card.json").read_text()
    flags = ("--user", "canary-5", "--users-file", tmp_path / "leaving.txt", "--studies", tmp_path / "studies")
    code, said = run(*flags)
    assert code == 0, said
    new = verify_dataset(dataset)
    assert said.splitlines()[-2:] == [
        f"fingerprint {old.fingerprint[:16]} is now {new.fingerprint[:16]}",
        f"{study}: stale, see {STALE_NAME}",
    ]
    assert new.replaces == (old.fingerprint,) != (new.fingerprint,)
    assert len(users_of(dataset)) == NUM_USERS - 2 and not users_of(dataset) & gone
    card = json.loads((dataset / "card.json").read_text())
    assert card["fingerprint"] == new.fingerprint and card["counts"]["forgotten_users"] == 2
    assert "Every row is kept or counted here" in (dataset / "card.md").read_text()
    assert card["dropped"]["forgotten_events"] == 2 * 60
    again = [sys.executable, str(JOBS / "card.py"), "--dataset", str(dataset)]
    assert subprocess.run(again, check=False, capture_output=True, timeout=60).returncode == 0
    for path in dataset.rglob("*"):
        assert path.is_dir() or b"only-5" not in path.read_bytes(), path
    assert json.loads((study / STALE_NAME).read_text())["dataset_fingerprint"] == old.fingerprint
    assert stale_problems(study) and not (other / STALE_NAME).exists()
    assert not list(tmp_path.rglob("*lock"))
    code, said = run(*flags)
    assert code == 2 and said.count("no window has that user") == 2
    assert verify_dataset(dataset) == new


def test_unknown_users_exit_2_all_named_by_place(dataset: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "leaving.txt").write_text("\ncanary-99\ncanary-1\n")
    before = snapshot(dataset)
    code, said = run("--user", "canary-1", "canary-98", "--users-file", tmp_path / "leaving.txt")
    assert code == 2
    assert said.splitlines() == [
        "error: --user, number 2: no window has that user",
        f"error: --users-file {tmp_path / 'leaving.txt'}, line 2: no window has that user",
    ]
    assert snapshot(dataset) == before


def test_a_live_study_or_another_forget_exits_3(dataset: Path, run: Run, tmp_path: Path) -> None:
    study = make_study(tmp_path / "studies" / "a", read_manifest(dataset))
    before = snapshot(dataset)
    with lease(study):
        code, said = run("--user", "canary-5", "--studies", study)
    assert (code, str(study) in said, str(os.getpid()) in said) == (3, True, True)
    assert not (study / STALE_NAME).exists()
    with lease(dataset, lock=dataset.parent / ".log.lock"):
        code, said = run("--user", "canary-5")
    assert (code, str(dataset) in said) == (3, True)
    assert snapshot(dataset) == before


@pytest.mark.parametrize(
    "flags", [("--usr", "canary-5"), ("canary-5",), ("--user", "canary-5", "--plan", "canary-6"), ("--user=",), ()]
)
def test_a_wrong_command_line_exits_2_and_repeats_no_id(run: Run, flags: tuple[str, ...]) -> None:
    assert run(*flags)[0] == 2


def test_a_wrong_key_and_no_key_exit_2(dataset: Path, run: Run) -> None:
    key = dataset.parent / "user.key"
    key.write_text("ab" * 32 + "\n")
    code, said = run("--user", "canary-5")
    assert code == 2 and "was made with key" in said and "ab" * 32 not in said
    key.unlink()
    assert run("--user", "canary-5")[0] == 2
