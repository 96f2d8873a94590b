"""Where datasets and key files must not be: inside another dataset, or in another user's hands."""

import os
from pathlib import Path

import pytest

from behavegpt.data.ingest.pseudonyms import find_key_problems
from behavegpt.data.staging import WORK, find_out_problems, staged_dataset


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Return a directory that passes for a dataset."""
    (tmp_path / "other" / "deep").mkdir(parents=True)
    (tmp_path / "other" / "manifest.json").touch()
    return tmp_path / "other"


def test_no_dataset_within_a_dataset(other: Path) -> None:
    for out in (other / "new", other / "deep" / "new" / "newer"):
        assert find_out_problems(out) == [f"--out {out}: lies inside the dataset {other}; choose another --out"]
    assert find_out_problems(other.parent / "new") == []


def test_no_key_within_any_dataset(other: Path) -> None:
    key = other / "deep" / "user.key"
    (problem,) = find_key_problems(key, other.parent / "new")
    assert problem.startswith(f"--key-file {key}: lies inside the dataset {other}")
    assert find_key_problems(other.parent / "user.key", other.parent / "new") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_no_key_of_another_user(tmp_path: Path) -> None:
    key = tmp_path / "user.key"
    key.touch(mode=0o600)
    key.write_text("ab" * 32)
    assert find_key_problems(key, tmp_path / "new") == []
    os.chown(key, 4_321, -1)
    (problem,) = find_key_problems(key, tmp_path / "new")
    assert "belongs to another user (uid 4321)" in problem and "ab" not in problem


def test_the_staging_folder_is_its_owners_alone_and_the_dataset_follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        with staged_dataset(tmp_path / "new") as staging:
            assert staging.parent.stat().st_mode & 0o777 == 0o700
            assert (staging / WORK).is_dir()
    finally:
        os.umask(old)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o755
