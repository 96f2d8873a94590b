"""jobs/predict.py: a log and its dataset give the same rows, on threads or actors; whatever is wrong is named."""

import csv
import hmac
import json
import os
import pickle
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import save_file

from behavegpt.data.ingest.executor import local_executor, ray_executor
from behavegpt.data.ingest.ingest import ingest
from behavegpt.data.ingest.options import IngestOptions
from behavegpt.data.ingest.pseudonyms import write_key
from behavegpt.data.manifest import read_manifest
from behavegpt.data.sources.spec import Columns, LogSpec
from behavegpt.data.vocab import read_vocabulary
from behavegpt.files import sha256_of
from behavegpt.model.config import WEIGHTS_FORMAT, for_width
from behavegpt.model.transformer import BehaveGPT, initialise
from behavegpt.schema import VOCABULARIES
from behavegpt.tasks.prediction import pool
from behavegpt.tasks.prediction.model import open_model
from behavegpt.tasks.prediction.pool import actors, threads
from behavegpt.tasks.prediction.run import FromLog, Request, predict

JOB = Path(__file__).parents[2] / "jobs" / "predict.py"
MAPPING = {"--user": "who", "--timestamp": "when", "--event": "what", "--behavior": "kind", "--location": "where"}
COLUMNS = Columns(user="who", timestamp="when", event="what", behavior="kind", location="where")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a log of 30 users of 2 to 240 events, the last user first; some events are of one user alone."""
    path = tmp_path_factory.mktemp("log") / "log.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["who", "when", "what", "kind", "where"])
        for i in range(240):
            for user in reversed(range(30)):
                if i < 2 + 8 * user + user % 3:
                    event = f"e{(i * i + user) % 9}" if i % 10 else f"own {user}"
                    second = 1_600_000_000 + 3_600 * i + user
                    rows.writerow([f"canary-{user}", second, event, f"k{(i + user) % 4}", f"p{i % 7}"])
    return path


@pytest.fixture(scope="module")
def dataset(log: Path) -> Path:
    spec = LogSpec(inputs=(str(log),), columns=COLUMNS)
    ingest(spec, log.parent / "set", options=IngestOptions(min_users=2), run=local_executor(1))
    return log.parent / "set"


@pytest.fixture
def model(dataset: Path, tmp_path: Path) -> Path:
    """Return a model with random weights as jobs/export.py would have written it."""
    manifest, out = read_manifest(dataset), tmp_path / "model"
    module = BehaveGPT(for_width(16, vocabulary_sizes=manifest.vocabulary_sizes))
    initialise(module, 0)
    out.mkdir()
    save_file(module.state_dict(), out / "model.safetensors", metadata={"format": "pt"})
    record = {
        "format": WEIGHTS_FORMAT,
        "model": asdict(module.config),
        "dataset": {"fingerprint": manifest.fingerprint},
        "weights_sha256": sha256_of(out / "model.safetensors"),
    }
    (out / "config.json").write_text(json.dumps(record))
    values = {name: read_vocabulary(dataset / manifest.vocabulary_path(name)).values for name in VOCABULARIES}
    (out / "vocabulary.json").write_text(json.dumps(values))
    return out


@pytest.fixture
def run(model: Path, tmp_path: Path, run_job: Run) -> Run:
    """Return a runner of the job in this process, with the model; it gives exit code, stdout and stderr."""

    def run(out: str, flags: dict[str, object]) -> tuple[int, str, str]:
        words = [word for flag in ({"--model": model} | flags).items() for word in flag if word is not None]
        return run_job(JOB, *words, "--out", tmp_path / out)

    return run


def rows_of(out: Path) -> list[dict]:
    return pq.read_table(out / "predictions.parquet").to_pylist()


def record_of(out: Path) -> dict:
    return json.loads((out / "predict.json").read_text())


def pseudonym(log: Path, user: str) -> int:
    key = bytes.fromhex((log.parent / "user.key").read_text())
    return int.from_bytes(hmac.digest(key, user.encode(), "sha256")[:8], "big")


def test_a_log_and_its_dataset_give_the_same_rows(run: Run, log: Path, dataset: Path, model: Path, tmp_path: Path):
    of_log = {"--input": log} | MAPPING
    code, out, err = run("ids", of_log)
    assert code == 0, err
    assert "30 users, one row each: top 4 behaviors" in out and "canary" not in out
    assert run("keyed", of_log | {"--key-file": log.parent / "user.key"})[0] == 0
    assert run("set", {"--dataset": dataset, "--num-workers": 1})[0] == 0
    ids, keyed, of_set = (rows_of(tmp_path / name) for name in ("ids", "keyed", "set"))
    # Users in the order in which they appear in the log, and by rising pseudonym.
    assert [row["user"] for row in ids] == [f"canary-{user}" for user in reversed(range(30))]
    assert [row["user"] for row in keyed] == [pseudonym(log, row["user"]) for row in ids]
    assert [row | {"user": 0} for row in keyed] == [row | {"user": 0} for row in ids]
    assert of_set == sorted(keyed, key=lambda row: row["user"])
    assert [row["num_events"] for row in ids] == [min(90, 2 + 8 * u + u % 3) for u in reversed(range(30))]
    # Events i = 0, 10, 20, ... are of one user alone, which the vocabulary does not have.
    assert [row["unknown_events"] for row in ids] == [
        sum(i % 10 == 0 for i in range(max(0, n - 90), n)) for n in (2 + 8 * u + u % 3 for u in reversed(range(30)))
    ]
    record = record_of(tmp_path / "ids")
    assert record["counts"]["unknown_events"] == sum(row["unknown_events"] for row in ids)
    assert record["counts"] | {"users": 30, "users_without_usable_event": 0} == record["counts"]
    assert f"{record['counts']['unknown_events']:,}  events that the model does not know" in out
    assert record["model"]["sha256"] == sha256_of(model / "model.safetensors")
    assert record["sha256"] == sha256_of(tmp_path / "ids" / "predictions.parquet")
    assert record_of(tmp_path / "set")["input"]["fingerprint"] == read_manifest(dataset).fingerprint
    assert {path.name for path in tmp_path.iterdir()} == {"model", "ids", "keyed", "set"}


def test_threads_and_the_size_of_the_buffer_do_not_show(run: Run, dataset: Path, tmp_path: Path, monkeypatch):
    for what in ({"--top-k": 3}, {"--embeddings": None}):
        of_set = {"--dataset": dataset, "--split": "test"} | what
        name = next(iter(what))
        assert run(f"one{name}", of_set | {"--num-workers": 1})[0] == 0
        with monkeypatch.context() as patch:
            patch.setattr(pool, "USERS_AT_ONCE", 3)
            assert run(f"many{name}", of_set | {"--num-workers": 3})[0] == 0
        contents = [(tmp_path / f"{side}{name}" / "predictions.parquet").read_bytes() for side in ("one", "many")]
        assert contents[0] == contents[1]
    [first, *_] = rows_of(tmp_path / "one--embeddings")
    assert (len(first["embedding"]), "behaviors" in first) == (16, False)


def test_rows_that_cannot_be_used_are_counted_and_too_many_refused(run: Run, log: Path, tmp_path: Path):
    lines = log.read_text().splitlines()
    lines.insert(1, "ghost,soon,e1,k1,p1")
    (tmp_path / "bad.csv").write_text("\n".join(lines[:80]) + "\n")
    flags = {"--input": tmp_path / "bad.csv"} | MAPPING
    code, out, err = run("none", flags | {"--max-dropped": 0.001})
    assert (code, out) == (2, "")
    assert "--max-dropped 0.001: 1 of 79 rows" in err and "row 2" in err
    assert not (tmp_path / "none").exists()
    code, out, _ = run("some", flags | {"--max-dropped": 0.1})
    assert code == 0
    assert "1  users without a usable event, who have no row" in out
    assert record_of(tmp_path / "some")["counts"]["unreadable_time"] == 1
    assert "ghost" not in [row["user"] for row in rows_of(tmp_path / "some")]


def refused(result: tuple[int, str, str], *sentences: str) -> None:
    """Assert exit code 2 with one line for each sentence and nothing else."""
    code, out, err = result
    assert (code, out) == (2, ""), err
    assert err.count("\n") == len(sentences), err
    for sentence in sentences:
        assert sentence in err


def test_what_is_wrong_is_named_and_nothing_written(run: Run, log: Path, dataset: Path, model: Path, tmp_path: Path):
    of_log = {"--input": log} | MAPPING
    refused(run("out", {}), "give --input (a log), or --dataset")
    refused(run("out", {"--dataset": tmp_path / "none"}), f"{tmp_path / 'none'}: not a dataset")
    refused(run("out", {"--model": tmp_path / "none", "--dataset": dataset}), f"{tmp_path / 'none' / 'config.json'}")
    refused(run("out", {"--dataset": dataset, "--num-actors": 0, "--memory-gb": 0}), "--num-actors 0", "--memory-gb 0")
    refused(run("model", {"--dataset": dataset, "--top-k": 5}), "exists already", "--top-k 5: must be 1 to 4")
    refused(run("out", {"--dataset": dataset, "--top-k": 0}), "--top-k 0: must be 1 to 4")
    refused(
        run("out", of_log | {"--user": "whom", "--key-file": tmp_path / "k"}), "Did you mean 'who'?", "does not exist"
    )
    write_key(tmp_path / "other.key", bytes(range(32)))
    other_flags = {"--dataset": dataset, "--timezone": "Asia/Tokyo", "--key-file": tmp_path / "other.key"}
    refused(
        run("out", of_log | other_flags), "--timezone Asia/Tokyo: the dataset of the model", "other.key: the dataset"
    )
    other = tmp_path / "other"
    spec = LogSpec(inputs=(str(log),), columns=COLUMNS)
    ingest(spec, other, options=IngestOptions(min_users=1), run=local_executor(1))
    refused(run("out", {"--dataset": other}), f"{other}: has fingerprint")
    [shard] = (dataset / "test").iterdir()
    damaged = bytearray(shard.read_bytes())
    damaged[100] ^= 1
    copy = tmp_path / "copy"
    for path in sorted(dataset.rglob("*.*")):
        (copy / path.relative_to(dataset)).parent.mkdir(parents=True, exist_ok=True)
        (copy / path.relative_to(dataset)).write_bytes(path.read_bytes())
    (copy / "test" / shard.name).write_bytes(damaged)
    refused(run("out", {"--dataset": copy}), f"{copy / 'test' / shard.name}: the content does not match")
    assert {path.name for path in tmp_path.iterdir()} == {"model", "other", "other.key", "copy", "user.key"}


class Bomb:
    """A pickle of it makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocabulary.json"])
