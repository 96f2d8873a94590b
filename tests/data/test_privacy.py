"""No raw user id, no plain digest of one and no key: every byte that an ingest writes or says is searched.

In: logs whose user ids are canaries that nothing else contains. Searched: datasets, cards, staging folders of killed
runs, what jobs print, and Ray's session logs; Parquet as it is and decoded, the other formats do not compress.
"""

import base64
import hashlib
import json
import os
import runpy
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

JOB = Path(__file__).parents[2] / "jobs" / "ingest.py"
CANARIES = (
    *(f"canary-{number}-ZQ@example.org" for number in range(24)),
    "9081726354435261",
    "0099887766554433",
    "🐤🦜 canárý",
    "مستخدم-كناري",
)
KEY = hashlib.sha256(b"the key of these tests").digest()
MAPPING = ("--user", "user", "--timestamp", "time", "--event", "event", "--location", "place")
KEPT = ("--min-users", "2")
Refused = Callable[..., bytes]


def needles() -> dict[bytes, str]:
    """Return what must occur nowhere -> what it is."""
    found = {KEY: "the key", KEY.hex().encode(): "the key in hex", base64.b64encode(KEY): "the key in base64"}
    for canary in CANARIES:
        texts = {canary.encode(), canary.encode("utf-16-le"), json.dumps(canary)[1:-1].encode()}
        texts |= {base64.b64encode(canary.encode()).rstrip(b"=")[:-1]}
        if canary.isdigit():
            texts |= {str(int(canary)).encode()}
            texts |= {struct.pack(order, int(canary)) for order in ("<q", ">q", "<d")}
        for name in ("md5", "sha1", "sha256"):
            digest = hashlib.new(name, canary.encode())
            texts |= {digest.digest(), digest.hexdigest().encode(), digest.hexdigest().upper().encode()}
        found |= dict.fromkeys(texts, f"{canary!r} in some form")
    return found


NEEDLES = needles()


def hits(data: bytes) -> set[str]:
    return {what for needle, what in NEEDLES.items() if needle in data}


def forms_of(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file, and what a reader of its format gets from them, as text."""
    data = path.read_bytes()
    yield data
    try:
        if path.suffix == ".parquet":
            table = pq.read_table(pa.BufferReader(data))
            yield repr(table.to_pydict()).encode() + repr(table.schema.metadata).encode()
    except (OSError, ValueError, pa.ArrowException):
        return  # torn by a kill: its bytes were searched


def search(folder: Path, *, but: tuple[Path, ...] = ()) -> tuple[int, list[str]]:
    """Return how many files were searched, and what was found where; names of files count too."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path not in but]
    found = [f"{path}: {what}" for path in files for form in forms_of(path) for what in sorted(hits(form))]
    return len(files), found + [f"{path}: name" for path in files if hits(str(path).encode())]


def rows(num_per_user: int = 30) -> list[tuple[str, str, str, str]]:
    draw = np.random.default_rng(0)
    return [
        (user, str(1_339_437_960 + 3_600 * index + number), f"e{draw.integers(5)}", f"p{draw.integers(4)}")
        for number, user in enumerate(CANARIES)
        for index in range(num_per_user)
    ]


def write_csv(path: Path, lines: list[tuple[str, ...]], header: bool = True) -> Path:
    text = [",".join(line) for line in ([("user", "time", "event", "place")] if header else []) + lines]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "user.key"
    path.parent.mkdir()
    path.touch(mode=0o600)
    path.write_text(KEY.hex() + "\n")
    return path


def command(log: Path, out: Path, key_file: Path, *flags: str) -> list[str]:
    return [sys.executable, str(JOB), "--input", str(log), "--out", str(out), "--key-file", str(key_file), *flags]


def ingest(log: Path, out: Path, key_file: Path, *flags: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "COLUMNS": "500", "NO_COLOR": "1"}
    job = command(log, out, key_file, *flags)
    return subprocess.run(job, capture_output=True, timeout=120, check=False, env=environment)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Refused:
    """Run the job in this process, which must refuse with exit code 2; return all that it printed."""

    def run(log: Path, out: Path, key_file: Path, *flags: str) -> bytes:
        monkeypatch.setenv("COLUMNS", "500")
        monkeypatch.setattr(sys, "argv", command(log, out, key_file, *flags)[1:])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(JOB), run_name="__main__")
        said = b"".join(capfdbinary.readouterr())
        assert stop.value.code == 2, said
        chain = b"".join(repr(error).encode() for error in (stop.value.__context__, stop.value.__cause__) if error)
        return said + chain

    return run


