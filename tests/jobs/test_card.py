"""jobs/card.py: makes the card of a dataset again, and says in one line why it cannot."""

import subprocess
import sys
from pathlib import Path

JOB = Path(__file__).parents[2] / "jobs" / "card.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, JOB, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_no_dataset_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = run("--dataset", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{tmp_path}: not a dataset" in done.stderr
    assert list(tmp_path.iterdir()) == []
