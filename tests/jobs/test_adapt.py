"""jobs/adapt.py cross-domain without a cluster: from pretrained models to the report, killed and rerun, or one line."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from behavegpt.data.manifest import read_manifest
from behavegpt.data.synthetic.generator import GeneratorConfig, write_generated
from behavegpt.lease import lease
from behavegpt.loss.config import Cvar
from behavegpt.study.config import Size, StudyConfig, Variant
from behavegpt.study.grid import plan_study
from behavegpt.tasks.fitting import TrainHere
from behavegpt.train import loop
from behavegpt.train.export import export_model

JOB = Path(__file__).parents[2] / "jobs" / "adapt.py"
VISITS = GeneratorConfig(
    num_users=30, num_train_events=4_000, num_val_windows=4, num_test_windows=8, num_behaviors=6, num_event_types=12
)
FLAGS = ("--num-events", 1_000, "--seeds", 0, 1)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset of another domain: 6 behaviours, 12 events."""
    out = tmp_path_factory.mktemp("adapt") / "visits"
    write_generated(out, VISITS, "visits")
    return out


def pretrain(dataset: Path, out: Path, depth: int = 2) -> dict[str, Path]:
    """Return finished models of width 8 by loss."""
    config = StudyConfig(
        name="pretrain",
        sizes=(Size(width=8, depth=depth),),
        num_events=(1_500,),
        variants=(Variant(), Variant(loss=Cvar())),
    )
    finals = {}
    for job in plan_study(config, read_manifest(dataset), dataset, out).jobs:
        job = replace(job, keep_final=True)
        TrainHere()(job)
        finals[job.variant.partition("-")[0]] = job.checkpoint_dir / "final-1500"
    return finals


