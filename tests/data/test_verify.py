"""Verification names every file of a dataset that is not as it was written, and every file that is none of its own."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from behavegpt.data.manifest import read_manifest
from behavegpt.data.shards import write_dataset
from behavegpt.data.verify import verify_dataset
from behavegpt.data.vocab import Vocabulary, write_vocabulary
from behavegpt.data.windows import Windows
from behavegpt.errors import InputError
from behavegpt.schema import SPLITS, WINDOW_LENGTH

VOCABULARIES = {name: Vocabulary(("K", "L"), (7, 5)) for name in ("location", "event", "behavior")}


def write(out: Path, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    splits = {}
    for split in SPLITS:
        ids = {n: rng.integers(2, 4, (40, WINDOW_LENGTH)) for n in ("weekday", "slot", "location", "event", "behavior")}
        splits[split] = Windows(
            **ids,
            timestamp=rng.integers(10**9, 2 * 10**9, (40, WINDOW_LENGTH)),
            length=np.full(40, WINDOW_LENGTH),
            first_target=np.ones(40, int),
            user=np.arange(40, dtype=np.uint64),
            number=np.zeros(40, np.uint32),
        )
    write_dataset(out, splits, VOCABULARIES, name="toy", source={}, counts={}, seed=seed, windows_per_shard=16)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Return a dataset of three small shards a split."""
    write(tmp_path / "toy")
    return tmp_path / "toy"


def problems(directory: Path) -> list[str]:
    with pytest.raises(InputError) as error:
        verify_dataset(directory)
    return list(error.value.problems)


def test_200_random_flips_are_all_found_and_name_the_shard(dataset: Path) -> None:
    paths = [dataset / s.path for split in read_manifest(dataset).splits.values() for s in split.shards]
    rng = np.random.default_rng(0)
    for number in range(200):
        path = paths[number % len(paths)]
        whole = path.read_bytes()
        data = bytearray(whole)
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        [problem] = problems(dataset)
        assert problem.startswith(f"{path}: the content does not match its sha256")
        path.write_bytes(whole)
    verify_dataset(dataset)


def test_truncated_swapped_missing_and_foreign_shards_are_named(dataset: Path, tmp_path: Path) -> None:
    paths = [dataset / s.path for split in read_manifest(dataset).splits.values() for s in split.shards]
    whole = {path: path.read_bytes() for path in paths}
    rng = np.random.default_rng(1)
    for path in paths:
        path.write_bytes(whole[path][: int(rng.integers(len(whole[path])))])
        assert [p.split(":")[0] for p in problems(dataset)] == [str(path)]
        path.unlink()
        assert problems(dataset) == [f"{path}: missing; ingest again or restore the file"]
        path.write_bytes(whole[path])
    for first, second in itertools.pairwise(paths):
        first.write_bytes(whole[second])
        second.write_bytes(whole[first])
        assert [p.split(":")[0] for p in problems(dataset)] == [str(first), str(second)]
        first.write_bytes(whole[first])
        second.write_bytes(whole[second])
    other = tmp_path / "other"
    write(other, seed=1)
    shutil.copy(other / "train" / "part-00000.parquet", dataset / "train" / "part-00003.parquet")
    shutil.copy(other / "train" / "part-00000.parquet", dataset / "part-00000.parquet")
    assert [p.split(":")[0] for p in problems(dataset)] == [
        str(dataset / "part-00000.parquet"),
        str(dataset / "train" / "part-00003.parquet"),
    ]


def test_a_shard_of_another_dataset_is_named(dataset: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", seed=1)
    shutil.copy(tmp_path / "other" / "val" / "part-00000.parquet", dataset / "val" / "part-00001.parquet")
    assert [p.split(":")[0] for p in problems(dataset)] == [str(dataset / "val" / "part-00001.parquet")]


def test_the_manifest_of_another_dataset_is_no_manifest_of_this_one(dataset: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", seed=1)
    shutil.copy(tmp_path / "other" / "manifest.json", dataset / "manifest.json")
    named = {p.split(":")[0] for p in problems(dataset)}
    assert named == {str(p) for p in dataset.rglob("part-*.parquet")}


def test_all_damage_is_told_at_once(dataset: Path) -> None:
    flipped, cut, gone = (dataset / f"train/part-{i:05d}.parquet" for i in range(3))
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:-1])
    gone.unlink()
    words = dataset / "vocab" / "behavior.parquet"
    write_vocabulary(words, Vocabulary(("L", "K"), (7, 5)))
    (dataset / "train" / "notes.txt").write_text("")
    (dataset / "card.html").write_text("")
    expected = [words, flipped, cut, gone, dataset / "train" / "notes.txt"]
    assert [problem.split(":")[0] for problem in problems(dataset)] == [str(path) for path in expected]
    said = "\n".join(problems(dataset))
    for words in ("does not match its sha256", "its manifest says", "missing", "not in the dataset's manifest"):
        assert words in said


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: m["splits"]["train"]["shards"].pop(),
        lambda m: m["splits"]["train"]["shards"][0].update(crc32="0" * 72),
        lambda m: m["splits"]["val"].update(num_targets=1),
        lambda m: m["vocabulary_sizes"].update(behavior=5),
        lambda m: m["counts"].update(rows_read=1),
        lambda m: m.update(name="another"),
        lambda m: m.pop("splits"),
        lambda m: m.pop("checksum"),
        lambda m: m.update(schema_version=1),
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