def test_a_corrupt_file_and_a_pickle_under_its_name_are_refused(run: Run, log: Path, model: Path, tmp_path: Path, name):
    of_log = {"--input": log, "--top-k": 2} | MAPPING
    content = (model / name).read_bytes()
    (model / name).write_bytes(content[: len(content) // 2])
    refused(run("out", of_log), f"{model / name}: ")
    (model / name).write_bytes(pickle.dumps(Bomb(tmp_path / "executed")) + b" " * len(content))
    refused(run("out", of_log), f"{model / name}: ")
    (model / name).unlink()
    refused(run("out", of_log), f"{model / name}: ")
    assert not (tmp_path / "executed").exists() and not (tmp_path / "out").exists()


def test_a_model_without_its_vocabulary_takes_the_datasets(run: Run, log: Path, dataset: Path, model: Path, tmp_path):
    of_log = {"--input": log, "--top-k": 2} | MAPPING
    assert run("own", of_log)[0] == 0
    path = model / "vocabulary.json"
    values = json.loads(path.read_text())
    path.unlink()
    refused(run("none", of_log), f"{path}: missing; --dataset names the one that the model was trained on")
    assert run("lent", of_log | {"--dataset": dataset})[0] == 0
    assert rows_of(tmp_path / "lent") == rows_of(tmp_path / "own")
    values["event"].reverse()
    path.write_text(json.dumps(values))
    refused(run("other", of_log | {"--dataset": dataset}), f"{path}: event differ from the vocabulary of {dataset}")


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.timeout(120)
def test_actors_write_the_same_file_as_threads_though_one_is_killed(
    ray_cluster: str, log: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    died = tmp_path / "died"

    class Mortal(pool.PooledPredictor):  # here, so that it is sent to the actors whole
        def __call__(self, histories: pa.Table) -> pa.Table:
            predicted = super().__call__(histories)
            if not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return predicted

    monkeypatch.setattr(pool, "BYTES_PER_BLOCK", 4096)
    monkeypatch.setattr(pool, "PooledPredictor", Mortal)
    served = open_model(model, None)
    for name, executor, where in (("here", local_executor(1), threads(1)), ("ray", ray_executor(), actors(2))):
        spec, options = LogSpec(inputs=(str(log),), columns=COLUMNS), IngestOptions(memory_gb=1e-3, num_workers=1)
        users = FromLog(spec=spec, options=options, key_file=None, run=executor)
        predict(Request(served=served, users=users, out=tmp_path / name, top_k=3, pool=where))
    assert died.exists()
    contents = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("here", "ray")]
    assert contents[0] == contents[1]