@pytest.fixture(scope="session")
def models(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a final checkpoint (erm) and an exported model (cvar)."""
    out = tmp_path_factory.mktemp("pretrained")
    finals = pretrain(dataset, out)
    return {"erm": finals["erm"], "cvar": export_model(finals["cvar"], dataset, out / "exported")}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_job: Run) -> Run:
    """Return a runner of the job; a run that needs a cluster fails."""
    monkeypatch.setitem(sys.modules, "behavegpt.study.tuner", None)

    def run(*arguments: object, out: str = "out") -> tuple[int, str, str]:
        words = ["cross-domain", *arguments, "--out", tmp_path / out]
        return run_job(JOB, *words)

    return run


class Killed(BaseException):
    pass


def test_every_way_on_equal_budgets(run, models, visits, tmp_path):
    given = ("--models", models["erm"], models["cvar"], "--dataset", visits, *FLAGS)
    code, out, err = run(*given)
    assert (code, err) == (0, "")
    found = json.loads((tmp_path / "out" / "cross-domain.json").read_text())
    ways = ("blocks", "blocks-and-head", "lora", "ofa", "frozen")
    assert [way["name"] for way in found["ways"]] == [
        "scratch",
        *(f"{way} ({loss})" for way in ways for loss in ("erm", "cvar")),
    ]
    assert ([s["name"] for s in found["sources"]], found["seeds"]) == (["erm", "cvar"], [0, 1])
    [size] = found["sizes"]
    systems = {system["name"]: system for system in size["comparison"]["systems"]}
    for system in systems.values():
        assert (system["num_events"], system["seeds"]) == (size["num_events"], [0, 1]) == (1_000, [0, 1])
        assert system["metrics"]["hr@1"]["mean"] == pytest.approx(system["metrics"]["rec_w"]["mean"])
    nats = [[run["nats"] for run in systems[name]["runs"]] for name in ("blocks-and-head (erm)", "scratch")]
    gap = size["against_scratch"]["blocks-and-head (erm)"]["nats"]["mean"]
    assert gap == pytest.approx((nats[0][0] - nats[1][0] + nats[0][1] - nats[1][1]) / 2)
    ours = size["paper_way_against"]["blocks-and-head (cvar)"]
    assert set(ours) == {"blocks (cvar)", "lora (cvar)", "ofa (cvar)", "frozen (cvar)"}
    assert set(size["against_first_source"]) == {f"{way} (cvar)" for way in ways}
    rows = [json.loads(path.read_text()) for path in (tmp_path / "out" / "cells").iterdir()]
    assert len(rows) == 11 * 2  # scratch and 5 ways x 2 sources, 2 seeds
    assert {(row["num_events"], row["num_steps"]) for row in rows} == {(1_000, 12)}  # 90 targets a window, one a step
    for name in ("md", "html"):
        assert "LoRA of queries and values, rank 8, alpha 16" in (tmp_path / "out" / f"cross-domain.{name}").read_text()
    assert out.rstrip().endswith("cross-domain.html")


def test_killed_and_rerun_it_is_the_undisturbed_report(run, models, visits, tmp_path, monkeypatch):
    given = ("--models", models["erm"], "--dataset", visits, "--num-events", 1_000, 2_000, "--seeds", 0)
    given = (*given, "--ways", "scratch", "lora")
    assert run(*given)[0] == 0
    real, left = loop.lr_factor, iter(range(45))  # within the second trunk

    def factor(*args):
        if next(left, None) is None:
            raise Killed
        return real(*args)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop, "lr_factor", factor)
        run(*given, out="killed")
    assert len(list((tmp_path / "killed" / "cells").iterdir())) in (2, 3)
    assert run(*given, out="killed")[0] == 0
    for name in ("json", "md", "html"):
        files = [(tmp_path / which / f"cross-domain.{name}").read_bytes() for which in ("out", "killed")]
        assert files[0] == files[1]


def test_wrong_input_is_one_sentence_each_and_nothing_is_written(run, models, dataset, visits, tmp_path):
    def refused(*arguments, sentences):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert err.count("\n") == len(sentences), err
        for sentence in sentences:
            assert sentence in err
        assert not (tmp_path / "out").exists()

    erm = ("--models", models["erm"])
    refused(*erm, "--dataset", tmp_path / "none", sentences=[f"{tmp_path / 'none'}: not a dataset"])
    refused(*erm, "--dataset", dataset, sentences=["trained on small itself; give models of another dataset"])
    refused("--models", tmp_path, "--dataset", visits, sentences=[f"{tmp_path}: no finished model"])
    refused(*erm, models["erm"], "--dataset", visits, sentences=["the same model and seed as"])
    refused(*erm, "--dataset", visits, "--ways", "lora", "lora", sentences=["--ways is lora lora"])
    refused(*erm, "--dataset", visits, "--use-gpu", sentences=["--use-gpu trains on the cluster alone"])
    refused(*erm, "--dataset", visits, "--num-events", 90_000, sentences=["num_events has 90,000"])
    refused(*erm, "--dataset", visits, "--seeds", 0, "--memory-gb", 0.1, sentences=["a worker needs"])

    damaged = shutil.copytree(models["cvar"], tmp_path / "damaged")
    content = bytearray((damaged / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (damaged / "model.safetensors").write_bytes(content)
    other = tmp_path / "sasrec" / "final-10"
    shutil.copytree(models["erm"], other)
    (other / "manifest.json").write_text("{}")
    refused(
        *("--models", damaged, other, "--dataset", visits),
        sentences=[f"{damaged / 'model.safetensors'}: its sha256 is not the one", f"{other}: no checkpoint of a model"],
    )


def test_models_of_another_depth_or_family_are_refused(run, models, dataset, visits, tmp_path):
    deeper = pretrain(dataset, tmp_path / "deeper", depth=3)["erm"]
    code, _, err = run("--models", models["erm"], deeper, "--dataset", visits)
    assert (code, err.count("\n")) == (2, 1)
    assert f"{deeper}: model.depth is 3; the models that it is compared with have 2" in err


def test_a_busy_directory_is_refused(run, models, visits, tmp_path):
    with lease(tmp_path / "out"):
        code, out, err = run("--models", models["erm"], "--dataset", visits)
    assert (code, out) == (3, "") and str(tmp_path / "out") in err
