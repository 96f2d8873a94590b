"""jobs/synthesize.py: a dataset directory or a raw log from one command."""

import subprocess
import sys
from pathlib import Path

from pyarrow.csv import read_csv

from behavegpt.data.verify import verify_dataset

JOB = Path(__file__).parents[2] / "jobs/synthesize.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(JOB), *arguments], capture_output=True, text=True, check=False)


def test_synthesize_writes_a_dataset_prints_its_card_and_keeps_what_exists(tmp_path: Path) -> None:
    out = tmp_path / "log"
    small = ["--out", str(out), "--num-train-events", "9000", "--num-users", "50", "--world-seed", "3", "--seed", "4"]
    done = run(*small)
    assert done.returncode == 0, done.stderr
    manifest = verify_dataset(out)
    assert manifest.floor is not None
    config = manifest.source["config"]
    assert [config[k] for k in ("num_train_events", "num_users", "world_seed", "seed")] == [9000, 50, 3, 4]
    for words in (manifest.fingerprint[:16], f"{manifest.floor.entropy_nats:.4f} nats", "54,000 val targets"):
        assert words in done.stdout
    again = run(*small)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert "Traceback" not in again.stderr


def test_synthesize_writes_other_domains_with_the_floors_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "visits"
    sizes = ["--num-train-events", "9000", "--num-users", "50", "--num-val-windows", "20", "--num-test-windows", "10"]
    done = run("--out", str(out), "--domain", "mobility", *sizes, "--floors", "test", "train", "--num-workers", "2")
    assert done.returncode == 0, done.stderr
    manifest = verify_dataset(out)
    assert manifest.source["config"]["num_places"] == 24_435
    assert {split: floor["num_targets"] for split, floor in manifest.source["floors"].items()} == {
        "train": 9000,
        "val": 1800,
        "test": 900,
    }
    for split, floor in manifest.source["floors"].items():
        assert f"{split}: floor {floor['entropy_nats']:.4f} nats" in done.stdout


def test_synthesize_writes_a_raw_log_and_says_how_to_ingest_it(tmp_path: Path) -> None:
    path = tmp_path / "events.csv.gz"
    sizes = ["--num-train-events", "900", "--num-users", "10", "--num-val-windows", "10", "--num-test-windows", "1"]
    done = run("--raw", str(path), *sizes, "--raw-time", "epoch")
    assert done.returncode == 0, done.stderr
    table = read_csv(path)
    assert table.num_rows == 90 * (10 + 10 + 1) + 10 + 10 + 1
    assert "1,911 events of 10 users" in done.stdout
    assert f"jobs/ingest.py --input {path} --user user --timestamp timestamp" in done.stdout


def test_synthesize_refuses_wrong_numbers_all_at_once_and_writes_nothing(tmp_path: Path) -> None:
    wrong = run("--out", str(tmp_path / "log"), "--num-train-events", "0", "--num-users", "-2")
    assert wrong.returncode == 2
    assert "num_train_events is 0; allowed: 1 or more" in wrong.stderr
    assert "num_users is -2; allowed: 1 or more" in wrong.stderr
    for both in ([], ["--out", str(tmp_path / "log"), "--raw", str(tmp_path / "log.csv")]):
        wrong = run(*both)
        assert wrong.returncode == 2
        assert "give one of --out (a dataset directory) and --raw (a raw log)" in wrong.stderr
    assert list(tmp_path.iterdir()) == []
