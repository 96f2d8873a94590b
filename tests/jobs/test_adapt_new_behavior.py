"""jobs/adapt.py new-behavior: the whole way on a tiny log, killed on the way, and one line for whatever is wrong."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from behavegpt.data.manifest import read_manifest
from behavegpt.data.synthetic.generator import GeneratorConfig, write_generated
from behavegpt.data.vocab import read_vocabulary
from behavegpt.tasks.adaptation.new_behavior_request import NewBehavior
from behavegpt.tasks.adaptation.new_behavior_task import open_task

HERE = Path(__file__).parent
JOB = HERE.parents[1] / "jobs" / "adapt.py"
TINY = ("--width", 8, "--depth", 1, "--num-events", 2_000, "--seeds", 0, "--passes", 1, "--rates", 1)
SHOTS = ("--user-share", 0.5, "--days", 5)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("log") / "small"
    write_generated(
        out, GeneratorConfig(num_users=40, num_train_events=9_000, num_val_windows=8, num_test_windows=8), "small"
    )
    return out


@pytest.fixture(scope="module")
def names(dataset: Path) -> tuple[str, ...]:
    """Return the behaviours from head to tail."""
    return read_vocabulary(dataset / read_manifest(dataset).vocabulary_path("behavior")).values


@pytest.fixture
def run(tmp_path: Path, run_job: Run) -> Run:
    """Return a runner of the job; it gives exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        return run_job(JOB, "new-behavior", *arguments, "--out", tmp_path / "out")

    return run


@pytest.mark.chaos
@pytest.mark.slow
def test_the_whole_way_and_killed_at_any_stage_of_it(dataset: Path, names: tuple[str, ...], tmp_path: Path):
    """BEHAVEGPT_KILL_EVERY=1 kills at every stage, in place of every third."""
    every = int(os.environ.get("BEHAVEGPT_KILL_EVERY", 3))
    flags = [*map(str, (*TINY, *SHOTS)), "--behaviors", names[1], names[3]]
    script = str(HERE / "run_new_behavior_killed.py")
    command = [sys.executable, script, str(dataset), str(tmp_path), str(every), *flags]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert len(outcome["places"]) == 7 // every and outcome["differing"] == []

    out = tmp_path / "golden" / "run"
    found = json.loads((out / "new-behavior.json").read_text())
    assert [(one["name"], one["label"]) for one in found["behaviors"]] == [(names[1], "named"), (names[3], "named")]
    for one in found["behaviors"]:
        rows = one["figures"]["as trained"]
        assert set(rows) == {"adapted", "scratch", "extended only"}
        assert all(0 <= row["rec_new"]["mean"] <= 1 and len(row["rec_m"]["runs"]) == 1 for row in rows.values())
        assert one["rates"] == {"adapted": 1.0, "scratch": 1.0}
    log = (tmp_path / "golden" / "log").read_text()
    assert f"Held out of pretraining, with their share of the training targets: {names[1]} (named, " in log
    assert "Pretrained with plain cross-entropy: width 8, 1 block, D = 2,000 targets, seeds 0." in log
    assert "As trained (the paper's Table 3)" in log
    page = (out / "new-behavior.html").read_text()
    assert "<script" not in page and names[3] in page

    # Of the pretrained model's vocabulary and data neither behaviour is a part; of the few shots' exactly one.
    [pretrained] = out.glob("models/pretrain-*")
    assert not {names[1], names[3]} & set(json.loads((pretrained / "vocabulary.json").read_text())["behavior"])
    new = [set(json.loads((path / "vocabulary.json").read_text())["behavior"]) for path in out.glob("models/b*")]
    assert sorted(map(sorted, ({names[1], names[3]} & known for known in new))) == sorted([[names[1]], [names[3]]])
    # Adapted and from scratch: the same steps and targets, and nothing else that differs but the start and the rate.
    cells = [json.loads(path.read_text()) for path in out.glob("cells/b3-*")]
    assert len(cells) == 2 and len({(cell["num_steps"], cell["num_events"]) for cell in cells}) == 1


def refused(result: tuple[int, str, str], tmp_path: Path, *sentences: str) -> None:
    """Assert exit code 2 with one line for each sentence and nothing else, and nothing written."""
    code, out, err = result
    assert (code, out) == (2, ""), err
    assert err.count("\n") == len(sentences), err
    for sentence in sentences:
        assert sentence in err
    assert not (tmp_path / "out").exists()


def test_wrong_flags_are_all_named_at_once(run: Run, dataset: Path, tmp_path: Path):
    flags = ("--user-share", 1.5, "--days", 0, "--rates", 0, "--use-gpu")
    sentences = ("--user-share is 1.5; it must be", "--days is 0", "--rates has 0;", "--use-gpu trains on the cluster")
    refused(run("--dataset", dataset, *flags), tmp_path, *sentences)
    refused(run("--dataset", tmp_path / "none"), tmp_path, f"{tmp_path / 'none'}: not a dataset")


def test_unknown_and_rare_behaviors_and_too_few_shots(run: Run, dataset: Path, names: tuple[str, ...], tmp_path: Path):
    wrong = ("--behaviors", f"{names[1]}x", names[-1])
    sentences = (f"no such behaviour. Did you mean {names[1]!r}?", f"{names[-1]}: has ", f"{names[-1]}: has ")
    refused(run("--dataset", dataset, *SHOTS, *wrong), tmp_path, *sentences)
    refused(run("--dataset", dataset, "--user-share", 0.01, "--days", 1), tmp_path, "at least 10 are needed; raise one")
    refused(run("--dataset", dataset, *SHOTS, "--width", 7, "--behaviors", names[1]), tmp_path, "widths has 7")


def test_a_model_that_is_damaged_or_knows_the_behavior(run: Run, dataset: Path, names: tuple[str, ...], tmp_path: Path):
    refused(run("--dataset", dataset, *SHOTS, "--models", tmp_path), tmp_path, f"{tmp_path / 'config.json'}: cannot be")
    named = ("--behaviors", names[1])
    assert run("--dataset", dataset, *SHOTS, *TINY, *named)[0] == 0
    [pretrained] = (tmp_path / "out").glob("models/pretrain-*")
    shutil.move(pretrained, tmp_path / "model")
    first = json.loads((tmp_path / "out" / "new-behavior.json").read_text())
    shutil.rmtree(tmp_path / "out")
    # Given the model that it had made itself, the job finds the behaviour that is new to it, and the same figures.
    assert run("--dataset", dataset, *SHOTS, *TINY, "--models", tmp_path / "model")[0] == 0
    [again] = json.loads((tmp_path / "out" / "new-behavior.json").read_text())["behaviors"]
    assert [again] == first["behaviors"]
    shutil.rmtree(tmp_path / "out")
    # What else the model does not know stays away while one behaviour is added.
    request = NewBehavior(dataset=dataset, out=tmp_path / "out", user_share=0.5, days=5, behaviors=(names[1],))
    task = replace(open_task(request), held_out=(names[1], names[5]))
    assert task.few_shots(names[1]).without == (names[5],)
    knows = run("--dataset", dataset, *SHOTS, "--models", tmp_path / "model", "--behaviors", names[2])
    refused(knows, tmp_path, f"{tmp_path / 'model'}: knows {names[2]!r} already")
    weights = tmp_path / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    refused(
        run("--dataset", dataset, *SHOTS, "--models", tmp_path / "model"), tmp_path, f"{weights}: its sha256 is not"
    )
