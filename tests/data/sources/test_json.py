"""JSON lines: fields by name, numbers and text as ids, and lines that are no objects."""

import json

import pytest

from behavegpt.errors import InputError

T0 = 1_339_437_960


@pytest.mark.parametrize("name", ["log.jsonl", "log.ndjson.gz", "log.jsonl.zst"])
def test_fields_in_any_order_with_numbers_text_and_nothing(write, spec_of, rows_of, name: str) -> None:
    text = (
        f'{{"user": 7, "time": {T0}, "event": "é\\n"}}\n{{"event": null, "x": [{{}}], "time": {T0 + 1}, "user": 8}}\n'
    )
    rows = rows_of(spec_of(write(name, text)))
    assert rows["user"] == ["7", "8"]
    assert rows["event"] == ["é\n", None]
    assert rows["seconds"] == [T0, T0 + 1]
    assert rows["file_row"] == [1, 2]


def test_times_as_text_and_ids_that_begin_with_zero(write, spec_of, rows_of) -> None:
    text = '{"user": "007", "time": "2012-06-11T18:06Z", "event": 1.5}\n{"user": "7", "time": "", "event": 2}\n'
    rows = rows_of(spec_of(write("log.jsonl", text)))
    assert (rows["user"], rows["event"], rows["seconds"]) == (["007", "7"], ["1.5", "2"], [T0, None])


@pytest.mark.parametrize("block_bytes", [100, 1 << 20])
def test_lines_that_are_no_such_objects_are_counted(write, spec_of, blocks_of, block_bytes: int) -> None:
    lines = [json.dumps({"user": f"u{i}", "time": T0 + i, "event": "e"}) for i in range(100)]
    bad = {3: "canary", 50: '{"user": 5, "time": 1, "event": "e"}', 77: "[" * 100_000, 99: "[1]"}
    for at, line in bad.items():
        lines[at] = line
    lines.insert(10, "")
    path = write("log.jsonl", "\n".join(lines))
    blocks = blocks_of(spec_of(path), block_bytes=block_bytes)
    users = [user for block in blocks for user in block.user.to_pylist()]
    assert users == [f"u{i}" for i in range(100) if i not in bad]
    numbers = [block.row_number(row) for block in blocks for row in range(len(block))]
    assert numbers == [i + 1 + (i >= 10) for i in range(100) if i not in bad]
    assert sum(block.counts["malformed_rows"] for block in blocks) == 4
    assert sum(block.counts["blank_lines"] for block in blocks) == 1
    first = next(block.first_malformed for block in blocks if block.first_malformed)
    assert first.startswith(f"{path}: row 4 is no JSON object with 'user' as text, ")
    assert "canary" not in first


def test_file_that_is_no_json_and_fields_that_are_no_values_are_refused(write, spec_of, rows_of) -> None:
    with pytest.raises(InputError, match="none of the first 3 lines is a JSON object"):
        rows_of(spec_of(write("log.jsonl", "a\nb\nc")))
    with pytest.raises(InputError, match=r"column 'user' has type list<.*>; an id column holds"):
        rows_of(spec_of(write("log.jsonl", f'{{"user": [1], "time": {T0}, "event": "e"}}\n')))
    good = f'{{"user": "a", "time": {T0}, "event": "e"}}\n'
    with pytest.raises(InputError, match=r"from row 2 on, more than 1,000 lines are no JSON object"):
        rows_of(spec_of(write("log.jsonl", good + "x\n" * 2000)))
