"""CSV: what a file may look like, what is counted, and what is said when it cannot be read."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from behavegpt.data.sources.blocks import TIME_MISSING, TIME_OK, TIME_UNREADABLE, plan_pieces, read_blocks
from behavegpt.data.sources.spec import Columns
from behavegpt.errors import InputError

T0 = 1_339_437_960


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "LOG.CSV.GZ", "log.csv.zst"])
def test_bom_crlf_quoted_newlines_and_any_script(write, spec_of, rows_of, name: str) -> None:
    text = f'\ufeffuser,extra,time,event\r\n007,x,{T0},"🙂, or\n not"\r\n"שלום",y,{T0 + 1},NA\r\n'
    rows = rows_of(spec_of(write(name, text)))
    assert rows["user"] == ["007", "שלום"]
    assert rows["event"] == rows["behavior"] == ["🙂, or\n not", "NA"]
    assert rows["location"] == [None, None]
    assert rows["seconds"] == [T0, T0 + 1]
    assert rows["file_row"] == [2, 3]


def test_tsv_and_other_delimiters(write, spec_of, rows_of) -> None:
    assert rows_of(spec_of(write("log.tsv", f"user\ttime\tevent\na\t{T0}\tb,c\n")))["event"] == ["b,c"]
    for delimiter in (";", "::", "|#|"):
        text = f"user,time,event\na,{T0},b\n".replace(",", delimiter)
        assert rows_of(spec_of(write("log.csv", text), delimiter=delimiter))["event"] == ["b"]
    text = f"user time\tevent \n  a \t {T0} b\t\r\nc {T0} d\n"
    assert rows_of(spec_of(write("log.txt", text), delimiter="whitespace"))["event"] == ["b", "d"]


def test_file_without_header(write, spec_of, rows_of) -> None:
    rows = rows_of(spec_of(write("log.csv", f"a,{T0},b\nc,{T0},d\n"), column_names=("user", "time", "event")))
    assert (rows["user"], rows["file_row"]) == (["a", "c"], [1, 2])


def test_cells_that_are_blank_are_missing_and_no_others(write, spec_of, blocks_of) -> None:
    (block,) = blocks_of(spec_of(write("log.csv", f'user,time,event\n,{T0}, \nnull,,NA\n"",{T0},nan\n \t,x,"a "\n')))
    assert block.user.to_pylist() == [None, "null", None, None]
    assert block.event.to_pylist() == [None, "NA", "nan", "a "]
    assert block.time_status.tolist() == [TIME_OK, TIME_MISSING, TIME_OK, TIME_UNREADABLE]
    assert block.time_raw.to_pylist() == [str(T0), "", str(T0), "x"]
    assert block.at("time", 3) == f"{block.file}: column 'time', row 5"


def test_one_column_may_have_several_roles(write, spec_of, rows_of) -> None:
    columns = Columns(user="user", timestamp="time", event="event", location="event", behavior="event")
    rows = rows_of(spec_of(write("log.csv", f"user,time,event\na,{T0},b\n"), columns=columns))
    assert (rows["location"], rows["behavior"], rows["seconds"]) == (["b"], ["b"], [T0])


def test_malformed_rows_and_blank_lines_are_counted_and_row_numbers_stay_exact(write, spec_of, blocks_of) -> None:
    text = f'user,time,event\n\na,{T0},1\ncanary,{T0}\n\r\n\nb,{T0},"x\n\ny"\ncanary,{T0},3,4\nc,{T0},5\n\n'
    path = write("log.csv", text)
    (block,) = blocks_of(spec_of(path))
    assert block.user.to_pylist() == ["a", "b", "c"]
    # Rows as an editor of tables counts them: the header is 1, the quoted line ends end no row.
    assert [block.row_number(row) for row in range(3)] == [3, 7, 9]
    assert block.skipped.tolist() == [2, 4, 5, 6, 8, 10]
    assert (block.counts["malformed_rows"], block.counts["blank_lines"]) == (2, 4)
    assert block.first_malformed == f"{path}: row 4 has 2 values where the file has 3 columns"


@pytest.mark.parametrize("block_bytes", [64, 1000, 1 << 20])
@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz"])
def test_rows_are_the_same_in_blocks_and_pieces_of_any_size(
    write, spec_of, rows_of, name: str, block_bytes: int
) -> None:
    lines = [f'u{i % 7},{T0 + i},"a\n{"b" * (i % 5)}",{"" if i % 50 else "bad,"}z\n' for i in range(1000)]
    lines.insert(500, "\n")
    spec = spec_of(write(name, "user,time,event,rest\n" + "".join(lines)))
    rows = rows_of(spec, block_bytes=block_bytes)
    kept = [i for i in range(1000) if i % 50]
    assert rows["seconds"] == [T0 + i for i in kept]
    assert rows["event"] == ["a\n" + "b" * (i % 5) for i in kept]
    assert rows["file_row"] == [i + 2 + (i >= 500) for i in kept]
    pieces = plan_pieces(spec, block_bytes=block_bytes)
    assert (len(pieces) > 1) == (name == "log.csv" and block_bytes < 10_000)
    blocks = [block for piece in pieces for block in read_blocks(piece, spec)]
    assert sum(b.counts["malformed_rows"] for b in blocks) == 20
    assert sum(b.counts["blank_lines"] for b in blocks) == 1


def test_one_bad_time_costs_no_other_row(write, spec_of, rows_of) -> None:
    for good in (str(T0), "2012-06-11T18:06:00", "2012-06-11T18:06:00Z"):
        lines = [f"a,{'soon' if i == 90 else good},b\n" for i in range(200)]
        rows = rows_of(spec_of(write("log.csv", "user,time,event\n" + "".join(lines))), block_bytes=500)
        assert rows["seconds"] == [None if i == 90 else T0 for i in range(200)]


def test_latin_1_is_read_and_other_bytes_are_named_by_row(write, spec_of, rows_of) -> None:
    text = f'user,time,event\n"a\nb",{T0},x\nc,{T0},Café\n'.encode("latin-1")
    path = write("log.csv", text)
    assert rows_of(spec_of(path, encoding="latin-1"))["event"] == ["x", "Café"]
    with pytest.raises(InputError, match=r"log\.csv: row 3 holds bytes that are not utf-8; .*--encoding latin-1"):
        rows_of(spec_of(path))
    # Beyond the first mebibyte, which the check of the head covers.
    many = f"user,time,event\n{f'a,{T0},b' + chr(10)}".encode() + f"a,{T0},b\n".encode() * 80_000 + b"c,1,\xff\n"
    with pytest.raises(InputError, match=r"row 80003 holds bytes that are not utf-8"):
        rows_of(spec_of(write("log.csv", many)))


def test_quote_that_is_never_closed_is_refused_and_may_be_a_character(write, spec_of, rows_of) -> None:
    path = write("log.csv", f'user,time,event\na,{T0},b\nc,{T0},5" screen\nd,{T0},e\n')
    with pytest.raises(InputError, match=r"log\.csv: row 3 .*never be closed; .*--no-quoted"):
        rows_of(spec_of(path))
    assert rows_of(spec_of(path, quoted=False))["event"] == ["b", '5" screen', "e"]


def test_endless_line_is_refused(write, spec_of, rows_of) -> None:
    for name in ("log.csv", "log.csv.gz"):
        with pytest.raises(InputError, match=r"row 2 does not end within 1 MiB"):
            rows_of(spec_of(write(name, b"user,time,event\n" + b"x" * (3 << 20))))
        rows = f"a,{T0},b\n".encode() * 150_000
        with pytest.raises(InputError, match=r"row 150002 does not end within 16 MiB"):
            rows_of(spec_of(write(name, b"user,time,event\n" + rows + b"x" * (40 << 20))), block_bytes=4 << 20)


def test_gzip_bomb_is_read_in_bounded_memory(tmp_path: Path, spec_of) -> None:
    path = tmp_path / "log.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(f"user,time,event\na,{T0},b\n".encode())
        for _ in range(256):
            file.write(b"x" * (1 << 20))
    before = pa.total_allocated_bytes()
    spec = spec_of(str(path))
    with pytest.raises(InputError, match="row 3 does not end within 16 MiB"):
        list(read_blocks(plan_pieces(spec, block_bytes=1 << 20)[0], spec))
    assert pa.default_memory_pool().max_memory() - before < 256 << 20


def test_nul_is_a_character_in_a_row_and_no_text_in_a_head(write, spec_of, rows_of) -> None:
    rows = rows_of(spec_of(write("log.csv", "user,time,event\n" + f"a,{T0},b\n" * 200 + f"a,{T0},b\0c\n")))
    assert rows["event"][-1] == "b\0c"
    with pytest.raises(InputError, match="it may be UTF-16"):
        rows_of(spec_of(write("log.csv", f"user,time,event\na,{T0},b\n".encode("utf-16"))))


def test_gzip_that_is_cut_short_is_refused(tmp_path: Path, spec_of, rows_of) -> None:
    rng = np.random.default_rng(0)
    rows = "".join(f"{i},{T0 + i},{n}\n" for i, n in enumerate(rng.integers(0, 10**9, 200_000)))
    whole = gzip.compress(("user,time,event\n" + rows).encode(), 1)
    (tmp_path / "log.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"log\.csv\.gz: not readable from row \d+ on \(.*[Tt]runcated"):
        rows_of(spec_of(str(tmp_path / "log.csv.gz")))
    (tmp_path / "log.csv.gz").write_bytes(b"user,time,event\n1,2,3\n")
    with pytest.raises(InputError, match=r"log\.csv\.gz: not readable as csv"):
        rows_of(spec_of(str(tmp_path / "log.csv.gz")))


def test_several_gzip_and_zstd_members_are_one_text(write, tmp_path: Path, spec_of, rows_of) -> None:
    parts = [f"user,time,event\na,{T0},b\n".encode(), f"c,{T0},d\n".encode()]
    (tmp_path / "log.csv.gz").write_bytes(b"".join(gzip.compress(part) for part in parts))
    (tmp_path / "log.csv.zst").write_bytes(b"".join(pa.compress(part, "zstd", asbytes=True) for part in parts))
    for name in ("log.csv.gz", "log.csv.zst"):
        assert rows_of(spec_of(str(tmp_path / name)))["user"] == ["a", "c"]
