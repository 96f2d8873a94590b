"""The study on a real local Ray cluster: Tune over Train over Data over DeepSpeed, killed workers included."""

import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from behavegpt.data.manifest import read_manifest
from behavegpt.data.plan import plan_reads
from behavegpt.data.stream import local_tables, ray_tables
from behavegpt.data.synthetic.generator import GeneratorConfig, write_generated
from behavegpt.study.branch_check import compare, disagreements
from behavegpt.study.config import StudyConfig, of_widths
from behavegpt.study.run import open_study, run_study
from behavegpt.train.config import ExecutionConfig

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(280)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "small"
    config = GeneratorConfig(num_users=100, num_train_events=90 * 2_500, num_val_windows=40, num_test_windows=5)
    write_generated(out, config, "small")
    return out


def config(**changes) -> StudyConfig:
    return StudyConfig(
        **{"name": "small", "sizes": of_widths(16, 12, 8), "num_events": (5_000, 20_000, 150_000), **changes}
    )


def run(dataset: Path, study_dir: Path, study: StudyConfig) -> dict[tuple, float]:
    """Return the loss of every cell by (num_params, num_events), after checking that each one completed."""
    table = run_study(open_study(study, dataset, study_dir))
    rows = table.to_pylist()
    assert {row["status"] for row in rows} == {"completed"}, [row["reason"] for row in rows]
    return {(row["num_params"], row["num_events"]): row["loss"] for row in rows}


def test_the_stream_is_the_plan(ray_cluster, dataset):
    manifest = read_manifest(dataset)
    # More reads than a task takes, of one window each: their order is the plan's whichever ends first.
    ranges = [(0, 2_000), (1_500, 2_500), *((i, i + 3) for i in range(0, 200, 3))]
    for rank, world_size in ((0, 1), (1, 2)):
        reads = plan_reads(dataset, manifest, "train", ranges, rank, world_size)
        got, expected = (pa.concat_tables(list(source(reads))) for source in (ray_tables, local_tables))
        assert got["window_id"].to_pylist() == expected["window_id"].to_pylist()
        assert got["event"].to_pylist() == expected["event"].to_pylist()


@pytest.fixture(scope="module")
def undisturbed(ray_cluster, dataset, tmp_path_factory) -> tuple[Path, dict[tuple, float]]:
    study_dir = tmp_path_factory.mktemp("studies") / "undisturbed"
    return study_dir, run(dataset, study_dir, config())


def test_a_study_fills_its_grid_and_a_rerun_trains_only_what_is_missing(undisturbed, dataset):
    study_dir, losses = undisturbed
    # Three trunks on a cluster that trains two at a time: one group trains two of them.
    assert len(losses) == 9
    files = {p: p.stat().st_mtime_ns for p in (study_dir / "cells").iterdir()}
    assert not (study_dir / "lock").exists() and not (study_dir / "ray").exists()
    assert run(dataset, study_dir, config()) == losses
    assert {p: p.stat().st_mtime_ns for p in (study_dir / "cells").iterdir()} == files
    victim = next(p for p in files if p.name.endswith("-d20000.json") and p.name.startswith("w12"))
    curves = {p: p.read_text().splitlines() for p in (study_dir / "curves").iterdir()}
    victim.unlink()
    assert run(dataset, study_dir, config()) == losses
    added = {p.stem: p.read_text().splitlines()[len(lines) :] for p, lines in curves.items()}
    for trunk_id, lines in added.items():
        phases = {(json.loads(line)["phase"], json.loads(line).get("cell_events")) for line in lines}
        assert phases == ({("branch", 20_000), ("cell", 20_000)} if trunk_id.startswith("w12") else set())


def kill_a_worker_when(curve: Callable[[], int], lines: int, killed: list[int]) -> None:
    """SIGKILL the first Ray Train worker found once the curve has so many lines."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if curve() >= lines:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    if path.read_bytes().startswith(b"ray::RayTrainWorker") and _is_ours(int(path.parent.name)):
                        os.kill(int(path.parent.name), signal.SIGKILL)
                        killed.append(int(path.parent.name))
                        return
        time.sleep(0.05)


def _is_ours(pid: int) -> bool:
    """Return whether the process belongs to this session's head: another one may run on the machine."""
    mine = f"RAY_AUTH_TOKEN_PATH={os.environ['RAY_AUTH_TOKEN_PATH']}".encode()
    return mine in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


@pytest.mark.chaos
def test_a_killed_worker_changes_no_loss(undisturbed, dataset, tmp_path):
    _, losses = undisturbed
    study_dir, killed = tmp_path / "killed", []

    def lines() -> int:
        return sum(len(p.read_text().splitlines()) for p in study_dir.glob("curves/*.jsonl"))

    killer = threading.Thread(target=kill_a_worker_when, args=(lines, 60, killed))
    killer.start()
    disturbed = run(dataset, study_dir, config())
    killer.join()
    assert killed, "no worker was found to kill"
    assert {k: v.hex() for k, v in disturbed.items()} == {k: v.hex() for k, v in losses.items()}


def test_two_workers_give_the_losses_of_one(undisturbed, dataset, tmp_path):
    _, losses = undisturbed
    two = config(
        sizes=of_widths(16), num_events=(5_000, 20_000), execution=ExecutionConfig(num_workers=2, zero_stage=1)
    )
    for key, loss in run(dataset, tmp_path / "two", two).items():
        assert loss == pytest.approx(losses[key], abs=1e-5)


