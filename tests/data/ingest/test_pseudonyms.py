"""Pseudonyms: HMAC-SHA256 as the standard library has it, under a key that only its owner can read."""

import hmac
import stat
from pathlib import Path

import pyarrow as pa
import pytest

from behavegpt.data.ingest.pseudonyms import find_key_problems, key_id, pseudonyms, read_key, take_key, write_key

USERS = ["a", "1000000000000", "🙂 שלום", "x" * 1000]


@pytest.mark.parametrize("key_bytes", [32, 64, 65])
def test_pseudonym_is_the_beginning_of_the_standard_librarys_hmac(key_bytes: int) -> None:
    key = bytes(range(key_bytes))
    expected = [hmac.digest(key, user.encode(), "sha256") for user in USERS]
    found = pseudonyms(key, pa.array(USERS))
    assert [high.to_bytes(8, "big") + low.to_bytes(8, "big") for high, low in found.tolist()] == [
        digest[:16] for digest in expected
    ]


def test_published_vector() -> None:
    # RFC 4231, test case 2.
    found = pseudonyms(b"Jefe", pa.array(["what do ya want for nothing?"]))
    assert found.tolist() == [[0x5BDCC146BF60754E, 0x6A042426089575C7]]


def test_no_users_have_no_pseudonyms() -> None:
    assert pseudonyms(b"k" * 32, pa.array([], pa.string())).shape == (0, 2)


def test_key_file_is_for_its_owner_alone_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "user.key"
    key = take_key(path)
    assert len(key) == 32
    assert take_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_key(path) == key
    assert find_key_problems(path, tmp_path / "set") == []
    assert list(path.parent.iterdir()) == [path]


def test_key_of_another_run_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "user.key"
    write_key(path, b"\1" * 32)
    write_key(path, b"\2" * 32)
    assert read_key(path) == b"\1" * 32
    assert list(tmp_path.iterdir()) == [path]


def test_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "user.key"
    take_key(path)
    path.chmod(0o640)
    (problem,) = find_key_problems(path, tmp_path / "set")
    assert "mode 0640" in problem
    assert f"chmod 600 {path}" in problem


def test_key_inside_the_dataset_is_refused_even_through_a_link(tmp_path: Path) -> None:
    out = tmp_path / "set"
    (tmp_path / "link").symlink_to(out)
    for path in (out / "user.key", tmp_path / "link" / "deep" / "user.key", tmp_path / "x" / ".." / "set" / "user.key"):
        (problem,) = find_key_problems(path, out)
        assert "inside the dataset" in problem


@pytest.mark.parametrize("content", ["", "00" * 31, "zz" * 32, "ключ"])
def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path, content: str) -> None:
    path = tmp_path / "user.key"
    path.touch(mode=0o600)
    path.write_text(content, encoding="utf-8")
    (problem,) = find_key_problems(path, tmp_path / "set")
    assert "not a key" in problem
    assert not content or content not in problem


def test_directory_and_file_as_parent_are_refused(tmp_path: Path) -> None:
    assert "is not a file" in find_key_problems(tmp_path, tmp_path / "set")[0]
    (tmp_path / "file").touch()
    assert "is a file" in find_key_problems(tmp_path / "file" / "user.key", tmp_path / "set")[0]


def test_key_id_tells_keys_apart_and_is_no_pseudonym_of_anyone() -> None:
    keys = [bytes([i]) * 32 for i in range(20)]
    assert len({key_id(key) for key in keys}) == 20
    assert key_id(keys[0]) == key_id(keys[0])
    assert len(key_id(keys[0])) == 16