def said_nothing(done: subprocess.CompletedProcess[bytes]) -> None:
    assert hits(done.stdout + done.stderr) == set(), done.stderr.decode()
    assert b"Traceback" not in done.stderr, done.stderr.decode()


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [CANARIES[0]] * 50}), tmp_path / "a.parquet", compression="zstd")
    np.save(tmp_path / "b.npy", np.array([int(CANARIES[24])]))
    (tmp_path / "c.log").write_text(hashlib.md5(CANARIES[26].encode()).hexdigest())
    (tmp_path / "d.json").write_text(json.dumps({"user": CANARIES[27]}))
    (tmp_path / CANARIES[1]).write_bytes(b"..." + KEY)
    (tmp_path / "e.txt").write_text("canary")
    number, found = search(tmp_path)
    named = {Path(hit.split(": ")[0]).name for hit in found}
    assert (number, named) == (6, {"a.parquet", "b.npy", "c.log", "d.json", CANARIES[1]})


def test_datasets_cards_and_output_hold_no_id_and_no_key(logs: Path, tmp_path: Path, key_file: Path) -> None:
    done = ingest(write_csv(logs / "log.csv", rows()), tmp_path / "sets" / "a", key_file, *MAPPING, *KEPT)
    assert done.returncode == 0, done.stderr
    said_nothing(done)
    card = [sys.executable, str(JOB.with_name("card.py")), "--dataset", str(tmp_path / "sets" / "a")]
    done = subprocess.run(card, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    said_nothing(done)
    number, found = search(tmp_path / "sets")
    assert number >= 3 + 3 + 1 + 3 and found == []  # shards, vocabularies, manifest, card


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_other_formats_hold_no_id(logs: Path, tmp_path: Path, key_file: Path, kind: str) -> None:
    table = pa.table(dict(zip(("user", "time", "event", "place"), map(list, zip(*rows(), strict=True)), strict=True)))
    table = table.set_column(1, "time", table["time"].cast(pa.int64()))
    log = logs / f"log.{kind}"
    if kind == "parquet":
        pq.write_table(table, log)
    else:
        log.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    done = ingest(log, tmp_path / "sets" / "a", key_file, *MAPPING, *KEPT)
    assert done.returncode == 0, done.stderr
    said_nothing(done)
    assert search(tmp_path / "sets")[1] == []


BAD_ROWS = [(user, f"never {user}", "e1", "p1") for user in CANARIES]
TORN_ROWS = [(user, "1339437960", "e1", "p1", user, user) for user in CANARIES]
LONG_ROWS = [(user * 200, "1339437960", "e1", "p1") for user in CANARIES]


@pytest.mark.parametrize(
    ("lines", "flags"),
    [
        (rows() + BAD_ROWS, MAPPING),
        (rows() + TORN_ROWS, MAPPING),
        (TORN_ROWS + rows(), MAPPING),
        (rows() + LONG_ROWS, MAPPING),
        (BAD_ROWS, MAPPING),
        (TORN_ROWS, MAPPING),
        (rows(1), MAPPING),
        (rows(), ("--user", "event", "--timestamp", "user", "--event", "place")),
        (rows(), ("--user", "event", "--timestamp", "user", "--event", "place", "--time-unit", "s")),
        (rows(), ("--user", "event", "--timestamp", "user", "--event", "place", "--time-unit", "iso")),
        (rows(), ("--user", "event", "--timestamp", "time", "--event", "place", "--utc-offset", "user")),
        (rows(), (*MAPPING[:6], "--latitude", "user", "--longitude", "user", "--h3-resolution", "8")),
        (rows(), (*MAPPING, "--behavior", "user")),
        (rows(), ("--user", "usr", *MAPPING[2:])),
        (rows(), (*MAPPING, "--delimiter", ";")),
        (rows(), (*MAPPING, "--behavior-table", "{log}", "--table-columns", "event", "user")),
        (rows(), (*MAPPING, "--hold-out-behaviors", "e9")),
        (rows(), (*MAPPING, "--min-users", "99")),
    ],
)
def test_what_is_refused_is_refused_without_an_id(
    logs: Path, tmp_path: Path, key_file: Path, refused: Refused, lines: list[tuple[str, ...]], flags: tuple[str, ...]
) -> None:
    log = write_csv(logs / "log.csv", lines)
    said = refused(log, tmp_path / "sets" / "a", key_file, *(flag.format(log=log) for flag in flags))
    assert hits(said) == set(), said.decode()
    assert search(tmp_path, but=(log, key_file))[1] == []


@pytest.mark.parametrize("user", ["canary-0", "user"])
def test_a_log_without_a_header_is_refused_without_an_id(
    logs: Path, tmp_path: Path, key_file: Path, refused: Refused, user: str
) -> None:
    log = write_csv(logs / "log.csv", rows(), header=False)
    said = refused(log, tmp_path / "sets" / "a", key_file, "--user", user, *MAPPING[2:])
    assert hits(said.replace(f"--user {user}".encode(), b"")) == set(), said.decode()


@pytest.mark.chaos
def test_a_killed_ingest_leaves_no_id_in_its_staging_folder(
    logs: Path, tmp_path: Path, key_file: Path, kill_with: Callable[[list[str], Path, str], bytes]
) -> None:
    log = write_csv(logs / "log.csv", rows(3_000))
    out = tmp_path / "sets" / "a"
    job = command(log, out, key_file, *MAPPING, *KEPT, "--memory-gb", "0.01")
    for left in ("scattered/*.rows", "cleaned/*.rows", "spill/train/*.npy"):
        said = kill_with(job, out, left)
        assert hits(said) == set(), said.decode()
        number, found = search(tmp_path, but=(log, key_file))
        assert number >= 2 and found == []
        assert (out.parent / f".{out.name}.partial").stat().st_mode & 0o777 == 0o700


def test_another_key_gives_pseudonyms_that_cannot_be_joined(logs: Path, tmp_path: Path, key_file: Path) -> None:
    log = write_csv(logs / "log.csv", rows())
    other = tmp_path / "keys" / "rotated.key"
    users = []
    for name, key in (("a", key_file), ("b", other), ("c", key_file)):
        done = ingest(log, tmp_path / "sets" / name, key, *MAPPING, *KEPT)
        assert done.returncode == 0, done.stderr
        shards = (tmp_path / "sets" / name).glob("*/part-*.parquet")
        users.append({user for path in shards for user in pq.read_table(path)["user"].to_pylist()})
    assert other.stat().st_mode & 0o777 == 0o600
    assert len(users[0]) == len(users[1]) == len(CANARIES)
    assert users[0] == users[2] and not users[0] & users[1]
    plain = {
        int.from_bytes(hashlib.sha256(user.encode()).digest()[:8], order)
        for user in CANARIES
        for order in ("big", "little")
    }
    assert not plain & (users[0] | users[1])
    assert search(tmp_path / "sets")[1] == []


@pytest.mark.ray
@pytest.mark.slow
def test_ids_and_key_are_not_in_the_logs_of_the_cluster(
    logs: Path, tmp_path: Path, key_file: Path, ray_cluster: str
) -> None:
    import ray

    log = write_csv(logs / "log.csv", rows())
    done = ingest(log, tmp_path / "sets" / "a", key_file, *MAPPING, *KEPT, "--use-ray")
    assert done.returncode == 0, done.stderr
    said_nothing(done)
    bad = write_csv(logs / "bad.csv", rows() + BAD_ROWS + TORN_ROWS)
    done = ingest(bad, tmp_path / "sets" / "b", key_file, *MAPPING, "--use-ray")
    assert done.returncode == 2, done.stderr
    assert hits(done.stdout + done.stderr) == set(), done.stderr.decode()
    session = Path(ray._private.worker.global_worker.node.get_session_dir_path())  # type: ignore[attr-defined]
    time.sleep(2)  # for the log files of workers to be flushed
    number, found = search(session)
    assert number >= 10 and found == []
    assert search(tmp_path, but=(log, bad, key_file))[1] == []
