"""Dataset directories: written whole or not at all, and every damaged file is named."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavegpt.data import shards
from behavegpt.data.manifest import Manifest, read_manifest
from behavegpt.data.shards import from_table, verify_dataset, write_dataset
from behavegpt.data.vocab import Vocabulary, learn_vocabulary, read_vocabulary, write_vocabulary
from behavegpt.data.windows import Windows, concatenate
from behavegpt.errors import InputError
from behavegpt.schema import SPLITS, WINDOW_LENGTH

VOCABULARIES = {
    "location": Vocabulary((), ()),
    "event": Vocabulary(tuple(f"e{i}" for i in range(300)), tuple(range(300, 0, -1))),
    "behavior": Vocabulary(("K", "L"), (7, 5)),
}


def make_windows(num_windows: int, first_id: int = 0) -> Windows:
    rng = np.random.default_rng(first_id)
    shape = (num_windows, WINDOW_LENGTH)
    return Windows(
        weekday=rng.integers(1, 8, shape),
        slot=rng.integers(1, 49, shape),
        location=np.zeros(shape, int),
        event=rng.integers(2, 302, shape),
        behavior=rng.integers(0, 4, shape),
        timestamp=rng.integers(10**9, 2 * 10**9, shape),
        length=np.full(num_windows, WINDOW_LENGTH),
        first_target=rng.integers(1, 91, num_windows),
        user=rng.integers(0, 9, num_windows),
        window_id=np.arange(first_id, first_id + num_windows),
    )


def write(out: Path, num_windows: int = 40, seed: int = 0) -> Manifest:
    splits = {split: make_windows(num_windows, 1000 * index) for index, split in enumerate(SPLITS)}
    return write_dataset(out, splits, VOCABULARIES, name="toy", source={}, counts={}, seed=seed)


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shards, "WINDOWS_PER_SHARD", 16)
    write(tmp_path / "toy")
    return tmp_path / "toy"


def problems(directory: Path) -> list[str]:
    with pytest.raises(InputError) as error:
        verify_dataset(directory)
    return list(error.value.problems)


def test_windows_come_back_as_they_were_in_another_order(dataset: Path) -> None:
    manifest = verify_dataset(dataset)
    assert [shard.num_windows for shard in manifest.splits["val"].shards] == [16, 16, 8]
    tables = [pq.read_table(dataset / shard.path) for shard in manifest.splits["val"].shards]
    back = concatenate([from_table(table) for table in tables])
    expected = make_windows(40, 1000)
    assert back.window_id.tolist() != expected.window_id.tolist()
    back = back.take(np.argsort(back.window_id))
    for name in ("weekday", "slot", "location", "event", "behavior", "timestamp", "length", "first_target", "user"):
        assert (getattr(back, name) == getattr(expected, name)).all()
    counted = sum(
        int(expected.behavior[row, position] > 0)
        for row in range(40)
        for position in range(int(expected.first_target[row]), WINDOW_LENGTH)
    )
    assert manifest.splits["val"].num_targets == counted
    part = from_table(tables[0].slice(3, 2))
    assert (part.event == from_table(tables[0]).event[3:5]).all()
    assert from_table(tables[0].slice(0, 0)).event.shape == (0, WINDOW_LENGTH)


def test_every_damaged_file_is_named(dataset: Path) -> None:
    flipped, cut, gone = (dataset / f"train/part-{i:05d}.parquet" for i in range(3))
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:-1])
    gone.unlink()
    words = dataset / "vocab" / "behavior.parquet"
    write_vocabulary(words, Vocabulary(("L", "K"), (7, 5)))
    assert [problem.split(":")[0] for problem in problems(dataset)] == [str(words), str(flipped), str(cut), str(gone)]
    said = "\n".join(problems(dataset))
    assert "does not match its sha256" in said and "its manifest says" in said and "missing" in said


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: m["splits"]["train"]["shards"].pop(),
        lambda m: m["splits"]["val"].update(num_targets=1),
        lambda m: m["vocabulary_sizes"].update(behavior=5),
        lambda m: m["counts"].update(rows_read=1),
        lambda m: m.update(name="another"),
        lambda m: m.pop("splits"),
        lambda m: m.pop("checksum"),
        lambda m: m.update(schema_version=99),
    ],
)
def test_edited_manifest_is_refused(dataset: Path, edit) -> None:
    path = dataset / "manifest.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    (problem,) = problems(dataset)
    assert problem.startswith(str(path))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_torn_manifest_is_refused(dataset: Path, content: bytes) -> None:
    (dataset / "manifest.json").write_bytes(content)
    assert problems(dataset)[0].startswith(str(dataset / "manifest.json"))


def test_directory_without_a_manifest_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not a dataset \(manifest\.json is missing\)"):
        read_manifest(tmp_path)


def test_existing_directory_is_refused_and_stays_as_it_is(dataset: Path) -> None:
    before = read_manifest(dataset)
    with pytest.raises(InputError, match="exists already"):
        write(dataset, num_windows=5)
    assert verify_dataset(dataset) == before


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("failing", ["write_vocabulary", "to_table", "fsync"])
def test_nothing_is_left_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(shards, failing, fail)
    (tmp_path / "kept").mkdir()
    with pytest.raises(type(error)):
        write(tmp_path / "kept" / "new" / "newer" / "toy")
    assert [path.name for path in tmp_path.rglob("*")] == ["kept"]


def test_out_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file"):
        write(tmp_path / "file" / "deep" / "toy")


def test_same_windows_and_seed_give_the_same_bytes(tmp_path: Path) -> None:
    manifests = [write(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert manifests[0] == manifests[1]
    assert manifests[0].fingerprint != manifests[2].fingerprint


def test_vocabulary_knows_training_values_by_frequency_and_ties_by_value(tmp_path: Path) -> None:
    values = pa.array(["a", "b", "c", "d"])
    #                 a  c  c  -  b  b  a  a  d
    codes = np.array([0, 2, 2, -1, 1, 1, 0, 0, 3])
    in_training = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0], bool)
    vocabulary, ids = learn_vocabulary(codes, values, in_training)
    assert vocabulary == Vocabulary(("b", "c", "a"), (2, 2, 1))
    assert ids.tolist() == [4, 3, 3, 0, 2, 2, 4, 4, 1]
    write_vocabulary(tmp_path / "v.parquet", vocabulary)
    assert read_vocabulary(tmp_path / "v.parquet") == vocabulary
    write_vocabulary(tmp_path / "empty.parquet", Vocabulary((), ()))
    assert read_vocabulary(tmp_path / "empty.parquet") == Vocabulary((), ())