def test_what_a_stopped_job_left_behind_is_freed_and_what_live_ones_hold_is_not(ray_cluster, monkeypatch):
    import ray
    from ray.util.placement_group import placement_group

    from behavegpt.study import tuner

    group = placement_group([{"CPU": 1}])
    ray.get(group.ready(), timeout=60)
    assert tuner.free_dead_groups() == 0
    mine = ray.get_runtime_context().get_job_id()
    monkeypatch.setattr(tuner, "list_jobs", lambda **_: [SimpleNamespace(job_id=mine, status="STOPPED")])
    assert tuner.free_dead_groups() == 1
    deadline = time.monotonic() + 30
    while ray.util.placement_group_table(group)["state"] != "REMOVED":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert tuner.free_dead_groups() == 0


def test_platform_is_the_standard_librarys_in_workers_too(ray_cluster):
    import ray

    @ray.remote(num_cpus=0, runtime_env={"env_vars": {"PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"}})
    def where() -> str:
        import platform

        import behavegpt  # noqa: F401

        return platform.__file__ + platform.system()

    assert ray.get(where.remote()).endswith("platform.pyLinux")


def test_the_job_api_needs_the_token_and_listens_on_loopback(ray_cluster):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{ray_cluster}/api/jobs/", timeout=10)
    assert refused.value.code == 401
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text()
    request = urllib.request.Request(f"{ray_cluster}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
    port = f":{int(ray_cluster.rpartition(':')[2]):04X}"
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if line.split()[3] == "0A"]
    assert [address for address in listening if address.endswith(port)] == [f"0100007F{port}"]


def test_pretraining_is_robust_by_default_and_keeps_its_model(ray_cluster, dataset, tmp_path, monkeypatch, capsys):
    flags = ["--dataset", str(dataset), "--out", str(tmp_path / "model"), "--width", "12", "--num-events", "20000"]
    monkeypatch.setattr(sys, "argv", ["pretrain.py", *flags])
    runpy.run_path(str(ROOT / "jobs" / "pretrain.py"), run_name="__main__")
    final = Path(capsys.readouterr().out.splitlines()[-1])
    manifest = json.loads((final / "manifest.json").read_text())
    assert {str(p.relative_to(final)) for p in final.rglob("*") if p.is_file()} == {*manifest["files"], "manifest.json"}
    [cell] = (tmp_path / "model" / "cells").iterdir()
    row = json.loads(cell.read_text())
    assert (row["variant"], row["status"], row["num_events"]) == ("cvar-0.5", "completed", 20_000)


def test_ray_job_submit_runs_the_study_and_its_report(ray_cluster, dataset, tmp_path):
    command = [sys.executable, str(ROOT / "jobs" / "scaling_grid.py"), "demo", "--dataset", str(dataset)]
    command += ["--study-dir", str(tmp_path / "study"), "--widths", "12", "--num-events", "5000", "20000"]
    submit = [str(Path(sys.executable).with_name("ray")), "job", "submit", "--address", ray_cluster, "--", *command]
    done = subprocess.run(submit, capture_output=True, text=True, timeout=240, cwd=tmp_path)
    # Two data sizes at one model size: every cell completes, and the law is refused with its reasons.
    assert "completed" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]
    assert "refused" in done.stdout + done.stderr
    assert done.returncode != 0
    assert json.loads((tmp_path / "study" / "report" / "fit.json").read_text())["refused"] is True


def test_a_trunk_that_fails_is_rows_with_its_reason_and_takes_no_other_with_it(ray_cluster, dataset, tmp_path):
    study = open_study(config(sizes=of_widths(8, 12), num_events=(5_000, 20_000)), dataset, tmp_path / "study")
    broken = min(study.plan.jobs, key=lambda job: job.model.width)
    # No checkpoint can be written where a file lies: the worker fails at every attempt.
    broken.checkpoint_dir.parent.mkdir(parents=True)
    broken.checkpoint_dir.write_text("in the way")
    rows = {(row["width"], row["num_events"]): row for row in run_study(study).to_pylist()}
    assert {key: row["status"] for key, row in rows.items()} == {
        (8, 5_000): "crashed",
        (8, 20_000): "crashed",
        (12, 5_000): "completed",
        (12, 20_000): "completed",
    }
    assert str(broken.checkpoint_dir) in rows[8, 20_000]["reason"]
    broken.checkpoint_dir.unlink()
    healed = run_study(open_study(study.config, dataset, study.study_dir)).to_pylist()
    assert {row["status"] for row in healed} == {"completed"}
    assert {row["loss"] for row in healed if row["width"] == 12} == {rows[12, d]["loss"] for d in (5_000, 20_000)}


def test_branches_are_runs_of_their_own_to_the_last_bit(undisturbed, dataset):
    study_dir, _ = undisturbed
    study = open_study(config(), dataset, study_dir)
    comparisons = compare(study, 2)
    assert [one.difference for one in comparisons] == [0.0, 0.0]
    assert all(one.cosine is not None and one.cosine != one.branch for one in comparisons)
    assert disagreements(comparisons) == []
    # The check is a study of its own: nothing of it is in the results.
    assert {row["schedule"] for row in run_study(study).to_pylist()} == {"wsd"}
