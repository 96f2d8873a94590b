"""Parquet: types become text and times, row groups become pieces, and traps are refused before they spring."""

import base64
import os
import pickle
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavegpt.data.sources import parquet_guard
from behavegpt.data.sources.blocks import find_source_problems, plan_pieces
from behavegpt.data.sources.parquet_footer import TRACES_OF_EXTENSIONS
from behavegpt.errors import InputError

T0 = 1_339_437_960


def save(path: Path, user: pa.Array | None = None, rows: int = 3, **options: Any) -> str:
    users = pa.array([f"u{i % 5}" for i in range(rows)]) if user is None else user
    table = pa.table({"user": users, "time": range(T0, T0 + len(users)), "event": ["x"] * len(users)})
    pq.write_table(table, path, **options)
    return str(path)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array(["007", None, " "]), ["007", None, None]),
        (pa.array([7, None], pa.uint16()), ["7", None]),
        (pa.array([10**12, -1]), ["1000000000000", "-1"]),
        (pa.array([7.0, float("nan"), None]), ["7", None, None]),
        (pa.array([7.5, 8.0, -0.0, 0.0, 1e10]), ["7.5", "8", "0", "0", "10000000000"]),
        (pa.array([float("inf")]), ["inf"]),
        (pa.array([True]), ["true"]),
        (pa.array(["a", "b", "a", None]).dictionary_encode(), ["a", "b", "a", None]),
        (pa.DictionaryArray.from_arrays([0, 1, 2], ["a", "a", ""]), ["a", "a", None]),
        (pa.array(["a"], pa.large_string()), ["a"]),
        (pa.nulls(2), [None, None]),
        (pa.array([Decimal(7), Decimal(10**30), None], pa.decimal128(38, 0)), ["7", "1" + "0" * 30, None]),
        (pa.array(["ä", None, ""], pa.string_view()), ["ä", None, None]),
        (pa.array(["ä".encode(), None, b" "]), ["ä", None, None]),
        (pa.array([b"a"], pa.large_binary()), ["a"]),
    ],
)
def test_ids_become_text(tmp_path: Path, spec_of, blocks_of, values: pa.Array, expected: list) -> None:
    (block,) = blocks_of(spec_of(save(tmp_path / "log.parquet", values)))
    assert block.user.to_pylist() == expected
    distinct = block.user.dictionary.to_pylist()
    assert len(set(distinct)) == len(distinct)
    assert block.at("user", 0).endswith("log.parquet: column 'user', row 1")


def test_decimals_with_a_scale_and_bytes_that_are_no_text_are_refused(tmp_path: Path, spec_of, blocks_of) -> None:
    path = save(tmp_path / "a.parquet", pa.array([Decimal("7.50")]))
    assert find_source_problems(spec_of(path)) == [
        f"{path}: column 'user' has type decimal128(3, 2); an id column holds text or numbers; cast to text"
    ]
    path = save(tmp_path / "b.parquet", pa.array([b"a", b"\xff"]))
    with pytest.raises(InputError, match=f"{path}: not readable from row 1 on .*UTF8"):
        blocks_of(spec_of(path))


@pytest.mark.parametrize("block_bytes", [40, 1000, 1 << 20])
def test_row_groups_become_pieces_and_rows_keep_their_numbers(
    tmp_path: Path, spec_of, rows_of, block_bytes: int
) -> None:
    spec = spec_of(save(tmp_path / "log.parquet", rows=1000, row_group_size=300))
    assert len(plan_pieces(spec, block_bytes=block_bytes)) == (1 if block_bytes == 1 << 20 else 4)
    rows = rows_of(spec, block_bytes=block_bytes)
    assert rows["file_row"] == list(range(1, 1001))
    assert rows["seconds"] == [T0 + i for i in range(1000)]
    assert rows["user"] == [f"u{i % 5}" for i in range(1000)]


def test_column_of_another_type_is_refused(tmp_path: Path, spec_of) -> None:
    path = save(tmp_path / "log.parquet", pa.array([[1, 2]]))
    assert any("column 'user' has type list" in problem for problem in find_source_problems(spec_of(path)))


def refusal(path: Path, spec_of) -> str:
    """Return what is said about a file that must be refused quickly."""
    started = time.monotonic()
    problems = find_source_problems(spec_of(str(path)))
    assert time.monotonic() - started < 5
    assert problems and all(problem.startswith(str(path)) for problem in problems)
    return "\n".join(problems)


class Canary:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_extension_type_with_a_pickle_in_it_is_refused_and_runs_nothing(tmp_path: Path, spec_of, padding: int) -> None:
    canary = tmp_path / "canary"

    class Trap(pa.ExtensionType):
        def __init__(self) -> None:
            super().__init__(pa.int64(), "test.trap")

        def __arrow_ext_serialize__(self) -> bytes:
            return pickle.dumps(Canary(canary))

        @classmethod
        def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> "Trap":
            if not canary.exists():
                pickle.loads(serialized)
            return cls()

    storage = pa.array(range(T0, T0 + 3))
    columns = {"user": pa.array(["a"] * 3), "time": storage, "event": pa.array(["x"] * 3)}
    # The padding moves the trap to each place that base64 can give it.
    columns["p" * (padding + 1)] = pa.ExtensionArray.from_storage(Trap(), storage)
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    pa.register_extension_type(Trap())
    try:
        pq.read_schema(tmp_path / "log.parquet")
        assert canary.exists(), "the trap works for a reader that does not look first"
        canary.rmdir()
        assert "Arrow extension types, which may run code" in refusal(tmp_path / "log.parquet", spec_of)
        assert not canary.exists()
    finally:
        pa.unregister_extension_type("test.trap")


