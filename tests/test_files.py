"""Files that are whole or absent: many writers, and writers killed at any instant."""

import collections
import hashlib
import json
import random
import subprocess
import sys
import time

import pytest

from behavegpt.files import create_file, replace_file, sha256_of

NAMES = 120
CREATOR = """
import json, random, sys
from pathlib import Path
from behavegpt.files import create_file

writer, names, directory, acks = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), open(sys.argv[4], "a")
order = list(range(names))
random.Random(int(writer)).shuffle(order)
print("ready", flush=True)
sys.stdin.readline()
for i in order:
    if create_file(directory / f"{i}.json", json.dumps({"writer": writer, "i": i, "filler": "x" * 20_000})):
        print(i, file=acks, flush=True)
"""
REPLACER = """
import json, sys
from pathlib import Path
from behavegpt.files import replace_file

writer, path = sys.argv[1], Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for i in range(10**6):
    replace_file(path, json.dumps({"writer": writer, "i": i, "filler": "x" * 20_000}))
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def go(writers: list[subprocess.Popen[str]]) -> None:
    """Let all writers begin together once each one is ready."""
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()


@pytest.mark.chaos
def test_eight_killed_writers_tear_nothing_lose_nothing_and_share_no_name(tmp_path):
    directory, chance = tmp_path / "cells", random.Random(0)
    directory.mkdir()
    writers = [start(CREATOR, k, NAMES, directory, tmp_path / f"acks-{k}") for k in range(8)]
    go(writers)
    # Six die at random instants while they write, two live to the end, so that every name is created.
    for writer in writers[:6]:
        time.sleep(chance.uniform(0.0, 0.08))
        writer.kill()
    codes = [writer.wait(timeout=120) for writer in writers]
    assert codes[6:] == [0, 0]
    assert -9 in codes[:6], "every writer was done before it was killed"

    rows = {int(p.stem): json.loads(p.read_text()) for p in directory.glob("*.json")}
    assert rows.keys() == set(range(NAMES))
    assert all(row["i"] == i and len(row["filler"]) == 20_000 for i, row in rows.items())
    acked = [(int(i), str(k)) for k in range(8) for i in (tmp_path / f"acks-{k}").read_text().split()]
    assert all(rows[i]["writer"] == writer for i, writer in acked)
    assert max(collections.Counter(i for i, _ in acked).values()) == 1
    # A writer that was not killed acknowledged every file that bears its name.
    alive = {str(k) for k, code in enumerate(codes) if code == 0}
    assert {(i, row["writer"]) for i, row in rows.items() if row["writer"] in alive} <= set(acked)
    killed = codes.count(-9)
    # What a killed writer leaves besides is at most the one temporary file it was at.
    assert len([p for p in directory.iterdir() if p.suffix != ".json"]) <= killed


@pytest.mark.chaos
def test_a_replaced_file_is_always_one_of_its_versions(tmp_path):
    path = tmp_path / "config.json"
    for round_number in range(3):
        writers = [start(REPLACER, k, path) for k in range(2)]
        go(writers)
        until = time.monotonic() + 0.15
        while time.monotonic() < until:
            if path.exists():
                assert len(json.loads(path.read_text())["filler"]) == 20_000
        for writer in writers:
            writer.kill()
        assert [writer.wait(timeout=60) for writer in writers] == [-9, -9]
        assert len(json.loads(path.read_text())["filler"]) == 20_000, round_number


def test_create_keeps_what_exists_and_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "new" / "folder" / "a.json"
    assert create_file(path, "first") is True
    assert create_file(path, "second") is False
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_replace_takes_the_place_of_what_exists_and_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "new" / "a.json"
    replace_file(path, "first")
    replace_file(path, "zweite Fassung: größer")
    assert path.read_bytes().decode() == "zweite Fassung: größer"
    assert list(path.parent.iterdir()) == [path]


def test_a_writer_that_fails_before_the_last_step_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    replace_file(path, "old")
    with pytest.raises(UnicodeEncodeError):
        replace_file(path, "\ud800")
    assert path.read_text() == "old"


def test_sha256_is_the_published_one(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "big").write_bytes(b"\0" * 3_000_001)
    assert sha256_of(tmp_path / "big") == hashlib.sha256(b"\0" * 3_000_001).hexdigest()
