"""Manifests whose checksums are right and whose content is hostile: refused with exit code 2's error, nothing read."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from behavegpt.data import manifest as manifest_module
from behavegpt.data.manifest import read_manifest
from behavegpt.data.shards import write_dataset
from behavegpt.data.verify import verify_dataset
from behavegpt.data.vocab import Vocabulary
from behavegpt.data.windows import Windows
from behavegpt.errors import InputError
from behavegpt.schema import SPLITS, VOCABULARIES, WINDOW_LENGTH

SECRET = b"root:x:0:0"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    ids = np.full((3, WINDOW_LENGTH), 2, np.uint8)
    windows = Windows(
        weekday=ids,
        slot=ids,
        location=ids,
        event=ids,
        behavior=ids,
        timestamp=np.zeros((3, WINDOW_LENGTH), np.int64),
        length=np.full(3, WINDOW_LENGTH, np.uint8),
        first_target=np.ones(3, np.uint8),
        user=np.arange(3, dtype=np.uint64),
        number=np.zeros(3, np.uint32),
    )
    words = {name: Vocabulary(("a",), (9,)) for name in VOCABULARIES}
    out = tmp_path / "sets" / "toy"
    splits: dict[str, Windows] = dict.fromkeys(SPLITS, windows)
    write_dataset(out, splits, words, name="toy", source={}, counts={"rows_read": 9}, seed=0)
    (tmp_path / "sets" / "secret").write_bytes(SECRET)
    return out


def checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def forge(dataset: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit the manifest, and compute its fingerprint and checksum again as its format says."""
    path = dataset / "manifest.json"
    content = json.loads(path.read_text())
    del content["checksum"]
    edit(content)
    shards = {name: [s["sha256"] for s in split["shards"]] for name, split in content["splits"].items()}
    content["fingerprint"] = checksum(
        {k: content[k] for k in ("schema_version", "vocabulary_sizes")} | {"shards": shards}
    )
    path.write_text(json.dumps(content | {"checksum": checksum(content)}))


def shard(content: dict[str, Any]) -> dict[str, Any]:
    return content["splits"]["train"]["shards"][0]


def lead_to(path: str) -> Callable[[dict[str, Any]], object]:
    true = {"path": path, "num_bytes": len(SECRET), "sha256": hashlib.sha256(SECRET).hexdigest()}
    return lambda content: shard(content).update(true)


@pytest.mark.parametrize(
    "path", ["../secret", "train/../../secret", "{sets}/secret", "val/part-00001.parquet", "", "train"]
)
def test_a_shard_elsewhere_is_refused_before_it_is_opened(dataset: Path, path: str) -> None:
    where = path.format(sets=dataset.parent)
    forge(dataset, lead_to(where))
    with pytest.raises(InputError) as error:
        read_manifest(dataset)
    assert error.value.problems == (
        f"{dataset / 'manifest.json'}: {where!r} is no path of a shard of train; ingest again",
    )


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: shard(m).update(path=5),
        lambda m: shard(m).update(path=None),
        lambda m: shard(m).update(path="train/part-00000.parquet\0"),
        lambda m: shard(m).update(path="train/part-00000.parquet\n"),
        lambda m: shard(m).update(num_windows="3"),
        lambda m: shard(m).update(num_windows=True),
        lambda m: shard(m).update(num_bytes=-1),
        lambda m: shard(m).update(num_targets=1e3),
        lambda m: shard(m).update(sha256="../x"),
        lambda m: shard(m).update(crc32=["a"]),
        lambda m: m["splits"]["train"].update(num_windows=10**12),
        lambda m: m["splits"]["train"].update(num_targets=-5),
        lambda m: m["splits"]["train"].update(num_users=None),
        lambda m: m["splits"]["val"]["shards"].append(m["splits"]["val"]["shards"][0]),
        lambda m: m["vocabulary_sizes"].update(behavior=10**18),
        lambda m: m["vocabulary_sizes"].update(another=3),
        lambda m: m["vocabulary_sizes"].pop("slot"),
        lambda m: m["vocabulary_sha256"].update({"../../secret": "0" * 64}),
        lambda m: m["counts"].update(rows_read="9"),
        lambda m: m["counts"].update(rows_read=float("nan")),
        lambda m: m["counts"].update(rows_read=10**400),
        lambda m: m.update(counts=None),
        lambda m: m.update(replaces=5),
        lambda m: m.update(replaces=["../.."]),
        lambda m: m.update(unknown=1),
    ],
)
def test_what_no_dataset_says_is_refused(dataset: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    verify_dataset(dataset)
    forge(dataset, edit)
    with pytest.raises(InputError) as error:
        verify_dataset(dataset)
    assert len(error.value.problems) == 1
    assert str(error.value).startswith(f"{dataset / 'manifest.json'}: ")


@pytest.mark.parametrize(
    "content", ["[" * 200_000, '{"a":' * 50_000, '{"schema_version":' + "9" * 100_000 + "}", "1", "NaN"]
)
def test_json_that_hurts_its_reader_is_refused(dataset: Path, content: str) -> None:
    (dataset / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json: not a readable manifest"):
        read_manifest(dataset)


def test_a_manifest_beyond_all_sizes_is_not_read(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (dataset / "manifest.json").open("wb") as file:
        file.truncate(manifest_module.MAX_BYTES + 1)  # sparse: it takes no room
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(InputError, match="no manifest has more than"):
        read_manifest(dataset)
