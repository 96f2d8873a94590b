"""jobs/synthesize.py: a dataset directory from one command."""

import subprocess
import sys
from pathlib import Path

from behavegpt.data.shards import verify_dataset

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


def test_synthesize_refuses_wrong_numbers_all_at_once_and_writes_nothing(tmp_path: Path) -> None:
    wrong = run("--out", str(tmp_path / "log"), "--num-train-events", "0", "--num-users", "-2")
    assert wrong.returncode == 2
    assert "num_train_events is 0; allowed: 1 or more" in wrong.stderr
    assert "num_users is -2; allowed: 1 or more" in wrong.stderr
    assert list(tmp_path.iterdir()) == []