def test_base64_of_a_word_is_found_wherever_it_stands() -> None:
    for before in range(7):
        text = base64.b64encode(b"x" * before + b"ARROW:extension:" + b"name")
        assert any(needle in text for needle in TRACES_OF_EXTENSIONS[1:])


def thrift_numbers(footer: bytes, number: int, claimed: int) -> bytes:
    """Return a footer that says another number, wherever it says that one."""

    def varint(number: int) -> bytes:
        number, out = number << 1, b""
        while number > 127:
            out, number = out + bytes([number & 127 | 128]), number >> 7
        return out + bytes([number])

    return footer.replace(b"\x16" + varint(number), b"\x16" + varint(claimed))


def rewrite_footer(path: Path, change) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    footer = change(data[-8 - length : -8])
    path.write_bytes(data[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1")


def test_absurd_row_counts_are_refused(tmp_path: Path, spec_of) -> None:
    path = Path(save(tmp_path / "log.parquet", rows=12_345))
    rewrite_footer(path, lambda footer: thrift_numbers(footer, 12_345, 10**9))
    assert pq.read_metadata(path).num_rows == 10**9
    assert "claims 1,000,000,000 rows in" in refusal(path, spec_of)


def test_hundred_thousand_columns_are_refused(tmp_path: Path, spec_of) -> None:
    # Written by hand, for Arrow takes half a minute: a list of schema elements, each a required int32 named c.
    elements = b"\x35\x02\x18\x01s\x15\xc0\x9a\x0c\x00" + b"\x15\x02\x25\x00\x18\x01c\x00" * 100_000
    count = 100_001
    header = b"\x15\x02\x19\xfc" + bytes([count & 127 | 128, count >> 7 & 127 | 128, count >> 14])
    footer = header + elements + b"\x16\x00\x19\x0c\x00"
    path = tmp_path / "log.parquet"
    path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    assert pq.read_metadata(path).num_columns == 100_000
    assert "more than 20,000 columns or row groups" in refusal(path, spec_of)


@pytest.mark.parametrize("compression", ["zstd", "gzip", "snappy"])
def test_page_that_unpacks_to_more_than_it_says_is_refused(
    tmp_path: Path, spec_of, rows_of, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    path = tmp_path / "log.parquet"
    users = pa.array(["a" * (8 << 20), "b", "c"])
    save(path, users, compression=compression)
    assert [len(user) for user in rows_of(spec_of(str(path)))["user"]] == [8 << 20, 1, 1]
    monkeypatch.setattr(parquet_guard, "MAX_PAGE_BYTES", 4 << 20)
    with pytest.raises(InputError, match="column 'user' in row group 0 has a page that unpacks to"):
        rows_of(spec_of(str(path)))
    monkeypatch.setattr(parquet_guard, "MAX_CHUNK_BYTES", 4 << 20)
    assert "column 'user' in row group 0 claims" in refusal(path, spec_of)


def test_page_that_unpacks_to_more_than_its_column_claims_is_refused(tmp_path: Path, spec_of, rows_of) -> None:
    path = Path(save(tmp_path / "log.parquet", pa.array(["a" * (8 << 20), "b", "c"])))
    claimed = pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size
    rewrite_footer(path, lambda footer: thrift_numbers(footer, claimed, claimed // 8))
    assert pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size == claimed // 8
    with pytest.raises(InputError, match=r"column 'user' in row group 0 unpacks to .* where it claims 1,048,5"):
        rows_of(spec_of(str(path)))


@pytest.mark.slow
def test_bomb_is_refused_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    # 300 MiB of one letter in a page; written elsewhere, so that only the reading counts.
    make = "import pyarrow as pa, pyarrow.parquet as pq, sys; v = pa.array(['a' * (300 << 20)], pa.large_string());"
    make += "t = pa.table({'user': v, 'time': [1339437960], 'event': ['x']}); pq.write_table(t, sys.argv[1])"
    subprocess.run([sys.executable, "-c", make, path], check=True, timeout=120)
    assert path.stat().st_size < 100 << 20
    read = """
import sys, time
from behavegpt.data.sources.blocks import *
from behavegpt.data.sources.spec import *
started = time.monotonic()
spec = LogSpec(inputs=(sys.argv[1],), columns=Columns(user="user", timestamp="time", event="event"))
try:
    for piece in plan_pieces(spec): list(read_blocks(piece, spec))
except Exception as error:
    print(type(error).__name__, str(error)[:500], time.monotonic() - started < 5)
# Of this process alone: what getrusage says goes on from the process that started it.
[peak] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak.split()[1]) >> 10)
"""
    ran = subprocess.run([sys.executable, "-c", read, path], check=True, timeout=60, capture_output=True, text=True)
    said, memory = ran.stdout.splitlines()
    assert said.startswith("InputError") and "column 'user' in row group 0" in said and said.endswith("True")
    assert int(memory) < 1024


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1" * 4, bytes(range(256)) * 9 + b"PAR1", b"PAR1\xff\xff\xff\x7fPAR1"]
)
def test_file_that_is_no_parquet_is_refused_in_one_sentence(tmp_path: Path, spec_of, content: bytes) -> None:
    (tmp_path / "log.parquet").write_bytes(content)
    assert "not readable as Parquet" in refusal(tmp_path / "log.parquet", spec_of)


def test_any_byte_of_the_footer_may_be_wrong(tmp_path: Path, spec_of, rows_of) -> None:
    path = Path(save(tmp_path / "log.parquet", rows=100))
    whole = path.read_bytes()
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    for at in range(len(whole) - footer, len(whole), 5):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        try:
            rows_of(spec_of(str(path)))
        except InputError as error:
            assert all("log.parquet" in problem for problem in error.problems)
